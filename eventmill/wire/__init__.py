"""What travels: batches, insert IDs, verdicts, the Sink port, and event bytes turned into columns."""
