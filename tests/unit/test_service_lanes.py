"""The two lanes together: who joins keeps nobody waiting, and nothing overtakes for one user."""

import asyncio
import re
from collections.abc import Callable

import pytest
from driver import ANNA, BEN, COVEN, OWN, PHONE, SERVER

from component import control_queue
from component.core.effects import Write
from component.core.users.mirror import Membership
from component.core.users.sessions import Speaks
from component.engine import Engine
from component.leadership import State
from component.wire.framing import CROWDED, Framer
from schemas import jid
from schemas.settings import Settings

SETTINGS = Settings.model_validate(
    {"component_jid": OWN, "secret": "s", "domains": SERVER, "multicast": False}
)


class Store:
    """Takes whatever is written."""

    def put(self, write: Write) -> None:
        """Take it."""


class Link:
    """An engine and what it writes."""

    def __init__(self, stop_reading: Callable[[bool], None] = lambda _: None) -> None:
        self.written: list[bytes] = []
        self.engine = Engine(SETTINGS)
        self.engine.store = Store()  # type: ignore[assignment]
        self.engine.up(self.written.append, stop_reading)
        self.engine._leadership.state = State.LEADING
        mirror = self.engine.core.mirror
        for user in (ANNA, BEN):
            member = Membership(jid.parse(COVEN), "1", None, (), 1, shares_presence=False)
            mirror.join(jid.parse(user), member)
        mirror.row(jid.parse(BEN)).devices.come("phone").speaks = Speaks.MIX

    def reads(self, stanzas: str) -> None:
        """Bring some stanzas in one read."""
        for frame in Framer(100_000).feed(stanzas.encode(), self.engine.carry):
            self.engine.receive(frame)
        self.engine.read_ended()


def message(user: str, body: str) -> str:
    """Write what the channel says."""
    return f"<message type='groupchat' from='{COVEN}' to='{user}'><body>{body}</body></message>"


async def test_messages_do_not_wait_for_those_who_ask_for_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(control_queue, "SLICE", 0.0)
    link = Link()
    ask = f"<iq type='get' from='{PHONE}' to='{OWN}' id='%d'><ping xmlns='urn:xmpp:ping'/></iq>"
    link.reads("".join(ask % number for number in range(50)) + message(BEN, "at once"))
    copy = message(f"{BEN}/phone", "at once").encode()
    for number in range(50):
        assert link.written == [copy]
        # One step, the least there is, before the next read.
        await asyncio.sleep(0)
        assert b"id='%d'" % number in link.written[1]
        assert len(link.written) == 2
        link.written.clear()
        link.reads(message(BEN, "at once"))
    assert link.written == [copy]


@pytest.mark.parametrize("kind", ["groupchat", "headline"])
async def test_nothing_overtakes_what_waits_for_the_same_user(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(control_queue, "SLICE", 0.0)
    link = Link()
    core = link.engine.core
    device = core.mirror.row(jid.parse(ANNA)).devices.come("laptop")
    device.speaks = Speaks.MIX
    gone = f"<presence type='unavailable' from='{ANNA}/laptop' to='{OWN}'/>"
    here = f"<presence from='{PHONE}' to='{OWN}'/>"
    link.reads(here + gone + message(ANNA, "after it went").replace("groupchat", kind))
    assert ANNA.encode() in core.mirror.waiting
    for _ in range(20):
        await asyncio.sleep(0)
    assert core.mirror.waiting == {}
    assert not [each for each in link.written if b"after it went" in each]
    assert link.engine.core.delivery.counts.hot[b"message"] == 1


@pytest.mark.abuse(8)
async def test_who_asks_for_much_waits_and_nobody_else_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(control_queue, "SLICE", 0.0)
    link = Link()
    crowded: list[bool] = []
    link.engine._stop_reading = crowded.append
    ask = (
        "<iq type='get' from='{0}' to='{1}' id='{2}'><ping xmlns='urn:xmpp:ping'/><a b='{3}'/></iq>"
    )
    link.reads("".join(ask.format(PHONE, OWN, number, 50_000 * "x") for number in range(200)))
    link.reads(ask.format(f"{BEN}/phone", OWN, "ben", ""))
    for _ in range(4):
        await asyncio.sleep(0)
    assert any(b"id='ben'" in each for each in link.written)
    for _ in link.engine._control.rest():
        pass
    assert not crowded
    # What had no room is answered all the same, or counted.
    counts = link.engine.counts
    assert counts["dropped", CROWDED] > 0
    refused = [each for each in link.written if b"<resource-constraint" in each]
    assert b"id='199'" in refused[-1]
    answered = sum(each.count(b"</iq>") + each.count(b"'/>") for each in link.written)
    assert answered >= 200


@pytest.mark.abuse(8)
@pytest.mark.parametrize("asker", [PHONE, "eve@evil.example/x"])
async def test_every_request_is_answered_however_many(
    monkeypatch: pytest.MonkeyPatch, asker: str
) -> None:
    """Those that find no room, not even for what is left out, at once."""
    monkeypatch.setattr(control_queue, "SLICE", 0.0)
    link = Link()
    ask = f"<iq type='%s' from='{asker}' to='{OWN}' id='n%d'><ping xmlns='urn:xmpp:ping'/></iq>"
    many = 8_000
    link.reads("".join(ask % ("set" if number % 2 else "get", number) for number in range(many)))
    for _ in link.engine._control.rest():
        pass
    answered = re.findall(rb"id='n(\d+)'", b"".join(link.written))
    assert sorted(map(int, answered)) == list(range(many))


@pytest.mark.abuse(8)
async def test_a_strangers_flood_is_not_in_the_way_of_whom_it_is_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(control_queue, "SLICE", 0.0)
    link = Link()
    stranger = message(BEN, "hello").replace(COVEN, "den@evil.example")
    link.reads(stranger * 1_000)
    assert BEN.encode() not in link.engine.core.mirror.waiting
    link.reads(message(BEN, "at once"))
    assert link.written[-1] == message(f"{BEN}/phone", "at once").encode()


async def test_no_more_is_read_while_much_waits_for_the_store() -> None:
    """A server tells a process that takes over all at once; Redis may take its time."""
    heard: list[bool] = []
    link = Link(heard.append)
    failover = link.engine._failover
    failover.leadership.state = State.ACCEPTED
    released = asyncio.Event()

    async def take_over() -> int:
        await released.wait()
        return 0

    failover._store.take_over = take_over  # type: ignore[method-assign]
    size = 50_000
    for _ in range(control_queue.MOST // size + 1):
        link.reads(message(ANNA, "b" * size))
    assert heard == [True]
    released.set()
    assert failover._takeover is not None
    await failover._takeover
    assert heard == [True, False]
    assert failover._held == []
    assert failover.leadership.state is State.LEADING


@pytest.mark.parametrize("content", ["<body/>", "<addresses/>"])
async def test_what_comes_to_the_gathering_without_addresses_is_left_out(content: str) -> None:
    link = Link()
    link.engine.core.multicast._wanted = True
    link.engine.core.multicast.begin(SERVER)
    to = link.engine.core.multicast.gathering
    assert to is not None
    link.reads(f"<message from='{COVEN}' to='{to.decode()}' type='groupchat'>{content}</message>")
    link.reads(message(BEN, "goes on"))
    for _ in link.engine._control.rest():
        pass
    assert link.written == [message(f"{BEN}/phone", "goes on").encode()]
    assert link.engine.counts["dropped", "malformed"] == 1
