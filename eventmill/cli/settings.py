"""``eventmill settings``: each setting, its value, and where the value came from."""

from __future__ import annotations

import click

from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.cli.output import chosen_format, format_options, write_rows

_SECRET = "client.key"  # noqa: S105 - the name of a setting
_COLUMNS = ("setting", "value", "source", "environment")


@click.command()
@store_option
@format_options
@pass_invocation
def settings(invocation: Invocation, form: str | None, output: str | None) -> None:
    """Print each setting, its value and its source.

    A source is a flag, an environment variable, the path of a file, or the default; the first
    of flag, environment, ./eventmill.toml, ~/.config/eventmill/config.toml wins. A credential
    is not printed.
    """
    rows = [
        {
            "setting": item.name,
            "value": "(set)" if item.name == _SECRET and item.value else item.value,
            "source": item.source,
            "environment": item.env,
        }
        for item in invocation.loaded
    ]
    write_rows(_COLUMNS, rows, form=chosen_format(form, output), output=output)
