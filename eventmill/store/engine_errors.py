"""DuckDB's refusals in words of the one who asked: names of tables and columns, GoogleSQL."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from eventmill.base.errors import QueryError, UnsupportedSqlError
from eventmill.schema.table import TableId
from eventmill.wire.rows import column_type

_UNKNOWN_COLUMN = re.compile(
    r'Column "(?P<a>[^"]+)" referenced that exists in the SELECT|'
    r'Referenced column "(?P<b>[^"]+)" not found|'
    r'does not have a column named "(?P<c>[^"]+)"|'
    r'Could not find key "(?P<d>[^"]+)" in struct'
)
_NO_RECORD = re.compile(r"'struct_extract\((?P<type>.+), STRING_LITERAL\)'")
_NO_FIELDS = re.compile(r'Cannot extract field from expression "(?P<path>[^"]+)\.\*"')
_ACCESS = re.compile(
    r"""(?:struct_extract\()+(?P<base>"[^"]+"(?:\."[^"]+")*)(?P<names>(?:,\ '[^']+'\))+)""",
    re.VERBOSE,
)
"""``a.b.c`` as a translation writes it: one call in the other, the column innermost."""

Schemas = Mapping[TableId, pa.Schema]


@contextmanager
def engine_errors(sql: str, schemas: Schemas) -> Iterator[None]:
    """Turn DuckDB's refusals inside the block into ours, cause kept.

    Args:
        sql: the statement, in DuckDB's words.
        schemas: of the tables that it reads.
    """
    try:
        yield
    except duckdb.InterruptException:
        raise
    except duckdb.IOException as error:
        if "No such file" in str(error) or "No files found" in str(error):
            raise FileNotFoundError(str(error)) from error
        raise QueryError(f"the query failed: {error}") from error
    except duckdb.Error as error:
        raise _readable(str(error), sql, schemas) from error
    except pa.ArrowException as error:
        raise QueryError(f"the answer cannot be shown: {error}") from error


def _readable(message: str, sql: str, schemas: Schemas) -> QueryError:
    """Return the error of DuckDB's message, less advice that only its own users can follow."""
    unknown = _UNKNOWN_COLUMN.search(message)
    if unknown:
        return QueryError(_no_such_column(next(filter(None, unknown.groups())), schemas))
    no_record = _NO_RECORD.search(message)
    if no_record:
        return _field_of_no_record(no_record["type"], sql, schemas)
    no_fields = _NO_FIELDS.search(message)
    if no_fields:
        return QueryError(f"{no_fields['path']} is no STRUCT: only one has fields for .* to show")
    first, _, rest = message.partition("\n")
    kept = [line for line in rest.splitlines() if line.strip() and "^" not in line]
    kept = [line for line in kept if not line.startswith(("LINE ", "Use TRY", "Candidate", "\t"))]
    text = " ".join([first, *kept]).strip()
    return QueryError(text.split(" Use TRY(")[0].split(", or SET ")[0])


def _no_such_column(name: str, schemas: Schemas) -> str:
    known = sorted({path for schema in schemas.values() for path in _paths(schema)})
    near = difflib.get_close_matches(name, known, n=3)
    near += [path for path in known if path.endswith(f".{name}")]
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    tables = ", ".join(str(table) for table in schemas)
    return f"there is no column {name} in {tables or 'this query'}{hint}"


def _field_of_no_record(engine_type: str, sql: str, schemas: Schemas) -> QueryError:
    """Return the error of a statement that asks a value of ``engine_type`` for a field.

    DuckDB does not say which value: it is the first column known to be of such a type.
    """
    is_text, is_array = engine_type == "VARCHAR", engine_type.endswith("]")
    for names, fields in _accesses(sql):
        kind = _type_of(names, schemas)
        if kind is None or pa.types.is_struct(kind):
            continue
        if (pa.types.is_string(kind), pa.types.is_list(kind)) != (is_text, is_array):
            continue
        path, field = ".".join(names), ".".join(fields)
        if is_text:
            return _no_field_of_text(path, field)
        if is_array and pa.types.is_struct(kind.value_type):
            return QueryError(
                f"{path} is an array, and its elements have fields, not the array itself:"
                f" write UNNEST({path}) AS element in FROM, and element.{field}"
            )
        return QueryError(f"{path} is {column_type(kind)}, which has no field {field}")
    if is_text:
        return _no_field_of_text("", "")
    return QueryError(f"a value of type {engine_type} has no fields, and one is asked for here")


def _no_field_of_text(path: str, field: str) -> QueryError:
    what = f"field {field} of {path}, which is text," if path else "a field of text"
    text, place = path or "text", field or "field"
    return UnsupportedSqlError(
        f"{what} is not supported by the embedded store: of JSON text read a value by"
        f" JSON_VALUE({text}, '$.{place}'), and an object or array by JSON_QUERY"
    )


def _accesses(sql: str) -> Iterator[tuple[list[str], list[str]]]:
    """Yield (path of what is asked for a field, the fields from there on) in order."""
    for found in _ACCESS.finditer(sql):
        base = re.findall(r'"([^"]+)"', found["base"])
        if len(base) > 1 and base[0] == base[1]:
            del base[0]  # an element of an array has its name twice
        names = re.findall(r"'([^']+)'", found["names"])
        for place in range(len(names)):
            yield [*base, *names[:place]], names[place:]


def _type_of(names: Sequence[str], schemas: Schemas) -> pa.DataType | None:
    """Return the type of the column at a path; None: it is not known.

    A path may begin with another name for its table, or for the element of an array.
    """
    for start in (0, 1):
        path = ".".join(names[start:]).lower()
        for schema in schemas.values():
            for known, kind in _kinds(schema):
                if path and (known == path or (start and known.endswith(f".{path}"))):
                    return kind
    return None


def _kinds(fields: Iterable[pa.Field], prefix: str = "") -> Iterator[tuple[str, pa.DataType]]:
    """Yield the path, in lower case, and the type of every column, those in arrays too."""
    for field in fields:
        path = f"{prefix}{field.name.lower()}"
        yield path, field.type
        kind = field.type.value_type if pa.types.is_list(field.type) else field.type
        if pa.types.is_struct(kind):
            yield from _kinds(kind, f"{path}.")


def _paths(fields: Iterable[pa.Field], prefix: str = "") -> Iterator[str]:
    for field in fields:
        yield prefix + field.name
        if pa.types.is_struct(field.type):
            yield from _paths(field.type, f"{prefix}{field.name}.")
