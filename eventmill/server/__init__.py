"""The HTTP server in front of a store: ingest, query, tables, metrics."""
