"""What travels: batches, insert IDs, verdicts, the Sink port, event bytes to columns."""
