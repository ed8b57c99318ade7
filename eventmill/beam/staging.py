"""Files that a job has written, brought to this machine once it has ended."""

from __future__ import annotations

import os
import shutil

from apache_beam.io.filesystems import FileSystems


def fetch_files(staging: str, folder: str) -> None:
    """Copy all files below ``staging`` into ``folder``, then remove them there.

    Args:
        staging: a folder in any file system that Beam knows, such as ``gs://bucket/path``.
        folder: of this machine.
    """
    (found,) = FileSystems.match([f"{staging}/*"])
    for entry in found.metadata_list:
        target = os.path.join(folder, os.path.basename(entry.path))
        with FileSystems.open(entry.path) as source, open(target, "wb") as copy:
            shutil.copyfileobj(source, copy)
    if found.metadata_list:
        FileSystems.delete([entry.path for entry in found.metadata_list])
