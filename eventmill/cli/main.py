"""The program ``eventmill``: finds the command, runs it, and turns its end into an exit code.

Commands are imported when they are called, so that ``eventmill --help`` and shell completion
answer at once; hence the first lines of their help stand here, and a test keeps them equal.

Exit codes: 0 done, 1 error, 2 usage, 3 some events were rejected, 4 a checked condition does not
hold, 130 stopped by Ctrl-C, 141 the reader of our output went away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from eventmill import __version__
from eventmill.base.environment import environment
from eventmill.base.errors import EventmillError, UsageError
from eventmill.cli.invocation import Invocation, store_option

EXIT_DONE = 0
EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("eventmill.cli.demo.command", "Run the main job on real data: 336,776 flights."),
    "serve": ("eventmill.cli.serve", "Run the server on a data folder."),
    "table": ("eventmill.cli.table", "Plan, apply, show, list, copy, export and remove tables."),
    "send": ("eventmill.cli.send", "Send NDJSON events into a table."),
    "spool": ("eventmill.cli.spool", "Show and send events that wait on this machine."),
    "query": ("eventmill.cli.query", "Answer one GoogleSQL statement."),
    "tail": ("eventmill.cli.tail", "Show the newest events of a table, then live ones."),
    "quarantine": ("eventmill.cli.quarantine", "Look at rejected events."),
    "workflow": ("eventmill.cli.workflow", "Make, test, run and schedule workflows."),
    "alert": ("eventmill.cli.alert", "Show what is wrong now, and test who is told."),
    "scheduler": ("eventmill.cli.scheduler", "Run workflows on their schedule without a server."),
    "compact": ("eventmill.cli.compact", "Turn sealed log segments into Parquet files now."),
    "doctor": ("eventmill.cli.doctor", "Send one event down the whole way; say where it stopped."),
    "key": ("eventmill.cli.key", "Make, list and revoke keys."),
    "settings": ("eventmill.cli.settings", "Print each setting, its value and its source."),
}
"""Module and first line of help of each command, in the order of the work."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command ``cmd_name`` and return it; None when there is none."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(COMMANDS[cmd_name][0]), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{cmd_name} is not a command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first word names; for a mistyped one, say which it may be."""
        word = args[0]
        if word in COMMANDS or word.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        import difflib  # only when a name is wrong: it costs every start 5 ms

        near = difflib.get_close_matches(word, COMMANDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise click.UsageError(f"No such command {word!r}.{hint}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", message="eventmill %(version)s")
@store_option
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Collect, store and query structured events.

    Begin with `eventmill demo`. Every command has its own --help; settings come from flags, then
    the environment, then ./eventmill.toml, then ~/.config/eventmill/config.toml.

    Exit codes: 0 done, 1 error, 2 usage, 3 some events were rejected, 4 a checked condition does
    not hold.
    """
    ctx.ensure_object(Invocation)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; errors are told on stderr.

    Args:
        arguments: the words after the program's name; None: those of the process.
    """
    try:
        code = _invoke(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code if isinstance(code, int) else EXIT_DONE
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        return _tell_usage(error)
    except EventmillError as error:
        return _tell_error(error)
    except BrokenPipeError:
        _silence_stdout()
        return EXIT_BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - the edge of the program: told, never swallowed
        return _tell_unexpected(error)


def main() -> None:
    """Run the process's command line and leave with its exit code."""
    sys.exit(run())


def _invoke(arguments: list[str]) -> object:
    if "_EVENTMILL_COMPLETE" in environment():
        return cli.main(prog_name="eventmill")  # answers the shell's question, and leaves
    # Not through ``cli.main``: it would end the process by itself when a pipe breaks.
    with cli.make_context("eventmill", arguments) as context:
        return cli.invoke(context)


def _tell_usage(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return error.exit_code
    context = getattr(error, "ctx", None)
    told = error.format_message().rstrip(".")
    if context is not None:
        see = f"see `{context.command_path} --help`"
        told += f" ({see})" if told.endswith("?") else f"; {see}"
    click.echo(f"error: {told}", err=True)
    return error.exit_code


def _tell_error(error: EventmillError) -> int:
    if _debug_wanted():
        _print_traceback()
    click.echo(f"error: {error}", err=True)
    return EXIT_USAGE if isinstance(error, UsageError) else EXIT_ERROR


def _tell_unexpected(error: Exception) -> int:
    if _debug_wanted():
        _print_traceback()
        return EXIT_ERROR
    told = str(error) or "no further words"
    if isinstance(error, OSError):
        click.echo(f"error: {told}", err=True)
    else:
        click.echo(
            f"error: unexpected {type(error).__name__}: {told}; this is a fault of eventmill:"
            " run again with EVENTMILL_DEBUG=1 for the traceback, and please report it",
            err=True,
        )
    return EXIT_ERROR


def _debug_wanted() -> bool:
    return environment().get("EVENTMILL_DEBUG", "") not in ("", "0")


def _print_traceback() -> None:
    import traceback  # costs a tenth of the start-up, and is rarely wanted

    traceback.print_exc()


def _silence_stdout() -> None:
    """Keep the interpreter from writing what is left in its buffer to the broken pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
