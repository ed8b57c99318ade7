"""Expressions: one method for each kind of node that the subset knows; no other kind passes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from sqlglot import exp

from eventmill.schema.table import TableId
from eventmill.store.googlesql import literals
from eventmill.store.googlesql.arrays import contains, element
from eventmill.store.googlesql.casts import cast, duckdb_type, type_name
from eventmill.store.googlesql.dateparts import SPANS, span_of
from eventmill.store.googlesql.functions import FUNCTIONS
from eventmill.store.googlesql.grammar import check_parts
from eventmill.store.googlesql.kinds import Kinds
from eventmill.store.googlesql.numeric import nonzero
from eventmill.store.googlesql.quoting import int64, quote_bytes, quote_name, quote_text
from eventmill.store.googlesql.refusals import NotConstantError, unsupported, wrong
from eventmill.store.googlesql.scope import Scope, Source, SourceKind
from eventmill.store.googlesql.structs import Structs
from eventmill.store.googlesql.times import write_extract
from eventmill.store.googlesql.values import Parameters

INSERT_ID = "_insert_id"
INGESTED_AT = "_ingested_at"
PSEUDO_COLUMNS = (INSERT_ID, INGESTED_AT, "_partitiontime", "_partitiondate")
"""Columns that every table has and ``SELECT *`` does not show, in lower case."""

_WITHOUT_PARENTHESES = ("CURRENT_TIMESTAMP", "CURRENT_DATE", "CURRENT_DATETIME")

_OPERATORS: dict[type[exp.Expr], str] = {
    exp.Mul: "*",
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.BitwiseAnd: "&",
    exp.BitwiseOr: "|",
    exp.NullSafeEQ: "IS NOT DISTINCT FROM",
    exp.NullSafeNEQ: "IS DISTINCT FROM",
}


class Expressions(Structs, Kinds, ABC):
    """Writes expressions; queries within them are left to the class below."""

    def __init__(self, parameters: Parameters, now: str) -> None:
        """Begin a translation.

        Args:
            parameters: values of the query's parameters.
            now: the statement's time as a DuckDB expression.
        """
        self.parameters = parameters
        self.scope: Scope | None = None
        """Names that are in sight; None: none may be, the expression has to be constant."""
        self.pseudo: dict[TableId, None] = {}
        """Tables of which a pseudo column was read."""
        self._now = now

    @abstractmethod
    def write_subquery(self, node: exp.Expr, *, as_struct: bool) -> str:
        """Return a query inside an expression, without parentheses around it."""

    @abstractmethod
    def write_call(self, node: exp.Expr, over: str = "") -> str:
        """Return a call of a function; ``over`` is its written OVER clause."""

    @abstractmethod
    def write_order(self, node: exp.Expr | None) -> str:
        """Return `` ORDER BY ...``; empty for None."""

    @abstractmethod
    def write_window(self, node: exp.Expr) -> str:
        """Return a call with its OVER clause."""

    @abstractmethod
    def write_quantile(self, node: exp.Expr, index: exp.Expr, base: int) -> str | None:
        """Return one element of a call of APPROX_QUANTILES; None where it is not that."""

    def now(self) -> str:
        """Return the statement's time as a DuckDB expression of type TIMESTAMPTZ."""
        return self._now

    def write(self, node: exp.Expr) -> str:
        """Return ``node`` as a DuckDB expression.

        Raises:
            UnsupportedSqlError: it is outside the subset.
            QueryError: GoogleSQL would refuse it.
            NotConstantError: nothing may be in sight, and it reads a column or a query.
        """
        method = self._METHODS.get(type(node))
        if method is None:
            raise unsupported(_construct(node), node)
        check_parts(node, *_PARTS.get(type(node), ("this", "expression")))
        return method(self, node)

    def write_constant(self, node: exp.Expr) -> str:
        """Return ``node`` as a DuckDB expression that reads no column, query or aggregate.

        Raises:
            NotConstantError: it reads one.
        """
        saved, self.scope = self.scope, None
        try:
            return self.write(node)
        finally:
            self.scope = saved

    def constant(self, node: exp.Expr) -> Any:  # noqa: ANN401 - one of many types
        """Return the value of a literal or parameter.

        Raises:
            NotConstantError: it is neither.
        """
        if isinstance(node, exp.Paren):
            return self.constant(node.this)
        if isinstance(node, exp.Parameter):
            return self.parameters.value(literals.parameter_name(node))
        return literals.value(node)

    # Literals and names

    def _literal(self, node: exp.Expr) -> str:
        return literals.write(node)

    def _bytes(self, node: exp.Expr) -> str:
        return quote_bytes(str(node.this).encode("latin-1"))

    def _parameter(self, node: exp.Expr) -> str:
        return self.parameters.write(literals.parameter_name(node))

    def _interval(self, node: exp.Expr) -> str:
        return span_of(node, None, SPANS, self.write).interval

    def _column(self, node: exp.Expr) -> str:
        parts = [str(part.name) for part in node.parts]
        bare = len(parts) == 1 and not node.this.quoted
        if bare and parts[0].upper() in _WITHOUT_PARENTHESES:
            call = exp.Anonymous(this=parts[0].upper(), expressions=[])
            return self.write_call(call)
        if isinstance(node.this, exp.Star):
            raise wrong("a * cannot stand here", node)
        if self.scope is None:
            raise NotConstantError
        pseudo = self._pseudo_column(self.scope, parts, node)
        if pseudo:
            return pseudo
        return self._resolve(self.scope, parts, node)

    def _resolve(self, scope: Scope, parts: Sequence[str], node: exp.Expr) -> str:
        first, rest = parts[0], parts[1:]
        source = scope.source(first)
        if source is not None:
            return self._of_source(source, rest, node)
        holder = scope.element_field(first)
        if holder is None:
            return path(quote_name(first), rest)
        alias = quote_name(holder.alias)
        if holder.offset.lower() == first.lower():
            return path(f"{alias}.{quote_name(first)}", rest)
        return path(f"{alias}.{alias}", parts)

    def _of_source(self, source: Source, rest: Sequence[str], node: exp.Expr) -> str:
        alias = quote_name(source.alias)
        if source.kind is SourceKind.UNNEST:
            if len(rest) == 1 and source.offset and rest[0].lower() == source.offset.lower():
                return f"{alias}.{quote_name(rest[0])}"
            return path(f"{alias}.{alias}", rest)
        if rest:
            return path(f"{alias}.{quote_name(rest[0])}", rest[1:])
        if source.table is not None and source.table in self.hidden:
            raise unsupported(
                f"the whole row {source.alias} beside a pseudo column such as {INSERT_ID}",
                node,
                instead="name the columns you need",
            )
        return alias

    hidden: frozenset[TableId] = frozenset()
    """Tables whose views show the pseudo columns, known from an earlier pass."""

    def _pseudo_column(self, scope: Scope, parts: Sequence[str], node: exp.Expr) -> str:
        """Return a pseudo column of a stored table; empty when the name is none."""
        name = parts[-1].lower()
        if name not in PSEUDO_COLUMNS or len(parts) > 2:
            return ""
        if len(parts) == 2:
            source = scope.source(parts[0])
        else:
            if any(s.kind is SourceKind.QUERY for s in scope.sources.values()):
                return ""  # a subquery may have passed the name on
            tables = scope.tables()
            if len(tables) > 1:
                raise wrong(f"the column {parts[0]} is ambiguous: write table.{parts[0]}", node)
            source = tables[0] if tables else None
        if source is None or source.table is None:
            return ""
        self.pseudo[source.table] = None
        column = f"{quote_name(source.alias)}.{quote_name(pseudo_source(name))}"
        if name == "_partitiontime":
            return f"date_trunc('day', {column})"
        return f"CAST({column} AS DATE)" if name == "_partitiondate" else column

    def _dot(self, node: exp.Expr) -> str:
        if not isinstance(node.expression, exp.Identifier):
            raise unsupported(_construct(node), node)
        parts = dotted_parts(node)
        if parts is not None and self.scope is not None:
            pseudo = self._pseudo_column(self.scope, parts, node)
            return pseudo or self._resolve(self.scope, parts, node)
        return path(self.write(node.this), [str(node.expression.name)])

    # Operators

    def _paren(self, node: exp.Expr) -> str:
        return f"({self.write(node.this)})"

    def _binary(self, node: exp.Expr) -> str:
        return f"({self.write(node.this)} {_OPERATORS[type(node)]} {self.write(node.expression)})"

    def _connector(self, node: exp.Expr) -> str:
        word = " AND " if isinstance(node, exp.And) else " OR "
        return "(" + word.join(self.write(part) for part in node.flatten(unnest=False)) + ")"

    def _sum(self, node: exp.Expr) -> str:
        sign = "+" if isinstance(node, exp.Add) else "-"
        left, right = node.this, node.expression
        if sign == "+" and isinstance(left, exp.Interval):
            left, right = right, left
        kinds = self.kind(left), self.kind(right)
        if isinstance(right, exp.Interval):
            return f"({self.write(left)} {sign} {self._interval(right)})"
        if sign == "+" and kinds == ("INT64", "DATE"):
            left, right, kinds = right, left, ("DATE", "INT64")
        if kinds == ("DATE", "INT64"):
            return f"({self.write(left)} {sign} CAST({self.write(right)} AS INTEGER))"
        if kinds == ("DATE", "DATE"):
            raise unsupported("the difference of two DATEs", node, instead="use DATE_DIFF")
        return f"({self.write(left)} {sign} {self.write(right)})"

    def _divide(self, node: exp.Expr) -> str:
        below = self.write(node.expression)
        value = literals.value_or_none(node.expression)
        if not isinstance(value, int | float) or value == 0:
            below = nonzero(below)
        return f"(CAST({self.write(node.this)} AS DOUBLE) / {below})"

    def _concat(self, node: exp.Expr) -> str:
        return f"({self.write(node.this)} || {self.write(node.expression)})"

    def _xor(self, node: exp.Expr) -> str:
        return f"xor({self.write(node.this)}, {self.write(node.expression)})"

    def _negate(self, node: exp.Expr) -> str:
        number = literals.value_or_none(node.this)
        if isinstance(number, int) and not isinstance(number, bool):
            return int64(-number)
        return f"(-{self.write(node.this)})"

    def _invert(self, node: exp.Expr) -> str:
        return f"(~{self.write(node.this)})"

    def _not(self, node: exp.Expr) -> str:
        return f"(NOT {self.write(node.this)})"

    def _is(self, node: exp.Expr) -> str:
        if not isinstance(node.expression, exp.Null | exp.Boolean):
            raise unsupported(_construct(node), node)
        return f"({self.write(node.this)} IS {literals.write(node.expression)})"

    def _like(self, node: exp.Expr) -> str:
        pattern = literals.value_or_none(node.expression)
        # A backslash escapes in GoogleSQL; DuckDB has no such character unless told.
        plain = isinstance(pattern, str) and "\\" not in pattern
        escape = "" if plain else " ESCAPE '\\'"
        word = "NOT LIKE" if node.args.get("negate") else "LIKE"
        return f"({self.write(node.this)} {word} {self.write(node.expression)}{escape})"

    def _between(self, node: exp.Expr) -> str:
        low, high = self.write(node.args["low"]), self.write(node.args["high"])
        return f"({self.write(node.this)} BETWEEN {low} AND {high})"

    def _in(self, node: exp.Expr) -> str:
        value = self.write(node.this)
        if node.args.get("unnest"):
            return contains(self.write(node.args["unnest"].expressions[0]), value)
        if node.args.get("query"):
            query = node.args["query"]
            inner = query.this if isinstance(query, exp.Subquery) else query
            return f"({value} IN ({self.write_subquery(inner, as_struct=False)}))"
        return f"({value} IN ({', '.join(self.write(e) for e in node.expressions)}))"

    def _case(self, node: exp.Expr) -> str:
        subject = f" {self.write(node.this)}" if node.this else ""
        branches = "".join(
            f" WHEN {self.write(branch.this)} THEN {self.write(branch.args['true'])}"
            for branch in node.args["ifs"]
        )
        default = node.args.get("default")
        otherwise = f" ELSE {self.write(default)}" if default is not None else ""
        return f"CASE{subject}{branches}{otherwise} END"

    def _cast(self, node: exp.Expr) -> str:
        to, safe = type_name(node.args["to"]), isinstance(node, exp.TryCast)
        value = node.this
        if to in ("ARRAY", "STRUCT"):
            if isinstance(value, exp.Array | exp.Struct):
                return self.write_typed(value, node.args["to"])
            if isinstance(value, exp.Null):
                return f"CAST(NULL AS {duckdb_type(node.args['to'])})"
            raise unsupported(f"CAST AS {to}", node)
        return cast(self.write(value), to, self.kind(value), safe=safe)

    def _extract(self, node: exp.Expr) -> str:
        return write_extract(node, self)

    # Structs, arrays, queries

    def _bracket(self, node: exp.Expr) -> str:
        if len(node.expressions) != 1:
            raise unsupported("an array slice", node)
        base, index = int(node.args.get("offset") or 0), node.expressions[0]
        if literals.is_text(index):
            raise unsupported("a subscript that is a string", node, instead="use JSON_VALUE")
        quantile = self.write_quantile(node.this, index, base)
        if quantile is not None:
            return quantile
        safe = bool(node.args.get("safe"))
        return element(self.write(node.this), self.write(index), base=base, safe=safe)

    def _exists(self, node: exp.Expr) -> str:
        return f"EXISTS ({self.write_subquery(node.this, as_struct=False)})"

    def _scalar_query(self, node: exp.Expr) -> str:
        return f"({self.write_subquery(node, as_struct=True)})"

    def _safe(self, node: exp.Expr) -> str:
        call = node.this
        if not isinstance(call, exp.Anonymous):
            raise unsupported("SAFE. before this", node)
        rule = FUNCTIONS.get(str(call.this).upper())
        if rule is not None and (rule.aggregate or rule.window):
            raise unsupported(f"SAFE. before {str(call.this).upper()}", node)
        plain = exp.Column | exp.Literal | exp.RawString | exp.Parameter | exp.Var | exp.Null
        for arg in call.expressions:
            # SAFE. guards the call, not what its arguments do; DuckDB's TRY guards both.
            if not isinstance(arg, plain):
                raise unsupported(
                    "SAFE. before a call whose arguments are not plain columns or literals",
                    node,
                    instead="compute the arguments in a subquery first",
                )
        return f"TRY({self.write_call(call)})"

    def _call(self, node: exp.Expr) -> str:
        return self.write_call(node)

    def _window(self, node: exp.Expr) -> str:
        return self.write_window(node)

    _METHODS: ClassVar[dict[type[exp.Expr], Callable[[Any, Any], str]]] = {
        **dict.fromkeys((exp.Literal, exp.RawString, exp.HexString, exp.Boolean), _literal),
        exp.Null: _literal,
        exp.ByteString: _bytes,
        exp.Parameter: _parameter,
        exp.Interval: _interval,
        exp.Column: _column,
        exp.Dot: _dot,
        exp.Paren: _paren,
        **dict.fromkeys(_OPERATORS, _binary),
        exp.And: _connector,
        exp.Or: _connector,
        exp.Add: _sum,
        exp.Sub: _sum,
        exp.Div: _divide,
        exp.DPipe: _concat,
        exp.BitwiseXor: _xor,
        exp.Neg: _negate,
        exp.BitwiseNot: _invert,
        exp.Not: _not,
        exp.Is: _is,
        exp.Like: _like,
        exp.Between: _between,
        exp.In: _in,
        exp.Case: _case,
        exp.Cast: _cast,
        exp.TryCast: _cast,
        exp.Extract: _extract,
        exp.Array: Structs.write_array,
        exp.Struct: Structs.write_struct,
        exp.Bracket: _bracket,
        exp.Exists: _exists,
        exp.Subquery: _scalar_query,
        exp.SafeFunc: _safe,
        exp.Anonymous: _call,
        exp.Window: _window,
    }


_PARTS: dict[type[exp.Expr], tuple[str, ...]] = {
    exp.Literal: ("this", "is_string"),
    exp.HexString: ("this", "is_integer"),
    exp.ByteString: ("this", "is_bytes"),
    exp.Interval: ("this", "unit"),
    exp.Column: ("this", "table", "db", "catalog"),
    exp.DPipe: ("this", "expression", "safe"),
    exp.Like: ("this", "expression", "negate"),
    exp.Between: ("this", "low", "high"),
    exp.In: ("this", "expressions", "query", "unnest"),
    exp.Case: ("this", "ifs", "default"),
    exp.Cast: ("this", "to"),
    exp.TryCast: ("this", "to", "safe"),
    exp.Array: ("expressions", "value_constructor", "struct_name_inheritance"),
    exp.Struct: ("expressions",),
    exp.Bracket: ("this", "expressions", "offset", "safe"),
    exp.Subquery: ("this", "with_", "order", "limit", "offset"),
    exp.Anonymous: ("this", "expressions"),
    exp.Window: ("this", "partition_by", "order", "spec", "alias", "over"),
}
"""What each node may hold, where that is more than two operands; anything else is refused."""


def path(value: str, names: Sequence[str]) -> str:
    """Return the field that ``names`` lead to inside a written STRUCT."""
    for name in names:
        value = f"struct_extract({value}, {quote_text(name)})"
    return value


def pseudo_source(name: str) -> str:
    """Return the stored column that a pseudo column (in lower case) is made of."""
    return INSERT_ID if name == INSERT_ID else INGESTED_AT


def dotted_parts(node: exp.Expr) -> list[str] | None:
    """Return the names of ``a.b.c.d.e``, which the parser splits in two; None: not only names."""
    names: list[str] = []
    while isinstance(node, exp.Dot) and isinstance(node.expression, exp.Identifier):
        names.insert(0, str(node.expression.name))
        node = node.this
    if isinstance(node, exp.Column) and not isinstance(node.this, exp.Star):
        return [*(str(part.name) for part in node.parts), *names]
    return None


def _construct(node: exp.Expr) -> str:
    """Name a node as the query's writer would."""
    if isinstance(node, exp.Dot):
        return f"the function or path {node.sql('bigquery')}"
    if isinstance(node, exp.NetFunc):
        return f"the function NET.{node.this.name}"
    words = _CONSTRUCTS.get(type(node))
    return words or f"{type(node).__name__} ({node.sql('bigquery')[:80]})"


_CONSTRUCTS: dict[type[exp.Expr], str] = {
    exp.Mod: "the operator % (use MOD(a, b))",
    exp.ILike: "ILIKE (use LOWER(x) LIKE ...)",
    exp.Filter: "FILTER behind an aggregate (use IF inside it)",
    exp.BitwiseLeftShift: "the operator <<",
    exp.BitwiseRightShift: "the operator >>",
    exp.AtTimeZone: "AT TIME ZONE outside of EXTRACT",
    exp.Tuple: "a tuple (use STRUCT(...))",
    exp.Any: "LIKE ANY or = ANY",
    exp.All: "LIKE ALL or = ALL",
    exp.Escape: "LIKE ... ESCAPE (a backslash escapes)",
    exp.Lambda: "a lambda",
    exp.Placeholder: "a positional parameter ? (use @name)",
    exp.SessionParameter: "a system variable @@name",
}
