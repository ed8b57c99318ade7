"""A named aggregation: inputs, output table, body, schedule; and the work of one of its slots."""
