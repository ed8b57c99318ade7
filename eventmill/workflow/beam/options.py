"""How Beam bodies are run, and the search for a Python that has Beam."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from eventmill.base.errors import UsageError
from eventmill.base.settings import WorkflowSettings

OWN_ENVIRONMENT = Path(".venv-beam", "bin", "python")
"""Where a project keeps the Python with Beam when the one it works with has none."""
_MAKE_IT = (
    "`python3 -m venv .venv-beam && .venv-beam/bin/pip install 'eventmill[server,beam]'` makes"
    " one where it is looked for"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamOptions:
    """What a Beam body needs to know beyond its workflow."""

    python: str | None = None
    """Path of a Python with ``eventmill[server,beam]``; None: it is searched for."""
    pipeline_options: tuple[str, ...] = ()
    """Options of the pipeline, such as ``--runner=FlinkRunner``; none: this machine."""
    staging: str | None = None
    """Folder for the output until the job has ended, in any file system that Beam knows; None: a
    temporary one of this machine."""
    store: str | None = None
    """Address from which the pipeline reads its inputs; None: that of the store, where it can be
    reached by another process, and otherwise the rows are handed over."""
    key: str | None = None
    """Credential for a server; None: as the pipeline's own environment says."""
    dead_letters: str | None = None
    """Folder for rows that steps could not take, a file a slot; None: they are only counted and
    handed back."""
    folder: str | None = None
    """The project's folder, where ``.venv-beam`` is looked for; None: the working folder."""

    @classmethod
    def from_settings(
        cls, settings: WorkflowSettings, *, store: str | None = None, key: str | None = None
    ) -> BeamOptions:
        """Return the options that the settings say."""
        try:
            given = tuple(shlex.split(settings.beam_options or ""))
        except ValueError as error:
            raise UsageError(
                f"workflow.beam_options = {settings.beam_options!r} cannot be split into"
                f" options: {error}; write them as in a shell"
            ) from error
        return cls(
            python=settings.beam_python,
            pipeline_options=given,
            staging=settings.beam_staging,
            dead_letters=settings.beam_dead_letters,
            store=store,
            key=key,
        )


def find_beam_python(options: BeamOptions) -> str:
    """Return the path of the Python that runs Beam bodies.

    Raises:
        UsageError: there is none; the message says how to make one.
    """
    if options.python is not None:
        if not os.access(options.python, os.X_OK):
            raise UsageError(
                f"workflow.beam_python = {options.python!r} is not a program; {_MAKE_IT}"
            )
        return os.path.abspath(options.python)
    if find_spec("apache_beam") is not None:
        return sys.executable
    # Not resolved: a virtual environment is known by the place of its link.
    found = Path(options.folder or ".").absolute() / OWN_ENVIRONMENT
    if os.access(found, os.X_OK):
        return str(found)
    raise UsageError(
        "a Beam body needs a Python with Apache Beam: this one"
        f" ({sys.executable}) has none, there is none at {found}, and workflow.beam_python"
        f" names none; {_MAKE_IT}"
    )
