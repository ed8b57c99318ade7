"""What an event means: tables, .proto files to columns, and the judgement on one event."""
