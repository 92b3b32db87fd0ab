"""Ad-hoc commands: who may, what a step may be, and that forms do not pile up."""

import xml.etree.ElementTree as ET

import pytest
from driver import ANNA, COVEN, DISCO, OWN, PHONE, Play
from scenes import asked_to_leave, client_leave, in_the_coven

from component.core.checks.findings import Finding
from component.core.limits import Limits
from component.operator.admin_commands import sentence

COMMANDS = "http://jabber.org/protocol/commands"
ITEMS = "http://jabber.org/protocol/disco#items"
ADMIN = "root@admin.example/desk"
COMMAND = f"{{{COMMANDS}}}command"


@pytest.fixture
def play() -> Play:
    return Play(admins=("Root@ADMIN.example", "other@admin.example"))


def form(**values: str) -> str:
    fields = "".join(
        f"<field var='{var.replace('_', '-')}'><value>{value}</value></field>"
        for var, value in values.items()
    )
    return f"<x xmlns='jabber:x:data' type='submit'>{fields}</x>"


def step(
    play: Play, node: str, content: str = "", *, sender: str = ADMIN, type_: str = "set",
    **attributes: str,
) -> ET.Element:  # fmt: skip
    """Take one step and give the answer."""
    extra = "".join(f" {name}='{value}'" for name, value in attributes.items())
    play.says(
        f"<iq type='{type_}' from='{sender}' to='{OWN}' id='s1'>"
        f"<command xmlns='{COMMANDS}' node='{node}'{extra}>{content}</command></iq>"
    )
    answer = play.hears_anything()
    assert answer.get("to") == sender
    assert answer.get("id") == "s1"
    return answer


def problem(answer: ET.Element) -> set[str]:
    """Give the conditions of an error."""
    error = answer.find("{jabber:client}error")
    assert answer.get("type") == "error"
    assert error is not None
    return {child.tag.partition("}")[2] for child in error} - {"text"}


def session_of(answer: ET.Element) -> str:
    command = answer.find(COMMAND)
    assert command is not None
    assert command.get("status") == "executing"
    return command.get("sessionid", "")


@pytest.mark.parametrize(
    "sender",
    [
        "root@evil.example/desk",
        f"admin.example/{ADMIN}",
        "admin.example",
        PHONE,
        "root@x.admin.example",
    ],
)
@pytest.mark.parametrize("node", ["mixpam:statistics", "mixpam:leave", "no-such"])
def test_nobody_but_an_admin(play: Play, sender: str, node: str) -> None:
    assert problem(step(play, node, sender=sender)) == {"forbidden"}
    assert not play.reported("command")


@pytest.mark.parametrize("namespace", [DISCO, ITEMS])
def test_discovery_by_others(play: Play, namespace: str) -> None:
    play.says(
        f"<iq type='get' from='{PHONE}' to='{OWN}' id='d'>"
        f"<query xmlns='{namespace}' node='{COMMANDS}'/></iq>"
    )
    assert problem(play.hears_anything()) == {"forbidden"}


def test_without_commands_there_is_nothing_to_forbid() -> None:
    play = Play()
    assert problem(step(play, "mixpam:statistics")) == {"service-unavailable"}


def test_two_steps_and_the_session_ends(play: Play) -> None:
    in_the_coven(play)
    session = session_of(step(play, "mixpam:leave"))
    done = step(
        play, "mixpam:leave", form(user=ANNA, channel=COVEN), sessionid=session, action="complete"
    )
    # The answer does not wait for a channel that may be silent.
    command = done.find(COMMAND)
    assert command is not None
    assert command.get("status") == "completed"
    asked_to_leave(play)
    assert play.members() == {}
    assert play.reported("command")
    again = step(play, "mixpam:leave", form(user=ANNA, channel=COVEN), sessionid=session)
    assert problem(again) == {"bad-request", "bad-sessionid"}


def test_a_session_is_its_owners_and_its_commands(play: Play) -> None:
    session = session_of(step(play, "mixpam:leave"))
    other = "other@admin.example/x"
    answer = step(play, "mixpam:leave", form(), sender=other, sessionid=session)
    assert problem(answer) == {"bad-request", "bad-sessionid"}
    answer = step(play, "mixpam:show-user", form(), sessionid=session)
    assert problem(answer) == {"bad-request", "bad-sessionid"}


def test_open_forms_are_bounded(play: Play) -> None:
    sessions = [
        session_of(step(play, "mixpam:leave")) for _ in range(Limits().command_sessions + 1)
    ]
    answer = step(play, "mixpam:leave", sessionid=sessions[0], action="cancel")
    assert problem(answer) == {"bad-request", "bad-sessionid"}
    answer = step(play, "mixpam:leave", sessionid=sessions[1], action="cancel")
    command = answer.find(COMMAND)
    assert command is not None
    assert command.get("status") == "canceled"


@pytest.mark.parametrize(
    ("content", "attributes", "conditions"),
    [
        (form(user=ANNA), {}, {"bad-request", "bad-payload"}),
        (form(user=" ", channel=COVEN), {}, {"bad-request", "bad-payload"}),
        (form(user="a@b@c", channel=COVEN), {}, {"bad-request", "bad-payload"}),
        ("", {"action": "prev"}, {"bad-request", "bad-action"}),
        ("", {"action": "jump"}, {"bad-request", "bad-action"}),
        (form(user=ANNA, channel=COVEN), {}, {"item-not-found"}),
    ],
)
def test_steps_that_cannot_be_taken(
    play: Play, content: str, attributes: dict[str, str], conditions: set[str]
) -> None:
    assert problem(step(play, "mixpam:leave", content, **attributes)) == conditions


def test_a_get_is_no_step(play: Play) -> None:
    assert problem(step(play, "mixpam:statistics", type_="get")) == {"bad-request"}


def test_a_leave_that_is_under_way(play: Play) -> None:
    in_the_coven(play)
    play.says(client_leave())
    play.hears_anything()
    answer = step(play, "mixpam:leave", form(user=ANNA, channel=COVEN))
    assert problem(answer) == {"conflict"}
    assert play.members() == {COVEN: "123"}


def test_reconcile_without_a_link_says_why(play: Play) -> None:
    answer = step(play, "mixpam:reconcile", form(user=ANNA, dry_run="1"))
    assert problem(answer) == {"resource-constraint"}
    error = answer.find("{jabber:client}error")
    assert error is not None
    assert "not connected" in "".join(error.itertext())


def test_findings_in_words() -> None:
    facts = ("1", "from", "1")
    assert sentence(Finding("c@m", "agree", *facts)) == "c@m: all agree"
    assert sentence(Finding("c@m", "differ", *facts, repairs=("a", "b"))) == "c@m: a; b"
    assert sentence(Finding("c@m", "unknown", *facts, why="no")) == "c@m: left alone, no"


def test_a_command_without_a_form_is_done_at_once(play: Play) -> None:
    command = step(play, "mixpam:statistics").find(COMMAND)
    assert command is not None
    assert command.get("status") == "completed"


def asked(play: Play, namespace: str, node: str, type_: str = "get") -> ET.Element:
    """Ask as an admin what there is at a node, and give the answer."""
    play.says(
        f"<iq type='{type_}' from='{ADMIN}' to='{OWN}' id='d'>"
        f"<query xmlns='{namespace}' node='{node}'/></iq>"
    )
    return play.hears_anything()


def test_commands_are_listed_and_each_says_what_it_is(play: Play) -> None:
    listed = asked(play, ITEMS, COMMANDS).findall(f"{{{ITEMS}}}query/{{{ITEMS}}}item")
    assert "mixpam:leave" in {item.get("node") for item in listed}
    assert {item.get("jid") for item in listed} == {OWN}
    kinds = {COMMANDS: "command-list", "mixpam:leave": "command-node"}
    for node, kind in kinds.items():
        answer = asked(play, DISCO, node)
        (identity,) = answer.iter(f"{{{DISCO}}}identity")
        assert (identity.get("category"), identity.get("type")) == ("automation", kind)
        features = {each.get("var") for each in answer.iter(f"{{{DISCO}}}feature")}
        assert features == {COMMANDS, "jabber:x:data"}
    nothing = asked(play, ITEMS, "mixpam:leave")
    assert not list(nothing.iter(f"{{{ITEMS}}}item"))


def test_who_may_use_commands_is_told_that_there_are_some(play: Play) -> None:
    for sender, expected in ((ADMIN, True), (PHONE, False)):
        play.says(f"<iq type='get' from='{sender}' to='{OWN}' id='d'><query xmlns='{DISCO}'/></iq>")
        features = play.hears_anything().iter(f"{{{DISCO}}}feature")
        assert (COMMANDS in {each.get("var") for each in features}) == expected


@pytest.mark.parametrize("namespace", [DISCO, ITEMS])
def test_discovery_is_no_set(play: Play, namespace: str) -> None:
    assert problem(asked(play, namespace, COMMANDS, "set")) == {"bad-request"}


def test_a_request_for_nothing_is_about_no_command(play: Play) -> None:
    play.says(f"<iq type='get' from='{ADMIN}' to='{OWN}' id='d'/>")
    assert problem(play.hears_anything()) == {"service-unavailable"}
