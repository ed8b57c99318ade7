"""The demo: 336,776 real flights through a real server, and what can be asked of them then."""
