"""Contract suites and fakes, shipped so that others can hold their own sinks and stores to them.

May import every room but ``cli``; no room imports it.
"""
