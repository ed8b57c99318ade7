"""The store's own .proto files, compiled beforehand.

Every process that opens a folder for writing needs the definitions of the own tables, and starting
the compiler takes longer than all else that opening does. So each .proto has its descriptor set
beside it, written by ``scripts/write_own_protos.py``; a test holds it to the .proto.
"""

from __future__ import annotations

from importlib import resources

OWN_PROTOS = ("quarantine", "audit")
"""Names of the files, without what comes after the dot."""


def own_descriptor_set(name: str) -> bytes:
    """Return what compiling ``eventmill/NAME.proto`` gave: it and its imports, with comments."""
    folder = resources.files("eventmill.schema") / "protos" / "eventmill"
    return (folder / f"{name}.binpb").read_bytes()
