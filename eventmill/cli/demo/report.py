"""What the demo shows: its progress, its answers with bars, its accounts and its times."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from eventmill.cli.demo.attempts import AlertStory
from eventmill.cli.demo.job import Outcome

_BAR_CELLS = 24
_CLEAR_LINE = "\r\x1b[2K"
_EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(share: float, cells: int = _BAR_CELLS) -> str:
    """Return ``share`` (0 to 1) as a bar of at most ``cells`` characters, to an eighth of one."""
    eighths = round(min(max(share, 0.0), 1.0) * cells * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


class Report:
    """Writes for people, on stdout; progress on stderr where that is a terminal."""

    def __init__(self) -> None:
        self._out = Console(highlight=False)
        self._has_line = False

    def step(self, name: str, done: int, total: int) -> None:
        """Tell how far a step is; replaces the line before on a terminal, else says nothing."""
        if not sys.stderr.isatty():
            return
        share = f" {done:,} of {total:,} {bar(done / total)}" if total else ""
        sys.stderr.write(f"{_CLEAR_LINE}{name} …{share}")
        sys.stderr.flush()
        self._has_line = True

    def say(self, text: str) -> None:
        """Write a line."""
        if self._has_line:
            sys.stderr.write(_CLEAR_LINE)
            sys.stderr.flush()
            self._has_line = False
        self._out.print(text, markup=False, soft_wrap=True)

    def show(self, outcome: Outcome) -> None:
        """Write the answers, the quarantine, the accounts and the times."""
        self._storm(outcome.storm)
        self._carriers(outcome.carriers)
        self._attempts(outcome.attempts)
        self._alert(outcome.alert)
        self._quarantine(outcome.quarantine)
        self._accounts(outcome)

    def _storm(self, rows: Sequence[Mapping[str, Any]]) -> None:
        table = self._table("Cancelled flights around the blizzard of 9 February 2013")
        for name in ("day", "flights", "cancelled"):
            table.add_column(name, justify="left" if name == "day" else "right")
        table.add_column("share")
        for row in rows:
            share = float(row["cancelled_share"])
            table.add_row(
                str(row["day"]),
                f"{row['flights']:,}",
                f"{row['cancelled']:,}",
                f"{bar(share)} {share:.0%}",
            )
        self._out.print(table)

    def _carriers(self, rows: Sequence[Mapping[str, Any]]) -> None:
        table = self._table("One departure in twenty was later than this, by airline")
        table.add_column("carrier")
        table.add_column("flights", justify="right")
        table.add_column("minutes")
        longest = max((row["delay_p95_minutes"] for row in rows), default=1) or 1
        for row in rows:
            minutes = row["delay_p95_minutes"]
            table.add_row(
                row["carrier"], f"{row['flights']:,}", f"{bar(minutes / longest)} {minutes:.0f}"
            )
        self._out.print(table)

    def _attempts(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        table = self._table("Attempts of a commit queue, as the workflow cq_attempts made them")
        for name in ("queue", "attempts", "committed", "failed"):
            table.add_column(name, justify="left" if name == "queue" else "right")
        table.add_column("minutes to a result, median")
        longest = max(row["minutes_median"] for row in rows) or 1
        for row in rows:
            minutes = row["minutes_median"]
            counts = (f"{row[name]:,}" for name in ("attempts", "committed", "failed"))
            table.add_row(row["cq_name"], *counts, f"{bar(minutes / longest)} {minutes:.0f}")
        self._out.print(table)

    def _alert(self, story: AlertStory | None) -> None:
        if story is None:
            return
        self.say("\nA workflow with a planted fault")
        self.say(f"  its run failed: {story.error}")
        self.say(f"  its alert fired: {story.firing or 'NO'}")
        self.say(f"  mended and run again, it recovered: {'yes' if story.is_over else 'NO'}")

    def _quarantine(self, rows: Sequence[Mapping[str, Any]]) -> None:
        table = self._table("Quarantine: rejected events, whole, with the reason")
        table.add_column("reason")
        table.add_column("events", justify="right")
        table.add_column("for example")
        for row in rows:
            table.add_row(row["reason"], f"{row['events']:,}", row["example"])
        self._out.print(table)

    def _table(self, title: str) -> Table:
        """Write the title of a table, and return the table to fill."""
        self.say(f"\n{title}")
        return Table(box=None, pad_edge=False, header_style="dim")

    def _accounts(self, outcome: Outcome) -> None:
        accounts = outcome.accounts
        verdict = "the store counts the same" if not outcome.differences else "THEY DIFFER"
        self.say(
            f"\nAccounts: {accounts.sent:,} sent = {accounts.accepted:,} accepted"
            f" + {accounts.duplicates:,} duplicates + {accounts.quarantined:,} quarantined;"
            f" {verdict}"
        )
        for difference in outcome.differences:
            self.say(f"  {difference}")
        if outcome.test_results:
            self.say(f"Own tests: {outcome.test_results:,} results are in ops.test_results")
        else:
            self.say("Own tests: no checkout, or no run of its tests; ops.test_results is empty")
        times = ", ".join(f"{name} {spent:.1f} s" for name, spent in outcome.step_seconds.items())
        self.say(f"Time: {times}")
