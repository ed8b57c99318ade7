"""BigQuery's Storage Write API over a local store: a second listener, for gRPC."""
