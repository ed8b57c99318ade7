"""The sender's end: uploaders and the sink that speaks HTTP."""
