"""Media types and headers that both sides of the HTTP hop name."""

from __future__ import annotations

BATCH_CONTENT_TYPE = "application/vnd.eventmill.batch"
"""Body of an ingest request: one payload as ``wire.batch`` lays it out."""
SCHEMA_HEADER = "Eventmill-Schema"
"""Header with the fingerprint of the message type that the sender encoded with."""
ARROW_CONTENT_TYPE = "application/vnd.apache.arrow.stream"
"""An answer in Arrow's stream format."""
