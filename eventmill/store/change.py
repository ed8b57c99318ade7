"""What every store decides alike about its tables: may this change be made, and what is missing.

Pure: the stores look up and write, the decision is taken here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from eventmill.base.errors import AccessError, SchemaConflictError, TableNotFoundError
from eventmill.schema.diff import plan_change
from eventmill.schema.table import Table, TableId, TableSpec
from eventmill.store.quarantine import OWN_DATASET


def changed_spec(
    live: Table | None, wanted: TableSpec, expected_version: int | None
) -> TableSpec | None:
    """Return the definition that the table gets; None when nothing changes.

    Args:
        live: the table as it is; None when there is none.
        wanted: what is asked for.
        expected_version: the version that the caller planned for; 0: no table; None: any.

    Raises:
        SchemaConflictError: the table has moved on, or does not allow the change.
    """
    version = live.version if live else 0
    if expected_version is not None and expected_version != version:
        raise SchemaConflictError(
            f"{wanted.table} is at version {version}, the change was planned for version"
            f" {expected_version}: plan it again"
        )
    if live is None:
        return wanted
    plan = plan_change(live, wanted)
    if plan.refusals:
        raise SchemaConflictError(plan.to_text())
    return None if plan.is_empty else plan.result


def refuse_own(table: TableId) -> None:
    """Raise AccessError when ``table`` is one that the store keeps about itself."""
    if table.dataset == OWN_DATASET:
        raise AccessError(
            f"{table} is kept by the store itself: use another dataset than {OWN_DATASET}"
        )


def no_such_table(table: TableId, existing: Iterable[TableId]) -> TableNotFoundError:
    """Return the error that says so and names what resembles ``table``."""
    names = [str(name) for name in existing if name.dataset != OWN_DATASET]
    near = difflib.get_close_matches(str(table), names, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return TableNotFoundError(
        f"there is no table {table} in this store{hint}"
        " (`eventmill table list` shows what there is)"
    )
