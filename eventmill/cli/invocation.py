"""One run of the program: the flags that stand for settings, and the store that they name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import click

from eventmill.base.settings import LoadedSettings, Settings, load_settings

if TYPE_CHECKING:
    from eventmill.store.port import Store

_F = TypeVar("_F", bound=Callable[..., Any])


class Invocation:
    """What the parts of one command line share; made by the root command, used by one thread."""

    def __init__(self) -> None:
        self.flags: dict[str, object] = {}
        """Values given as flags, by ``section.field``."""

    @cached_property
    def loaded(self) -> LoadedSettings:
        """All settings with their sources, read at first use."""
        return load_settings(self.flags)

    @property
    def settings(self) -> Settings:
        """All settings, read at first use."""
        return self.loaded.settings

    @contextmanager
    def store(self, *, writer: bool, create: bool = False) -> Iterator[Store]:
        """Open the store that the settings name, and close it at the end.

        Args:
            writer: whether the command changes anything; a folder is then taken for writing,
                or reached through the server that runs on it.
            create: make a store in a folder that has none, instead of raising.
        """
        from eventmill.address import open_store  # brings the engines; --help does without

        settings = self.settings
        store = open_store(settings.client.store, writer=writer, create=create, settings=settings)
        try:
            yield store
        finally:
            store.close()


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)
"""Give the command its ``Invocation`` as first argument."""


def setting_option(name: str, flag: str, *, metavar: str, description: str) -> Callable[[_F], _F]:
    """Make a command-line option that stands for the setting ``name`` (``section.field``)."""

    def remember(ctx: click.Context, param: click.Parameter, value: object) -> None:
        if value is not None:
            ctx.ensure_object(Invocation).flags[name] = value

    return click.option(
        flag, metavar=metavar, help=description, expose_value=False, callback=remember
    )


store_option = setting_option(
    "client.store",
    "--store",
    metavar="ADDRESS",
    description=(
        "A data folder, http://HOST:PORT or bigquery://PROJECT [default: ./eventmill-data]."
    ),
)
