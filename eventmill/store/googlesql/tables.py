"""Names of tables in a FROM clause."""

from __future__ import annotations

from sqlglot import exp

from eventmill.base.errors import QueryError, UsageError
from eventmill.schema.table import TableId
from eventmill.store.googlesql.refusals import place, unsupported


def view_name(table: TableId) -> str:
    """Return the name, unquoted, under which a translation reads ``table``."""
    return str(table)


def table_id(node: exp.Table, default_project: str) -> TableId:
    """Return the table that a FROM clause names.

    Raises:
        QueryError: it is not a table's name.
        UnsupportedSqlError: a wildcard table, INFORMATION_SCHEMA, a table function.
    """
    if not isinstance(node.this, exp.Identifier):
        name = node.this.sql("bigquery") if isinstance(node.this, exp.Expr) else str(node.this)
        raise unsupported(f"the table function {name}", node)
    parts = [str(part.name) for part in node.parts]
    text = ".".join(parts)
    if "*" in text:
        raise unsupported(f"the wildcard table {text}", node, instead="UNION ALL the tables")
    if "INFORMATION_SCHEMA" in text.upper():
        raise unsupported("INFORMATION_SCHEMA", node, instead="use `eventmill table list`")
    if len(parts) == 1:
        raise QueryError(
            f"{text!r} is neither a table nor a name of WITH{place(node)}: a table is written"
            " dataset.table or project.dataset.table"
        )
    try:
        return TableId.parse(text, default_project)
    except UsageError as error:
        raise QueryError(f"{error}{place(node)}") from None
