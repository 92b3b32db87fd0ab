"""Prints the running component's view of a user, a channel or its link."""

from __future__ import annotations

from typing import Any

import rich.table
from rich.console import Console
from rich.text import Text

from component.operator import tables
from component.operator.tables import Table

Answer = dict[str, Any]


def user(console: Console, view: Answer) -> None:
    """Print a user's channels, devices and changes under way."""
    _title(console, view["user"] + ("" if view["local"] else "  (not of a domain served here)"))
    channels, devices, operations = tables.of_user(view)
    for table in (channels, devices):
        _table(console, table)
    if operations.rows:
        _table(console, operations)


def channel(console: Console, view: Answer) -> None:
    """Print the users of this server who are in a channel."""
    known = "" if view["service_known"] else "  (its service is not known to the taps)"
    _title(console, view["channel"] + known)
    _table(console, tables.of_channel(view))
    if view["under_way"]:
        rows = tuple((each,) for each in view["under_way"])
        _table(console, Table("joining or leaving", ("user",), rows))


def link(console: Console, view: Answer) -> None:
    """Print the state of link, taps and Redis."""
    state, redis = view["link"], view["redis"]
    _title(console, f"{view['component']}, mixpam {view['version']}")
    ready = not view["reasons"]
    console.print(Text("ready" if ready else "not ready", style="green" if ready else "red"))
    for reason in view["reasons"]:
        console.print(Text(f"  {reason}"), soft_wrap=True)
    console.print(Text(f"link:  {state['state']} since {state['since']}"), soft_wrap=True)
    if state["remedy"]:
        console.print(Text(f"       {state['reason']}: {state['remedy']}"), soft_wrap=True)
    console.print(Text(f"redis: {redis['state']} since {redis['since']}"), soft_wrap=True)
    if redis["remedy"]:
        console.print(Text(f"       {redis['remedy']}"), soft_wrap=True)
    _table(console, tables.of_domains(view))
    rows = tuple((name.replace("_", " "), str(number)) for name, number in view["totals"].items())
    _table(console, Table("totals", ("of what", "number"), rows))


def _title(console: Console, text: str) -> None:
    console.print(Text(text, style="bold"), soft_wrap=True)


def _table(console: Console, table: Table) -> None:
    console.print(Text(f"\n{table.title}{'' if table.rows else ': none'}", style="bold"))
    if not table.rows:
        return
    if not console.is_terminal:
        # For `cut` and `grep`: one line each, nothing omitted, columns separated by tabs.
        for row in table.rows:
            console.file.write("  " + "\t".join(row) + "\n")
        return
    drawn = rich.table.Table(box=None, pad_edge=True, header_style="dim")
    for column in table.columns:
        drawn.add_column(column, overflow="fold")
    for row in table.rows:
        drawn.add_row(*map(Text, row))
    console.print(drawn)
