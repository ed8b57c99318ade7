"""What travels: batches, insert IDs, verdicts, the Sink port, event bytes to columns.

Imports ``schema`` and ``base``. Decides, and touches neither disk nor network.
"""
