"""Writes what the running component says of a user, a channel or its link, for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

Answer = dict[str, Any]


def user(console: Console, view: Answer) -> None:
    """Write a user's channels, devices and changes under way."""
    _title(console, view["user"] + ("" if view["local"] else "  (not of a domain served here)"))
    _table(
        console,
        "channels",
        ("channel", "participant id", "nick", "core", "presence", "participants known"),
        [
            (
                each["channel"],
                each["participant_id"],
                each["nick"] or "",
                str(each["core"]),
                "shared" if each["shares_presence"] else "not shared",
                f"{each['participants']}{'' if each['complete'] else ', not all'}",
            )
            for each in view["channels"]
        ],
    )
    _table(
        console,
        "devices online",
        ("resource", "gets copies", "why"),
        [
            (
                each["resource"],
                _yes(each["mix"]) + (", asleep" if each["hibernated"] else ""),
                each["why"],
            )
            for each in view["devices"]
        ],
    )
    if view["operations"]:
        _table(
            console,
            "under way",
            ("what", "channel", "step", "asked by", "waiting behind it"),
            [
                (
                    each["kind"] if each["running"] else f"{each['kind']}, cut off",
                    each["channel"],
                    each["step"] or "",
                    each["device"] or "",
                    str(each["queued"]),
                )
                for each in view["operations"]
            ],
        )


def channel(console: Console, view: Answer) -> None:
    """Write our users in a channel."""
    known = "" if view["service_known"] else "  (its service is not known to the taps)"
    _title(console, view["channel"] + known)
    _table(
        console,
        "members of ours",
        ("user", "participant id", "nick", "presence", "devices", "get copies"),
        [
            (
                each["user"],
                each["participant_id"],
                each["nick"] or "",
                "shared" if each["shares_presence"] else "not shared",
                str(each["devices"]),
                str(each["mix_devices"]),
            )
            for each in view["members"]
        ],
    )
    if view["under_way"]:
        _table(console, "joining or leaving", ("user",), [(each,) for each in view["under_way"]])


def link(console: Console, view: Answer) -> None:
    """Write the state of link, taps and Redis."""
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
    _table(
        console,
        "domains",
        ("domain", "software", "tap", "archive", "all sessions known"),
        [
            (
                each["domain"],
                each["software"],
                each["version"],
                _yes(each["archive"]),
                _yes(each["ready"]),
            )
            for each in view["domains"]
        ],
    )
    _table(
        console,
        "totals",
        ("of what", "number"),
        [(name.replace("_", " "), str(number)) for name, number in view["totals"].items()],
    )


def _title(console: Console, text: str) -> None:
    console.print(Text(text, style="bold"), soft_wrap=True)


def _table(
    console: Console, title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]
) -> None:
    console.print(Text(f"\n{title}{'' if rows else ': none'}", style="bold"))
    if not rows:
        return
    if not console.is_terminal:
        # For `cut` and `grep`: one line each, nothing left out, and tabs that stay tabs.
        for row in rows:
            console.file.write("  " + "\t".join(row) + "\n")
        return
    table = Table(box=None, pad_edge=True, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
