"""The HTTP server in front of a store: ingest, query, tables, metrics.

Imports ``store`` and what is below it, by the port: which store it is, ``cli`` decides.
"""
