"""Literal STRUCTs and arrays, with and without types of their own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from sqlglot import exp

from eventmill.store.googlesql import casts
from eventmill.store.googlesql.grammar import check_parts
from eventmill.store.googlesql.quoting import quote_name
from eventmill.store.googlesql.refusals import wrong


class Structs:
    """Writes STRUCT(...), [...] and their typed forms."""

    @abstractmethod
    def write(self, node: exp.Expr) -> str:
        """Return any expression written."""

    def write_array(self, node: exp.Expr) -> str:
        """Return ``[a, b]`` written; STRUCTs after the first take its field names."""
        elements = list(node.expressions)
        names = struct_fields(elements[0]) if elements else None
        if not names:
            return f"[{', '.join(self.write(element) for element in elements)}]"
        return "[" + ", ".join(self._struct(element, names) for element in elements) + "]"

    def write_struct(self, node: exp.Expr) -> str:
        """Return ``STRUCT(a, b AS c)`` written."""
        return self._struct(node, ())

    def write_typed(self, node: exp.Expr, type_: exp.Expr) -> str:
        """Return ``ARRAY<T>[...]`` or ``STRUCT<a T>(...)`` written."""
        if isinstance(node, exp.Array):
            inside = type_.expressions[0]
            elements = (self._typed_element(e, inside) for e in node.expressions)
            value = f"[{', '.join(elements)}]"
        else:
            value = self._typed_element(node, type_)
        return f"CAST({value} AS {casts.duckdb_type(type_)})"

    def _typed_element(self, node: exp.Expr, type_: exp.Expr) -> str:
        if casts.type_name(type_) != "STRUCT" or isinstance(node, exp.Null):
            return self.write(node)
        fields = type_.expressions
        names = [casts.field_name(field, place) for place, field in enumerate(fields, 1)]
        return self._struct(node, names)

    def _struct(self, node: exp.Expr, names: Sequence[str]) -> str:
        """Return a STRUCT written; ``names`` are for fields that bring no name of their own."""
        if isinstance(node, exp.Null):
            return "NULL"
        if isinstance(node, exp.Paren):
            values = [node.this]
        elif isinstance(node, exp.Tuple | exp.Struct) or is_struct_call(node):
            values = list(node.expressions)
        else:
            return self.write(node)
        if names and len(values) != len(names):
            raise wrong(f"a STRUCT has {len(values)} fields where {len(names)} are wanted", node)
        own = struct_names(values)
        fields = names or own
        if len({name.lower() for name in fields}) != len(fields):
            raise wrong("a STRUCT has two fields of the same name", node)
        written = []
        for name, value in zip(fields, values, strict=True):
            inner = value.this if isinstance(value, exp.Alias) else value
            written.append(f"{quote_name(name)} := {self.write(inner)}")
        if not written:
            raise wrong("a STRUCT needs at least one field", node)
        check_parts(node, "this", "expressions")
        return f"struct_pack({', '.join(written)})"


def is_struct_call(node: exp.Expr) -> bool:
    """Return whether ``node`` is STRUCT(...)."""
    return isinstance(node, exp.Anonymous) and str(node.this).upper() == "STRUCT"


def struct_fields(node: exp.Expr) -> tuple[str, ...]:
    """Return the field names of a literal STRUCT; empty when it is none."""
    if is_struct_call(node):
        return tuple(struct_names(node.expressions))
    if isinstance(node, exp.Cast) and isinstance(node.this, exp.Struct):
        fields = node.args["to"].expressions
        return tuple(casts.field_name(field, place) for place, field in enumerate(fields, 1))
    return ()


def struct_names(values: Sequence[exp.Expr]) -> list[str]:
    """Return the field names of the arguments of STRUCT; fields without one are numbered."""
    names = []
    for place, value in enumerate(values, 1):
        named = isinstance(value, exp.Alias | exp.Column | exp.Dot)
        name = str(value.alias_or_name) if named else ""
        if isinstance(value, exp.Dot):
            name = str(value.expression.name)
        names.append(name or f"_field_{place}")
    return names


def element_fields(node: exp.Expr) -> tuple[str, ...] | None:
    """Return the field names of an array's elements; empty: no STRUCTs; None: not known."""
    if isinstance(node, exp.Paren):
        return element_fields(node.this)
    if isinstance(node, exp.Array) and node.expressions:
        return struct_fields(node.expressions[0])
    if isinstance(node, exp.Cast) and casts.type_name(node.args["to"]) == "ARRAY":
        inside = node.args["to"].expressions[0]
        if casts.type_name(inside) != "STRUCT":
            return ()
        fields = enumerate(inside.expressions, 1)
        return tuple(casts.field_name(field, place) for place, field in fields)
    if isinstance(node, exp.Parameter):
        return ()
    flat = ("GENERATE_ARRAY", "GENERATE_DATE_ARRAY", "GENERATE_TIMESTAMP_ARRAY", "SPLIT")
    if isinstance(node, exp.Anonymous) and str(node.this).upper() in flat:
        return ()
    return None
