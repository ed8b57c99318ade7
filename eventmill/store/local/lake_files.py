"""Which Parquet files hold a table's compacted rows, for programs that read them by themselves.

A table's folder also has files that compaction has put together into others, until nobody can be
reading them any more: whoever reads all that lies there may count rows twice.
"""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass, replace

from eventmill.base.errors import TableNotFoundError, UsageError
from eventmill.schema.table import TableId
from eventmill.store.local.catalog import read_tables
from eventmill.store.local.disk import disk_errors
from eventmill.store.local.layout import Layout
from eventmill.store.local.manifest import Manifest


@dataclass(frozen=True, slots=True)
class LakeFile:
    """One Parquet file with rows that no other file has."""

    path: str
    """Absolute. It is there for another ten minutes (``file_grace_seconds``) in any case."""
    name: str
    """Path below the table's lake, such as ``DAY=2026-11-23/0000000041-m0.parquet``."""
    rows: int
    bytes: int


def lake_files(path: str, table: TableId) -> list[LakeFile]:
    """Return the files of ``table`` in the store at ``path``, as they are at this moment.

    Safe beside a writer and a compactor.

    Raises:
        TableNotFoundError: there is no such table.
    """
    layout = Layout.at(path)
    manifest = Manifest(layout.database)
    try:
        with manifest.reading():
            tables = {each.id: uid for uid, each in read_tables(manifest, {}).items()}
            if table not in tables:
                raise TableNotFoundError(f"there is no table {table} in {layout.root}")
            uid = tables[table]
            listed = manifest.files(uid)
    finally:
        manifest.close()
    folder = layout.of(table, uid)
    return [LakeFile(folder.lake_file(f.name), f.name, f.rows, f.bytes) for f in listed]


def link_lake_files(path: str, table: TableId, target: str) -> list[LakeFile]:
    """Give the files of ``table`` a second name each in the folder ``target``, and return them.

    It takes no space while the store has the files as well. What is in ``target`` stays as it is,
    whatever compaction does later; rows that come later are not in it.

    Raises:
        TableNotFoundError: there is no such table.
        UsageError: ``target`` is there already, or on another file system.
        UnavailableError: the disk fails; then there is no ``target``.
    """
    target = os.path.abspath(os.path.expanduser(target))
    if os.path.lexists(target):
        raise UsageError(f"{target} is there already: name a folder that is not")
    unfinished = f"{target}.unfinished"
    with disk_errors(f"making {target}"):
        os.makedirs(unfinished)
        try:
            files = [_link(file, unfinished) for file in lake_files(path, table)]
            os.rename(unfinished, target)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    return [replace(file, path=os.path.join(target, file.name)) for file in files]


def _link(file: LakeFile, folder: str) -> LakeFile:
    path = os.path.join(folder, file.name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        os.link(file.path, path)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EPERM, errno.ENOTSUP):
            raise UsageError(
                f"{folder} cannot have second names of the store's files ({error.strerror}): name"
                " a folder on the same file system"
            ) from error
        raise
    return file
