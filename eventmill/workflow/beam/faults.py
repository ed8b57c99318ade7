"""What can become of a Beam body that does not end well."""

from __future__ import annotations

from eventmill.base.errors import PermanentError


class PipelineError(PermanentError):
    """A Beam body failed; the message has the innermost cause, and the place in its code."""


class PipelineTimeoutError(PipelineError):
    """A Beam body ran longer than its workflow allows, and was ended."""


class PipelineCancelledError(PipelineError):
    """A Beam body was ended because its caller asked for it."""
