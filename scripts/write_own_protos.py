"""Compiles the .proto files of the store's own tables and writes the results beside them.

Run it after changing one of them: ``eventmill.store.own_protos`` reads what it writes.
"""

from __future__ import annotations

from pathlib import Path

from eventmill.schema.compile import SHIPPED_PROTOS, compile_protos
from eventmill.store.own_protos import OWN_PROTOS


def main() -> None:
    """Write the descriptor sets."""
    for name in OWN_PROTOS:
        compiled = compile_protos([f"eventmill/{name}.proto"])
        Path(SHIPPED_PROTOS, "eventmill", f"{name}.binpb").write_bytes(compiled)


if __name__ == "__main__":
    main()
