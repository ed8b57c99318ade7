"""The document that a launcher gives to the process that runs a pipeline, and the one it gets.

Both are JSON: the two processes may have different versions of protobuf, never of this file.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

RESULT_FILE = "result.json"
"""In the job's folder, once the job has ended and its output lies there too."""
ROWS_PREFIX = "rows-"
DEAD_PREFIX = "dead-"


@dataclass(frozen=True, slots=True)
class JobInput:
    """One table that a pipeline reads."""

    table: str
    condition: str
    """GoogleSQL that holds for the rows of the slot, with ``@slot_start`` and ``@slot_end``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamJob:
    """One attempt at one slot of a workflow, for the process that has Beam."""

    version: str
    """Of Eventmill; both sides have the same."""
    workflow: str
    job_name: str
    pipeline_path: str
    start_seconds: int
    end_seconds: int
    inputs: tuple[JobInput, ...]
    output: str
    output_schema: str
    """The output's Arrow schema, serialized, in base64."""
    folder: str
    """Where output and result are put, on this machine."""
    staging: str | None = None
    """Where the runner writes the output; None: into ``folder``."""
    store: str | None = None
    """Address of the store to read; None: ``files`` has every input."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Path of an Arrow file with the rows of each input, by table."""
    pipeline_options: tuple[str, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """The output's columns."""
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(self.output_schema)))

    def to_json(self) -> str:
        """Return the document as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> BeamJob:
        """Read what ``to_json`` wrote."""
        document: dict[str, Any] = json.loads(text)
        document["inputs"] = tuple(JobInput(**entry) for entry in document["inputs"])
        document["pipeline_options"] = tuple(document["pipeline_options"])
        return cls(**document)


def schema_text(schema: pa.Schema) -> str:
    """Return an Arrow schema as ``BeamJob.output_schema`` has it."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What the process that ran a pipeline tells at its end."""

    state: str
    """The job's final state in Beam's words; DONE is the only good one."""
    error: str | None = None
    """The innermost cause and where it is; None in the state DONE."""
    counters: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the document."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> JobResult:
        """Read what ``to_json`` wrote."""
        return cls(**json.loads(text))
