"""The columns of the views: the same on the status page, in `mixpam show` and in ad-hoc commands.

Each value is made from a view as plain data, in the form that `dataclasses.asdict` and the HTTP API
give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from schemas.namespaces import MIX_NODES

View = Mapping[str, Any]
Columns = tuple[tuple[str, Callable[[View], Any]], ...]


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _presence(view: View) -> str:
    return "shared" if view["shares_presence"] else "not shared"


def _copies(device: View) -> str:
    said = "not yet" if device["evidence"] == "open" else _yes(device["mix"])
    return said + (", asleep" if device["hibernated"] else "")


_STEPS = {None: "has not begun", "ask": "waits for the channel", "roster": "waits for the roster"}


def _step(operation: View) -> str:
    if not operation["running"]:
        return "was cut off; finished or undone when the link is up"
    return str(_STEPS.get(operation["step"], operation["step"]))


_CHANNELS: Final[Columns] = (
    ("channel", itemgetter("channel")),
    ("participant id", itemgetter("participant_id")),
    ("nick", itemgetter("nick")),
    ("core", itemgetter("core")),
    ("presence", _presence),
    (
        "participants known",
        lambda each: f"{each['participants']}{'' if each['complete'] else ', not all'}",
    ),
    ("nodes", lambda each: ", ".join(node.removeprefix(MIX_NODES) for node in each["nodes"])),
)
_DEVICES: Final[Columns] = (
    ("resource", itemgetter("resource")),
    ("gets copies", _copies),
    ("why", itemgetter("why")),
    ("core", lambda each: ", ".join(map(str, each["core"]))),
)
_OPERATIONS: Final[Columns] = (
    ("what", itemgetter("kind")),
    ("channel", itemgetter("channel")),
    ("step", _step),
    ("asked by", itemgetter("device")),
    ("waiting behind it", itemgetter("queued")),
)
_MEMBERS: Final[Columns] = (
    ("user", itemgetter("user")),
    ("participant id", itemgetter("participant_id")),
    ("nick", itemgetter("nick")),
    ("presence", _presence),
    ("devices", itemgetter("devices")),
    ("get copies", itemgetter("mix_devices")),
)
_DOMAINS: Final[Columns] = (
    ("domain", itemgetter("domain")),
    ("software", itemgetter("software")),
    ("tap", itemgetter("version")),
    ("archive", lambda each: _yes(each["archive"])),
    ("all sessions known", lambda each: _yes(each["ready"])),
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts; an absent value is empty."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def lines(self) -> tuple[str, ...]:
        """Give each row as one line, without absent values."""
        return tuple(
            f"{first}: "
            + ", ".join(
                f"{column} {value}"
                for column, value in zip(self.columns[1:], rest, strict=True)
                if value
            )
            for first, *rest in self.rows
        )


def _table(title: str, columns: Columns, views: Iterable[View]) -> Table:
    return Table(
        title,
        tuple(name for name, _ in columns),
        tuple(
            tuple("" if (got := value(view)) is None else str(got) for _, value in columns)
            for view in views
        ),
    )


def of_user(view: View) -> tuple[Table, Table, Table]:
    """Make the tables of a UserView: channels, devices, changes under way."""
    return (
        _table("channels", _CHANNELS, view["channels"]),
        _table("devices online", _DEVICES, view["devices"]),
        _table("under way", _OPERATIONS, view["operations"]),
    )


def of_channel(view: View) -> Table:
    """Make the table of a ChannelMembers."""
    return _table("members", _MEMBERS, view["members"])


def of_domains(view: View) -> Table:
    """Make the table of the domains in the API's `link`."""
    return _table("domains", _DOMAINS, view["domains"])
