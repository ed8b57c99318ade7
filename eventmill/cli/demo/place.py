"""Where the demo keeps its workflows, so that it runs nobody else's and tells nobody else."""

from __future__ import annotations

import os

from eventmill.base.environment import environment


def workflow_folder(data: str) -> str:
    """Return the folder of the demo's workflows: in its data folder."""
    return os.path.join(data, ".workflows")


def alert_folder(data: str) -> str:
    """Return the folder of the demo's alerts, in its data folder: it is empty, and has to be."""
    return os.path.join(data, ".alerts")


def demo_environment(data: str) -> dict[str, str]:
    """Return the environment of the demo's server and commands.

    Started in a project's folder, they would take its workflows and alert channels otherwise.

    Args:
        data: the demo's data folder.
    """
    return {
        **environment(),
        "EVENTMILL_WORKFLOW_FOLDER": workflow_folder(data),
        "EVENTMILL_ALERT_FOLDER": alert_folder(data),
    }
