"""What a query job is asked to do, read from its configuration and made ready for the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from eventmill.base.errors import QueryError, UsageError
from eventmill.schema.table import TableId
from eventmill.server.bigquery.calls import table_of
from eventmill.server.bigquery.documents import check_keys, number_of
from eventmill.server.bigquery.errors import ApiError, invalid, unsupported
from eventmill.server.bigquery.sql import ReadyQuery, ViewLookup, positional_name, ready_query
from eventmill.store.googlesql import translate
from eventmill.wire.parameters import parameter_from_json

_TAKEN = (
    "query",
    "destinationTable",
    "createDisposition",
    "writeDisposition",
    "schemaUpdateOptions",
    "defaultDataset",
    "useLegacySql",
    "maximumBytesBilled",
    "parameterMode",
    "queryParameters",
    "timePartitioning",
    "clustering",
)
# What changes nothing of the answer here.
_IGNORED = (
    "priority",
    "useQueryCache",
    "allowLargeResults",
    "flattenResults",
    "preserveNulls",
    "userDefinedFunctionResources",
    "maximumBillingTier",
)


@dataclass(frozen=True, slots=True)
class QuerySettings:
    """One query, ready to be run."""

    ready: ReadyQuery
    params: Mapping[str, Any]
    tables: Sequence[TableId]
    """What it reads."""
    bytes_billed_max: int | None
    """More bytes than this must not be read; None: no limit."""
    configuration: Mapping[str, Any]
    """The ``query`` part of the job's configuration."""


def check_query_keys(configuration: Mapping[str, Any]) -> None:
    """Refuse by name what a query job says that would not be kept to."""
    check_keys(configuration, _TAKEN, _IGNORED, "query job")
    if configuration.get("useLegacySql"):
        raise unsupported("legacy SQL", "send GoogleSQL, with useLegacySql false")


def query_settings(
    project: str, configuration: Mapping[str, Any], views: ViewLookup
) -> QuerySettings:
    """Return the query of a job.

    Args:
        project: of the job.
        configuration: the ``query`` part of its configuration.
        views: knows the views.

    Raises:
        ApiError: the configuration makes no sense.
        QueryError: the SQL cannot be answered; its places are those of the text as it was sent.
    """
    sql = configuration.get("query")
    if not isinstance(sql, str):
        raise invalid("Required parameter is missing: query", "query")
    default = configuration.get("defaultDataset")
    dataset = None
    if isinstance(default, Mapping) and default.get("datasetId"):
        dataset = (str(default.get("projectId") or project), str(default["datasetId"]))
        table_of(*dataset, "t")
    ready = ready_query(sql, project, dataset, views)
    params = _used(parameters_of(configuration), ready)
    try:
        tables = translate(ready.sql, params).tables
    except QueryError as error:
        raise type(error)(ready.told(str(error))) from error
    return QuerySettings(
        ready, params, tables, number_of(configuration, "maximumBytesBilled"), configuration
    )


def _used(params: Mapping[str, Any], ready: ReadyQuery) -> dict[str, Any]:
    """Return the parameters that the query names; BigQuery takes no offence at others."""
    named = {str(node.name).lower() for node in ready.tree.find_all(exp.Parameter)}
    return {
        name: value
        for name, value in params.items()
        if name.lower() in named or any(edit.text == f"@{name}" for edit in ready.edits)
    }


def parameters_of(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of each query parameter by its name."""
    given = configuration.get("queryParameters") or []
    if not isinstance(given, list):
        raise invalid("queryParameters must be a list", "queryParameters")
    positional = str(configuration.get("parameterMode") or "").upper() == "POSITIONAL"
    params: dict[str, Any] = {}
    for index, parameter in enumerate(given):
        if not isinstance(parameter, Mapping):
            raise invalid("a query parameter must be an object", "queryParameters")
        name = parameter.get("name") or ""
        if positional or not name:
            name = positional_name(index)
        try:
            params[str(name)] = _value(parameter)
        except UsageError as error:
            raise ApiError(
                400, "invalidQuery", f"query parameter {name}: {error}", "queryParameters"
            ) from None
    return params


def _value(parameter: Mapping[str, Any]) -> Any:  # noqa: ANN401 - one of many types
    kind = parameter.get("parameterType")
    value = parameter.get("parameterValue")
    value = value if isinstance(value, Mapping) else {}
    type_name = _type_name(kind)
    if type_name.startswith("ARRAY<"):
        elements = value.get("arrayValues")
        if elements is None:
            return None
        return parameter_from_json(
            {"type": type_name, "value": [element.get("value") for element in elements]}
        )
    return parameter_from_json({"type": type_name, "value": value.get("value")})


def _type_name(kind: object) -> str:
    if not isinstance(kind, Mapping) or not isinstance(kind.get("type"), str):
        raise UsageError("it has no parameterType.type")
    word = str(kind["type"]).upper()
    if word == "ARRAY":
        inner = _type_name(kind.get("arrayType"))
        if inner.startswith("ARRAY"):
            raise UsageError("an array in an array cannot be a parameter")
        return f"ARRAY<{inner}>"
    if word in ("STRUCT", "RANGE"):
        raise UsageError(f"a parameter of type {word} is not supported by this server")
    return word
