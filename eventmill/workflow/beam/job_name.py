"""Names of Beam jobs: valid on every runner, one of its own for each attempt at a slot."""

from __future__ import annotations

import hashlib
import re

from eventmill.base.clock import utc_datetime
from eventmill.base.errors import UsageError

JOB_NAME_LENGTH_MAX = 40
_JOB_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])")
_HASH_LENGTH = 10
"""40 bits: a thousand attempts at one slot have a thousand names but once in two million cases."""


def beam_job_name(workflow: str, start_seconds: int, end_seconds: int, generation: int) -> str:
    """Return the name of one attempt at a slot: workflow, slot's start, and a hash.

    The hash is of the whole workflow's name, both ends of the slot and the attempt, so that names
    that are cut, or whose underscores become hyphens, still differ.

    Args:
        workflow: its name.
        start_seconds: of the slot, since 1970.
        end_seconds: of the slot, since 1970.
        generation: tells this attempt from every other one at the slot.
    """
    whole = f"{workflow}/{start_seconds}/{end_seconds}/{generation}"
    digest = hashlib.sha256(whole.encode()).hexdigest()[:_HASH_LENGTH]
    ending = f"-{utc_datetime(start_seconds):%Y%m%dt%H%M}-{digest}"
    words = re.sub(r"[^a-z0-9]+", "-", workflow.lower()).strip("-")
    words = words if words[:1].isalpha() else f"w-{words}"
    beginning = words[: JOB_NAME_LENGTH_MAX - len(ending)].rstrip("-")
    return check_job_name(f"{beginning}{ending}")


def check_job_name(name: str) -> str:
    """Return ``name``; UsageError when it is no name for a job."""
    if not _JOB_NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name of a Beam job: use 2 to {JOB_NAME_LENGTH_MAX} lower-case"
            " letters, digits and hyphens, beginning with a letter and not ending with a hyphen"
        )
    return name
