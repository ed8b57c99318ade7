"""The command line: the only room that composes the others into a program.

May import every room; no room imports it.
"""
