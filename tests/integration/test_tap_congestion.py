"""A component that does not read: what waits for it is bounded, and nobody else waits.

The kind: everything that goes over the link is kept by the server for as long as the component
does not take it. What can be left out is (messages are in the archive), what cannot is kept in
its shortest form, and all is well when the component goes on.
"""

import asyncio
from typing import cast

import pytest
from harness import ns
from harness.house import TapHouse
from harness.stanza import match
from harness.stream import fresh

SENT = 250
SIZE = 200_000
"""Messages, and bytes of each: three times what may wait. It takes half a minute where nothing
else runs, so each test has more than the usual one."""


def stop_reading(tap: TapHouse) -> asyncio.ReadTransport:
    """Read nothing more as the component; give what reading goes on by."""
    assert tap.link._writer is not None
    transport = cast("asyncio.ReadTransport", tap.link._writer.transport)
    transport.pause_reading()
    return transport


async def crowd(tap: TapHouse, channel: str, user: str) -> None:
    """Have a channel send a user more than may wait for the component."""
    body = "x" * SIZE
    for number in range(SENT):
        tap.fake.send(
            f"<message from='{channel}' to='{user}' type='groupchat' id='m{number}'>"
            f"<no-store xmlns='{ns.HINTS}'/><body>{body}</body></message>"
        )
        if number % 25 == 0:
            await tap.fake.fence()
    await tap.fake.fence()


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_what_waits_for_the_component_is_bounded(tap: TapHouse) -> None:
    if not tap.prosody:
        pytest.skip("ejabberd closes a link that lags (max_fsm_queue)")
    client, other = await tap.client(), await tap.client()
    channel = await tap.joined(client.bare)
    transport = stop_reading(tap)
    before = len(tap.link.received)
    await crowd(tap, channel, client.bare)
    # The server goes on with everybody else, and says so to who asks for something.
    await other.fence()
    refused = await other.iq(
        f"<iq type='set' to='{other.bare}'><client-join xmlns='{ns.PAM2}' channel='{channel}'>"
        f"<join xmlns='{ns.CORE1}'/></client-join></iq>"
    )
    assert refused.condition == "resource-constraint"
    await tap.fake.fence()
    roster = await client.roster(annotate=True)
    assert roster["type"] == "result"
    for number in range(20):
        other.presence(f"<status>{number} {'y' * 50_000}</status>")
    new = await tap.client()
    await new.close()
    tap.clients.remove(new)
    await other.fence()
    transport.resume_reading()
    gone = match("presence", from_=new.jid, type="unavailable")
    await tap.link.expect(gone, 30)
    # The presence as it is now, whatever was left out between.
    status = f"{{{ns.CLIENT}}}status"
    await tap.link.expect(
        match("presence", from_=other.jid, test=lambda s: (s.text(status) or "").startswith("19 ")),
        10,
    )
    assert len(tap.link.received) - before < 32 * 1024 * 1024
    await asyncio.sleep(0.2)
    id_ = fresh("m")
    tap.fake.send(
        f"<message from='{channel}' to='{client.bare}' type='groupchat' id='{id_}'>"
        "<body>on</body></message>"
    )
    await tap.link.expect(match("message", id=id_), 10)
    assert tap.link.connected


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_what_users_send_waits_in_its_shortest_form(tap: TapHouse) -> None:
    """Presence above all: the last one of a session is what counts."""
    clients = [await tap.client() for _ in range(3)]
    late = await tap.client()
    channel = await tap.joined(late.bare)
    transport = stop_reading(tap)
    before = len(tap.link.received)
    text = "y" * SIZE
    for number in range(60):  # the sockets' own buffers take a third of it
        for client in clients:
            client.presence(f"<status>{number} {text}</status>")
            client.inbox.clear()
            client.received = b""
            await client.fence()
    refused = await late.iq(
        f"<iq type='set' to='{late.bare}'><client-join xmlns='{ns.PAM2}' channel='{channel}'>"
        f"<join xmlns='{ns.CORE1}'/></client-join></iq>"
    )
    assert refused.condition == "resource-constraint"
    roster = await late.roster(annotate=True)
    assert roster["type"] == "result"
    new = await tap.client()
    await new.close()
    tap.clients.remove(new)
    clients[0].send("<presence type='unavailable'/>")
    await clients[0].fence()
    transport.resume_reading()
    status = f"{{{ns.CLIENT}}}status"
    for client in clients[1:]:
        last = match(
            "presence", from_=client.jid, test=lambda s: (s.text(status) or "").startswith("59 ")
        )
        await tap.link.expect(last, 60)
    await tap.link.expect(match("presence", from_=clients[0].jid, type="unavailable"), 10)
    await tap.link.expect(match("presence", from_=new.jid, type="unavailable"), 10)
    assert len(tap.link.received) - before < 32 * 1024 * 1024
    assert tap.link.connected
    # And as it should be.
    request = f"<iq type='set' id='again' to='{late.bare}'><client-join xmlns='{ns.PAM2}'/></iq>"
    late.send(request)
    await tap.link.expect(match("iq", id="again"), 10)


ENDED = "{urn:example:test}ended"


async def ended_sessions(tap: TapHouse) -> int:
    """Return how many sessions that have ended Prosody still has in memory."""
    answer = await tap.fake.iq(
        f"<iq type='get' from='{tap.fake.jid}' to='{tap.domain}'>"
        "<ended xmlns='urn:example:test'/></iq>"
    )
    element = answer.xml.find(ENDED)
    assert element is not None, answer.raw
    return int(element.get("count", "-1"))


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_nothing_is_kept_of_sessions_that_have_ended(tap: TapHouse) -> None:
    """Who comes and goes while the component does not read must not fill the memory."""
    if not tap.prosody:
        pytest.skip("in ejabberd what waits is in the session's own process")
    if tap.kind == "prosody-0.12":
        pytest.skip("Prosody 0.12 keeps sessions that have ended, with and without the tap")
    talker = await tap.client()
    channel = await tap.joined(talker.bare)
    transport = stop_reading(tap)
    before = await ended_sessions(tap)
    await crowd(tap, channel, talker.bare)
    for _ in range(6):
        guest = await tap.client()
        guest.presence("<status>here</status>")
        await guest.fence()
        await guest.close()
        tap.clients.remove(guest)
    for _ in range(20):  # the server itself is slow to let go of the last
        kept = await ended_sessions(tap) - before
        if kept <= 1:
            break
        await asyncio.sleep(0.5)
    transport.resume_reading()
    assert kept <= 1
    gone = match("presence", from_=guest.jid, type="unavailable")
    await tap.link.expect(gone, 90)
    assert tap.link.connected
