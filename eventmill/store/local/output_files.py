"""Names of lake files with rows of slots: who wrote them, and when.

``slot-TIME-NUMBER-m0`` was written when a slot was replaced at TIME, ``slots-TIME-NUMBER-mDEPTH``
by the compactor, which put several such files together; TIME and NUMBER are of the newest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

_WRITTEN = "slot-"
_NAME = re.compile(r"slots?-(\d{16}-\d{6})-m(\d+)\.parquet")


def written_name(at_us: int, number: int) -> str:
    """Return the name of file ``number`` that is written for a slot replaced at ``at_us``."""
    return f"{_WRITTEN}{at_us:016d}-{number:06d}-m0.parquet"


def is_written_file(name: str) -> bool:
    """Return whether a file, unfinished or not, is the work of whoever replaces slots."""
    return os.path.basename(name).startswith(_WRITTEN)


def merged_name(names: Iterable[str]) -> str:
    """Return the name of the file that the compactor makes of ``names``.

    It is given once: only one live file has the rows that came with the newest of them, and each
    merge that takes it in goes one deeper.
    """
    found = [_NAME.fullmatch(os.path.basename(name)) for name in names]
    newest = max(match[1] for match in found if match)
    depth = max(int(match[2]) for match in found if match)
    return f"slots-{newest}-m{depth + 1}.parquet"
