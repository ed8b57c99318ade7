"""The REST surface of BigQuery v2, so that its clients work against this server unchanged."""
