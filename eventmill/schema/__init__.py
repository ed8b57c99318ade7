"""What an event means: table names, columns, .proto files to schemas, and the judgement on one event."""
