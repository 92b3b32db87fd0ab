"""The hot lane: whose stanza it is, who gets copies, and in which core namespace."""

import re
import time

import pytest

from component.core.delivery.fanout import copies, translate
from component.core.delivery.passage import must_be_inspected, of_frame
from component.core.delivery.translation import in_other_namespace
from component.core.users.mirror import Membership, Mirror
from component.core.users.sessions import Copies, Speaks
from component.wire.framing import Frame
from schemas import codec, jid
from schemas.namespaces import MIX_CORE

USER = jid.parse("anna@example.org")
COVEN = jid.parse("coven@mix.example")
CORE_0, CORE_1 = MIX_CORE

BOTH = b"anna@example.org/both"
ONLY_0 = b"anna@example.org/old"
ONLY_1 = b"anna@example.org/new"


def targets_of(
    both: tuple[bytes, ...], only_0: tuple[bytes, ...], only_1: tuple[bytes, ...]
) -> Copies:
    return Copies(both + only_0 + only_1, only_0, only_1)


ALL = targets_of((BOTH,), (ONLY_0,), (ONLY_1,))


def mirror(**devices: Speaks | None) -> Mirror:
    made = Mirror()
    made.join(USER, Membership(COVEN, "123", None, (), 1, shares_presence=True))
    row = made.row(USER)
    for resource, speaks in devices.items():
        row.devices.come(resource).speaks = speaks
    return made


def stanza(
    *, kind: str = "message", sender: str = "coven@mix.example", type_: str = "groupchat"
) -> Frame:
    written = f" type='{type_}'" if type_ else ""
    return Frame(f"<{kind} from='{sender}' to='{USER}'{written}>x</{kind}>".encode())


OURS = {
    "groupchat of the channel": stanza(sender="coven@mix.example/123"),
    "groupchat, bare": stanza(),
    "pubsub event": stanza(type_="headline"),
    "message without type": stanza(type_=""),
    "private message of a participant": stanza(sender="123#coven@mix.example", type_="chat"),
    "presence of a participant": stanza(
        kind="presence", sender="123#coven@mix.example/r", type_=""
    ),
    "presence in the way of core 0": stanza(
        kind="presence", sender="coven@mix.example/123", type_=""
    ),
    "unavailable": stanza(kind="presence", sender="1#coven@mix.example", type_="unavailable"),
}


@pytest.mark.req("F1", "F4", "F5")
@pytest.mark.parametrize("frame", OURS.values(), ids=OURS)
def test_what_a_joined_channel_sends_is_for_the_hot_lane(frame: Frame) -> None:
    made = mirror()
    assert of_frame(made, frame) == (made.row(USER), b"coven@mix.example")


NOT_OURS = {
    "other channel of the service": stanza(sender="other@mix.example/123"),
    "same name elsewhere": stanza(sender="coven@evil.example"),
    "the service itself": stanza(sender="mix.example"),
    "participant of another channel": stanza(sender="123#other@mix.example", type_="chat"),
    "groupchat from a participant": stanza(sender="123#coven@mix.example"),
    "channel as participant id": stanza(sender="coven#other@mix.example", type_=""),
    "longer domain": stanza(sender="coven@mix.example.evil", type_=""),
    "channel in the resource": stanza(sender="evil@x/#coven@mix.example", type_=""),
    "error": stanza(type_="error"),
    "probe": stanza(kind="presence", type_="probe"),
    "subscription": stanza(kind="presence", type_="subscribe"),
    "answer": stanza(kind="iq", type_="result"),
    "no sender": Frame(f"<message to='{USER}' type='groupchat'/>".encode()),
    "to a full JID": Frame(f"<message from='{COVEN}' to='{USER}/r'/>".encode()),
    "to nobody": Frame(f"<message from='{COVEN}'/>".encode()),
    "to somebody else": Frame(f"<message from='{COVEN}' to='ben@example.org'/>".encode()),
}


@pytest.mark.req("F6")
@pytest.mark.abuse(1, 2)
@pytest.mark.parametrize("frame", NOT_OURS.values(), ids=NOT_OURS)
def test_what_is_from_anybody_else_is_not(frame: Frame) -> None:
    assert of_frame(mirror(), frame) is None


@pytest.mark.req("J10")
def test_what_has_to_wait_is_not_for_the_hot_lane() -> None:
    class Waiting:
        def take(self, frame: Frame) -> None:
            raise AssertionError(frame)

    made = mirror()
    made.row(USER).activity.holding[b"coven@mix.example"] = Waiting()
    assert of_frame(made, stanza()) is None


@pytest.mark.req("F2", "F3")
def test_only_mix_devices_get_copies() -> None:
    made = mirror(
        a=Speaks.MIX, b=Speaks.CORE_0, c=Speaks.CORE_1 | Speaks.PSA, d=Speaks.PSA,
        e=Speaks.NOTHING, f=None,
    )  # fmt: skip
    targets = made.row(USER).copies
    assert targets == targets_of(
        (b"anna@example.org/a",), (b"anna@example.org/b",), (b"anna@example.org/c",)
    )
    assert copies(mirror(f=None).row(USER).copies, stanza()) == []


@pytest.mark.abuse(19)
def test_a_resource_with_markup_stays_inside_its_attribute() -> None:
    resource = "a'><b x=\"&amp;\t\U0001f600"
    made = mirror(**{resource: Speaks.MIX})
    (copy,) = copies(made.row(USER).copies, stanza())
    assert codec.read(copy).get("to") == f"{USER}/{resource}"
    assert codec.read(copy).text == "x"


HEAD, TAIL = "<message from='coven@mix.example' to='", "' type='groupchat'>"

TRANSLATED = {
    "single quotes": ("<mix xmlns='{}'><nick>x</nick></mix>", 1),
    "double quotes": ('<mix xmlns="{}"/>', 1),
    "odd spaces": ("<mix  xmlns\n=\t'{}' />", 1),
    "prefix": ("<m:mix xmlns:m='{}'><m:nick/></m:mix>", 1),
    "behind an attribute": ("<mix a='x>' xmlns='{}'/>", 1),
    "two": ("<mix xmlns='{}'/><mix xmlns='{}'/>", 2),
    "inside an event": ("<event><items><participant xmlns='{}'/></items></event>", 1),
    "beside what is forwarded": (
        (
            "<mix xmlns='{}'/><forwarded xmlns='urn:xmpp:forward:0'>"
            "<message><mix xmlns='urn:xmpp:mix:core:%s'/></message></forwarded>"
        ),
        1,
    ),
    "around what is forwarded": (
        (
            "<mix xmlns='{}'><f:forwarded xmlns:f='urn:xmpp:forward:0'>"
            "<mix xmlns='urn:xmpp:mix:core:%s'/></f:forwarded></mix>"
        ),
        1,
    ),
    "not in a text": ("<body>xmlns='urn:xmpp:mix:core:%s'</body><mix xmlns='{}'/>", 1),
    "not in another attribute": ("<mix a=\"xmlns='urn:xmpp:mix:core:%s'\" xmlns='{}'/>", 1),
    "not another attribute": ("<mix node='urn:xmpp:mix:core:%s' xmlns='{}'/>", 1),
    "not part of a longer name": ("<x xmlns='urn:xmpp:mix:core:%s#x'/><mix xmlns='{}'/>", 1),
    "not in CDATA": ("<![CDATA[<a xmlns='urn:xmpp:mix:core:%s'/>]]><mix xmlns='{}'/>", 1),
}


@pytest.mark.req("F7")
@pytest.mark.abuse(3)
@pytest.mark.parametrize(("old", "new"), [(0, 1), (1, 0)])
@pytest.mark.parametrize(("content", "times"), TRANSLATED.values(), ids=TRANSLATED)
def test_a_device_gets_the_core_namespace_it_speaks(
    content: str, times: int, old: int, new: int
) -> None:
    content = content.replace("%s", str(old))
    assert content.count("{}") == times

    def written(target: bytes, core: int) -> bytes:
        filled = content.replace("{}", MIX_CORE[core])
        return f"{HEAD}{target.decode()}{TAIL}{filled}</message>".encode()

    got = {Frame(copy).get(b"to"): copy for copy in copies(ALL, Frame(written(b"u@h", old)))}
    speaks_old, speaks_new = (ONLY_0, ONLY_1) if old == 0 else (ONLY_1, ONLY_0)
    assert got[BOTH] == written(BOTH, old)
    assert got[speaks_old] == written(speaks_old, old)
    assert codec.write(codec.read(got[speaks_new])) == codec.write(
        codec.read(written(speaks_new, new))
    )


@pytest.mark.req("F7")
def test_a_prefix_that_the_stanza_declares_is_of_what_is_inside() -> None:
    frame = Frame(
        b"<message xmlns:m='urn:xmpp:mix:core:0' from='coven@mix.example' to='a@b'>"
        b"<body>urn:xmpp:mix:core:0</body><m:mix><m:nick>x</m:nick></m:mix></message>"
    )
    read = codec.read(translate(frame, b"urn:xmpp:mix:core:0", b"urn:xmpp:mix:core:1"))
    assert read.find("{urn:xmpp:mix:core:1}mix/{urn:xmpp:mix:core:1}nick") is not None
    assert read.findtext("{jabber:client}body") == "urn:xmpp:mix:core:0"


@pytest.mark.req("F1")
@pytest.mark.parametrize("core", MIX_CORE)
def test_what_needs_no_translation_is_byte_for_byte(core: str) -> None:
    content = f"<mix xmlns='{core}'/> <x:y xmlns:x='z' a = \"'>\"/>&#x1F600;<![CDATA[<]]>"
    frame = Frame(f"{HEAD}u@h{TAIL}{content}</message>".encode())
    same = (
        targets_of((BOTH,), (ONLY_0,), ()) if core == CORE_0 else targets_of((BOTH,), (), (ONLY_1,))
    )
    for copy in copies(same, frame):
        to = Frame(copy).get(b"to").decode()
        assert copy == f"{HEAD}{to}{TAIL}{content}</message>".encode()


def test_without_mix_elements_all_get_the_same() -> None:
    frame = Frame(f"{HEAD}u@h{TAIL}x</message>".encode())
    assert copies(ALL, frame) == [frame.readdressed(to) for to in (BOTH, ONLY_0, ONLY_1)]


@pytest.mark.abuse(11)
def test_a_tree_that_cannot_be_read_is_passed_on_untranslated() -> None:
    deep = "<x>" * (codec.MAX_DEPTH + 1) + "</x>" * (codec.MAX_DEPTH + 1)
    content = f"<mix xmlns='{CORE_0}'/><forwarded xmlns='urn:xmpp:forward:0'>{deep}</forwarded>"
    frame = Frame(f"{HEAD}u@h{TAIL}{content}</message>".encode())
    assert copies(targets_of((), (), (ONLY_1,)), frame) == [frame.readdressed(ONLY_1)]


@pytest.mark.abuse(11)
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(f"<a><b xmlns='{CORE_0}'/></a>".encode("utf-16-le"), id="encoding"),
        pytest.param(
            f"<!DOCTYPE a [<!ENTITY e \"<b xmlns='{CORE_0}'/>\">]><a>&e;</a>".encode(), id="entity"
        ),
    ],
)
def test_what_the_parser_sees_elsewhere_than_the_tags_is_not_translated(data: bytes) -> None:
    assert in_other_namespace(data, CORE_0.encode(), CORE_1.encode()) == data


@pytest.mark.abuse(11)
@pytest.mark.parametrize(
    "content",
    [
        pytest.param("<a" + "".join(f" a{i}='{CORE_0}'" for i in range(8_000)) + "/>", id="tag"),
        pytest.param(f"<b>{CORE_0 * 12_000}</b>", id="text"),
        pytest.param(f"<a x='{CORE_0 * 12_000}'/>", id="value"),
        pytest.param(f"<a xmlns='{CORE_0}'/>" * 8_000, id="elements"),
    ],
)
def test_a_message_made_for_it_does_not_hold_the_hot_lane_up(content: str) -> None:
    frame = Frame(f"{HEAD}u@h{TAIL}{content}</message>".encode())
    begun = time.process_time()
    (copy,) = copies(targets_of((), (), (ONLY_1,)), frame)
    # A quarter of a megabyte; searching it anew for each find would take a minute.
    assert time.process_time() - begun < 2
    assert len(re.findall(b"xmlns='urn:xmpp:mix:core:0'", copy)) == 0


@pytest.mark.parametrize(
    ("data", "needed"),
    [
        ("<presence/>", True),
        ("<message><body>x</body></message>", False),
        (
            "<message><items node='urn:xmpp:mix:nodes:participants'><retract/></items></message>",
            True,
        ),
        ("<message><items node='urn:xmpp:mix:nodes:messages'><retract/></items></message>", False),
    ],
)
def test_what_the_core_must_overhear(data: str, needed: bool) -> None:
    assert must_be_inspected(Frame(data.encode())) is needed


@pytest.mark.parametrize("depth", [False, True], ids=["elements", "depth"])
def test_what_has_too_many_elements_stays_as_it_is(depth: bool) -> None:
    many = "<x>" * 5_001 + "</x>" * 5_001 if depth else "<x/>" * 5_001
    data = f"<message to='a'><mix xmlns='urn:xmpp:mix:core:0'/>{many}</message>".encode()
    assert in_other_namespace(data, b"urn:xmpp:mix:core:0", b"urn:xmpp:mix:core:1") == data
