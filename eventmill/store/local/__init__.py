"""The embedded store: a synced log, Parquet files, a manifest, and DuckDB to read them."""
