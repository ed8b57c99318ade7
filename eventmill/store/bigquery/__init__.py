"""Google BigQuery as a store: Storage Write API in, GoogleSQL out, the same tables."""
