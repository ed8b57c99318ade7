"""Where events are kept: the Store port and its implementations.

Imports ``wire`` and what is below it; the implementations do not know each other.
"""
