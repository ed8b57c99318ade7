"""A workflow's schedule in the words of another scheduler, which then calls ``workflow run``.

Each text is complete and says what to do with it. Every value that comes from a folder or a flag is
quoted by the rules of the format that it stands in.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from eventmill.base.clock import utc_datetime
from eventmill.base.errors import UsageError
from eventmill.schedule.cron_form import CronForm
from eventmill.workflow.definition import WorkflowDefinition

SLACK_SECONDS = 60
"""What a job is given beyond the workflow's own delay and timeout, to start and to end."""
_NAME_CHARACTERS_MAX = 52
"""Length of a CronJob's name: Kubernetes appends to it for each job."""
_CLAIM = "eventmill-data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """What another scheduler has to know."""

    definition: WorkflowDefinition
    words: Sequence[str]
    """The command line up to and without ``--slot``, such as ``eventmill workflow run NAME``."""
    folder: str
    """Working folder of the command, absolute."""
    data_folder: str | None = None
    """The data folder, where the store is one; it holds the run book too."""
    image: str | None = None
    """Container image, for Kubernetes."""

    @property
    def seconds_max(self) -> int:
        """How long one call may take."""
        definition = self.definition
        return int(definition.delay_seconds + definition.timeout_seconds) + SLACK_SECONDS


def cron_text(handover: Handover) -> str:
    """Return a line for a crontab, with its time zone."""
    form = CronForm.of(handover.definition.timetable)
    # A % ends the command of a crontab's line, and what follows it is the command's input.
    command = shlex.join([*handover.words, "--slot", "last"])
    line = f"cd {shlex.quote(handover.folder)} && {command}".replace("%", "\\%")
    return "\n".join(
        [
            f"# {_plain(handover.definition.name)}: {_plain(handover.definition.timetable.text)}",
            "# For `crontab -e`. CRON_TZ counts for the lines below it; cronie reads it, and other",
            "# crons have no time zone: there the machine's must be the one named here.",
            f"CRON_TZ={form.timezone}",
            f"{form.plain} {_one_line(line)}",
        ]
    )


def systemd_text(handover: Handover) -> str:
    """Return a service and the timer that starts it."""
    definition = handover.definition
    name = f"eventmill-{definition.name}"
    events = CronForm.of(definition.timetable).calendar_events()
    words = " ".join(_systemd_word(word) for word in (*handover.words, "--slot", "last"))
    lines = [
        f"# /etc/systemd/system/{name}.service",
        "[Unit]",
        f"Description=eventmill workflow {_systemd_plain(definition.name)}",
        "",
        "[Service]",
        "Type=oneshot",
        f"WorkingDirectory={_systemd_plain(handover.folder)}",
        f"ExecStart={words}",
        f"TimeoutStartSec={handover.seconds_max}",
        "",
        f"# /etc/systemd/system/{name}.timer",
        "[Unit]",
        (
            f"Description=eventmill workflow {_systemd_plain(definition.name)},"
            f" {_systemd_plain(definition.timetable.text)}"
        ),
        "",
        "[Timer]",
        *(f"OnCalendar={event}" for event in events),
        "Persistent=true",
        "AccuracySec=1s",
        "",
        "[Install]",
        "WantedBy=timers.target",
        "",
        f"# Then: systemctl daemon-reload && systemctl enable --now {name}.timer",
    ]
    return "\n".join(_one_line(line) for line in lines)


def kubernetes_text(handover: Handover) -> str:
    """Return the manifest of a CronJob, as YAML.

    Raises:
        UsageError: there is no image.
    """
    definition = handover.definition
    if not handover.image:
        raise UsageError("kubernetes needs the image of a container with eventmill: give --image")
    form = CronForm.of(definition.timetable)
    slot = definition.timetable.slot_at(0)
    container: dict[str, object] = {
        "name": "run",
        "image": handover.image,
        "workingDir": handover.folder,
        "command": [*handover.words, "--slot", "last"],
    }
    pod: dict[str, object] = {"restartPolicy": "Never", "containers": [container]}
    if handover.data_folder is not None:
        container["volumeMounts"] = [{"name": "data", "mountPath": handover.data_folder}]
        pod["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": _CLAIM}}]
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {
            "name": f"eventmill-{definition.name}".replace("_", "-")[:_NAME_CHARACTERS_MAX],
            "labels": {
                "app.kubernetes.io/name": "eventmill",
                "eventmill/workflow": definition.name,
            },
        },
        "spec": {
            "schedule": form.plain,
            "timeZone": "Etc/UTC" if form.timezone == "UTC" else form.timezone,
            "concurrencyPolicy": "Forbid",
            # Until the next slot ends: later, it is the next one that this job would run.
            "startingDeadlineSeconds": max(SLACK_SECONDS, min(slot[1] - slot[0], 86_400)),
            "jobTemplate": {
                "spec": {
                    "backoffLimit": definition.retries,
                    "activeDeadlineSeconds": handover.seconds_max * (definition.retries + 1),
                    "template": {"spec": pod},
                }
            },
        },
    }
    told = [
        f"# {_plain(definition.name)}: {_plain(definition.timetable.text)}",
        "# The run book must outlast the pods: it lies in the data folder, here of the volume",
        f"# claim {_CLAIM}, or in the folder that EVENTMILL_SCHEDULE_FOLDER names.",
    ]
    return "\n".join([*told, *_yaml(manifest, "")])


def airflow_text(handover: Handover) -> str:
    """Return the file of an Airflow DAG whose data intervals are the workflow's slots."""
    definition = handover.definition
    form = CronForm.of(definition.timetable)
    words = shlex.join(handover.words)
    command = f"cd {shlex.quote(handover.folder)} && {words} --slot"
    start = definition.start_at_seconds
    moment = "datetime(2020, 1, 1, tzinfo=UTC)"
    if start is not None:
        at = utc_datetime(start)
        moment = f"datetime({at.year}, {at.month}, {at.day}, {at.hour}, {at.minute}, tzinfo=UTC)"
    catchup = start is not None and definition.missed == "all"
    return f'''\
"""{_python_text(definition.name)}: {_python_text(definition.timetable.text)}.

For Airflow 3; a data interval of the DAG is a slot of the workflow.
"""

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

# Jinja puts the interval and the attempt in; braces of the command itself are no templates.
COMMAND = {_jinja_raw(command)!r}
SLOT = " '{{{{ data_interval_start.isoformat() }}}}' --attempt '{{{{ ti.try_number }}}}'"

with DAG(
    dag_id={f"eventmill_{definition.name}"!r},
    description={definition.description!r},
    schedule=CronDataIntervalTimetable({form.expression!r}, timezone={form.timezone!r}),
    start_date={moment},
    catchup={catchup!r},
    max_active_runs={definition.parallel_slots!r},
    tags=["eventmill"],
):
    BashOperator(
        task_id="run",
        bash_command=COMMAND + SLOT,
        owner={definition.owner or "eventmill"!r},
        retries={definition.retries!r},
        retry_delay=timedelta(seconds={definition.retry_base_seconds!r}),
        retry_exponential_backoff=True,
        max_retry_delay=timedelta(minutes=10),
        execution_timeout=timedelta(seconds={handover.seconds_max!r}),
    )'''


FORMATS: Mapping[str, Callable[[Handover], str]] = {
    "cron": cron_text,
    "systemd": systemd_text,
    "kubernetes": kubernetes_text,
    "airflow": airflow_text,
}
"""Each scheduler that a workflow can be handed over to."""


def _plain(text: str) -> str:
    """Return text for a comment: on one line."""
    return " ".join(text.split())


def _one_line(text: str) -> str:
    """Return a line as it is; UsageError when it would become two."""
    if "\n" in text or "\r" in text:
        raise UsageError(f"{text!r} has a line break, which this format has no way to write")
    return text


def _systemd_plain(text: str) -> str:
    return text.replace("%", "%%")


def _systemd_word(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _python_text(text: str) -> str:
    """Return text for a docstring: on one line, and unable to end it."""
    return _plain(text).replace("\\", "\\\\").replace('"', "'")


def _jinja_raw(text: str) -> str:
    """Return text that Jinja leaves as it is."""
    if "{" not in text:
        return text
    return text.replace("{", "{{ '{' }}")


def _yaml(value: object, indent: str) -> list[str]:
    """Return a document as lines of YAML; a scalar is JSON, which YAML reads as it is."""
    lines: list[str] = []
    if isinstance(value, Mapping):
        for key, below in value.items():
            if isinstance(below, (Mapping, list)):
                lines += [f"{indent}{key}:", *_yaml(below, f"{indent}  ")]
            else:
                lines.append(f"{indent}{key}: {json.dumps(below)}")
    elif isinstance(value, list):
        for below in value:
            if isinstance(below, Mapping):
                first, *rest = _yaml(below, f"{indent}  ")
                lines += [f"{indent}- {first.strip()}", *rest]
            else:
                lines.append(f"{indent}- {json.dumps(below)}")
    return lines
