"""Where events are kept: the Store port and its implementations."""
