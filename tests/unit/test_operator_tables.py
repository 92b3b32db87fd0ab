"""The views as tables: one list of columns for status page, `mixpam show` and ad-hoc commands."""

from dataclasses import asdict
from io import StringIO

from rich.console import Console

from component.console import show
from component.operator.tables import of_channel, of_user
from component.operator.views import (
    ChannelMembers,
    ChannelView,
    DeviceView,
    Evidence,
    MemberView,
    OperationView,
    UserView,
)


def device(resource: str, evidence: Evidence, *, mix: bool, hibernated: bool = False) -> DeviceView:
    core = (0, 1) if mix else ()
    return DeviceView(resource, mix, evidence, "because", core, False, hibernated, False)


USER = UserView(
    "romeo@example.org",
    local=True,
    devices=(
        device("phone", "hash", mix=True, hibernated=True),
        device("old", "hash", mix=False),
        device("new", "open", mix=False),
    ),
    channels=(
        ChannelView(
            "coven@mix.example",
            "1",
            "N",
            ("urn:xmpp:mix:nodes:messages", "x"),
            1,
            True,
            3,
            False,
        ),
        ChannelView("ball@mix.example", "2", None, (), 0, False, 0, True),
    ),
    operations=(
        OperationView("join", "a@mix.example", None, "phone", 1, running=True),
        OperationView("join", "b@mix.example", "ask", None, 0, running=True),
        OperationView("leave", "c@mix.example", "roster", None, 0, running=False),
    ),
)


def test_a_users_tables() -> None:
    channels, devices, operations = of_user(asdict(USER))
    assert [len(table.columns) for table in (channels, devices, operations)] == [7, 4, 5]
    assert channels.rows == (
        ("coven@mix.example", "1", "N", "1", "shared", "3, not all", "messages, x"),
        ("ball@mix.example", "2", "", "0", "not shared", "0", ""),
    )
    assert [row[:2] for row in devices.rows] == [
        ("phone", "yes, asleep"),
        ("old", "no"),
        ("new", "not yet"),
    ]
    assert [row[2:] for row in operations.rows] == [
        ("has not begun", "phone", "1"),
        ("waits for the channel", "", "0"),
        ("was cut off; finished or undone when the link is up", "", "0"),
    ]


def test_lines_leave_out_what_is_absent() -> None:
    channels, devices, _ = of_user(asdict(USER))
    assert channels.lines()[1] == (
        "ball@mix.example: participant id 2, core 0, presence not shared, participants known 0"
    )
    assert devices.lines()[0] == "phone: gets copies yes, asleep, why because, core 0, 1"


def test_a_channels_table() -> None:
    member = MemberView("romeo@example.org", "1", None, (), True, 2, 1)
    view = ChannelMembers("coven@mix.example", True, (member,), ("julia@example.org",))
    assert of_channel(asdict(view)).rows == (("romeo@example.org", "1", "", "shared", "2", "1"),)
    console = Console(file=StringIO())
    show.channel(console, asdict(view))
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "  romeo@example.org\t1\t\tshared\t2\t1\n" in written
    assert "joining or leaving\n  julia@example.org\n" in written


def test_a_terminal_gets_the_columns_names() -> None:
    console = Console(file=StringIO(), force_terminal=True, width=200, no_color=True)
    show.user(console, asdict(USER))
    written = console.file.getvalue()  # type: ignore[attr-defined]
    for words in ("participants known", "gets copies", "waiting behind it", "not yet"):
        assert words in written
