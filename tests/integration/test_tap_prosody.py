"""What only Prosody's tap must stand: filters of other modules on a session, and a reload."""

import pytest
import pytest_asyncio
from harness import ns
from harness.client import RawClient
from harness.house import TapHouse
from harness.stanza import match
from harness.stream import fresh

TOUCHED = "{urn:example:test}touched"


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def prosody(tap: TapHouse) -> None:
    """Skip what is about another server."""
    if not tap.prosody:
        pytest.skip("about Prosody")


@pytest.mark.parametrize("smacks", [False, True])
@pytest.mark.parametrize("archived", [False, True])
async def test_filters_have_their_way_with_each_copy(
    tap: TapHouse, archived: bool, smacks: bool
) -> None:
    """C6 is written once; a session's filter may change its own copy and no other."""
    account = await tap.user()
    devices = {}
    for kind in ("touch", "plain", "clone", "drop", "last"):
        devices[kind] = RawClient(account, f"filter-{kind}-{fresh()}")
        tap.clients.append(await devices[kind].login(smacks=smacks))
    await devices["last"].roster(annotate=True)
    channel = tap.channel()
    id_ = " id='a1'" if archived else ""
    addresses = "".join(
        f"<address type='to' jid='{device.jid}'{id_}/>" for device in devices.values()
    )
    for body in ("1", "2"):
        tap.link.send(
            f"<message from='{channel}' to='{tap.domain}' type='groupchat' id='m1'>"
            f"<addresses xmlns='{ns.ADDRESS}'>{addresses}</addresses><body>{body}</body></message>"
        )
    await tap.link.fence()
    for kind, device in devices.items():
        await device.fence()
        got = device.inbox.matching(match("message", from_=channel))
        assert [(s.body, s["to"]) for s in got] == (
            [] if kind == "drop" else [("1", device.jid), ("2", device.jid)]
        )
        for stanza in got:
            assert len(stanza.all(TOUCHED)) == (kind in {"touch", "clone"})
            ids = [(e.get("by"), e.get("id")) for e in stanza.all(f"{{{ns.SID}}}stanza-id")]
            assert ids == ([(account.jid, "a1")] if archived else [])


async def test_a_reload_keeps_what_is_gathered_and_where_it_goes(tap: TapHouse) -> None:
    gathering = f"{tap.component}/{fresh('secret')}"
    await tap.services(tap.fake.jid, complete=True, multicast=gathering)
    users = [(await tap.user()).jid for _ in range(3)]
    channel = tap.channel()
    for body in ("before", "after"):
        messages = "".join(
            f"<message from='{channel}' to='{user}' type='groupchat'><body>{body}</body></message>"
            for user in users
        )
        tap.fake.write(messages)
        answer = await tap.fake.iq(
            f"<iq type='set' from='{tap.fake.jid}' to='{tap.domain}'>"
            "<reload xmlns='urn:example:test'/></iq>"
        )
        assert answer["type"] == "result", answer.raw
        got = await tap.link.expect(match("message", from_=channel, to=gathering, body=body))
        assert [address.get("jid") for address in got.xml[0]] == users
