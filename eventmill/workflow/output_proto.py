"""The .proto files of a workflow's folder, as definitions of tables."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator

from eventmill.base.errors import UsageError
from eventmill.schema.compile import compile_protos
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.options import table_options
from eventmill.schema.table import TableId, TableSpec
from eventmill.schema.tables_in import messages_in, only_for

_KNOWN_MAX = 256
"""Compiled sets that are kept, as each run of the compiler takes a tenth of a second: a thousand
workflows that were copied from one share one."""
_known: dict[bytes, bytes] = {}
_lock = threading.Lock()


def proto_spec(folder: str, proto: str, message: str, table: TableId | None) -> TableSpec:
    """Return what a table of a message in ``folder`` should be, the options in the file honoured.

    Args:
        folder: the workflow's; imports are looked for in it, and among the protos that ship.
        proto: path of the .proto file, from the folder, or the name of one that ships.
        message: full name of the message; empty: the only one in the file, or the only one
            whose options name a table.
        table: the table's name; None: as the options say.

    Raises:
        SchemaError: the file does not compile, or the message fits no table.
        UsageError: it is not clear which message or which table is meant.
    """
    beside = os.path.join(folder, proto)
    path = beside if os.path.isfile(beside) else proto
    descriptor_set = _compiled(folder, path)
    name = message or _only_message(descriptor_set, path)
    whole = only_for(descriptor_set, name)
    if table is None and table_options(MessageType.load(whole, name).descriptor).id is None:
        raise UsageError(
            f"no table is named: give the key table, or an id in the options of {name}"
        )
    return spec_from_proto(table, whole, name)


def _compiled(folder: str, path: str) -> bytes:
    """Compile a file of ``folder``; the same files are compiled once, wherever they lie."""
    digest = hashlib.sha256(os.path.relpath(path, folder).encode())
    for name, text in _texts(folder):
        digest.update(f"\0{name}\0{len(text)}\0{text}".encode())
    key = digest.digest()
    with _lock:
        found = _known.get(key)
    if found is None:
        found = compile_protos([path], [folder])
        with _lock:
            while len(_known) >= _KNOWN_MAX:
                _known.pop(next(iter(_known)))
            _known[key] = found
    return found


def _only_message(descriptor_set: bytes, path: str) -> str:
    names = messages_in(descriptor_set, [path])
    if len(names) > 1:
        named = [
            name
            for name in names
            if table_options(MessageType.load(descriptor_set, name).descriptor).id is not None
        ]
        names = named or names
    if len(names) != 1:
        told = ", ".join(names) or "no message"
        raise UsageError(f"{os.path.basename(path)} has {told}: say which by the key message")
    return names[0]


def _texts(folder: str) -> Iterator[tuple[str, str]]:
    """Yield path and text of each .proto below ``folder``: a change of one is a change of all."""
    for place, folders, names in sorted(os.walk(folder)):
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        for name in sorted(names):
            if name.endswith(".proto"):
                path = os.path.join(place, name)
                with open(path, encoding="utf-8", errors="replace") as file:
                    yield os.path.relpath(path, folder), file.read()
