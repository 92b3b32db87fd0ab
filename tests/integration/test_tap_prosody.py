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
        await reload(tap)
        got = await tap.link.expect(match("message", from_=channel, to=gathering, body=body))
        assert [address.get("jid") for address in got.xml[0]] == users


async def reload(tap: TapHouse) -> None:
    """Reload the tap."""
    answer = await tap.fake.iq(
        f"<iq type='set' from='{tap.fake.jid}' to='{tap.domain}'>"
        "<reload xmlns='urn:example:test'/></iq>"
    )
    assert answer["type"] == "result", answer.raw


async def test_a_reload_keeps_requests_and_rosters_that_are_out(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    request, get = fresh("pam"), fresh("get")
    client.send(
        f"<iq type='set' id='{request}'><client-leave xmlns='{ns.PAM2}' channel='{channel}'/></iq>"
        f"<iq type='get' id='{get}'><query xmlns='{ns.ROSTER}'>"
        f"<annotate xmlns='{ns.MIX_ROSTER}'/></query></iq>"
    )
    part = await tap.link.expect(match("iq", to=client.jid, type="result"))
    await reload(tap)
    client.none(match("iq", id=get))
    mark = f"<channel xmlns='{ns.MIX_ROSTER}' participant-id='p'/>"
    tap.link.send(
        f"<iq type='result' id='{part['id']}' from='{client.bare}' to='{client.jid}'>"
        f"<query xmlns='{ns.ROSTER}'><item jid='{channel}'>{mark}</item></query></iq>"
        f"<iq type='result' id='{request}' from='{client.bare}' to='{client.jid}'/>"
    )
    got = await client.expect(match("iq", id=get, type="result"))
    assert "participant-id='p'" in got.raw.replace('"', "'")
    await client.expect(match("iq", id=request, type="result"))
    # Flags, the list of channels and members are as before.
    await tap.roster_set(client.bare, channel, "from")
    await tap.link.expect(match("iq", to=client.jid, type="set"))
    tap.fake.send(
        f"<message from='{channel}' to='{client.bare}' type='groupchat'><body>kept</body></message>"
    )
    await tap.link.expect(match("message", from_=channel, body="kept"))
    assert [s.body for s in await tap.archive(client, channel)] == ["kept"]


async def test_what_is_still_out_at_a_reload_has_its_time(tap: TapHouse) -> None:
    client = await tap.client()
    channel = await tap.joined(client.bare)
    get = fresh("get")
    client.send(
        f"<iq type='get' id='{get}'><query xmlns='{ns.ROSTER}'>"
        f"<annotate xmlns='{ns.MIX_ROSTER}'/></query></iq>"
    )
    await tap.link.expect(match("iq", to=client.jid, type="result"))
    await reload(tap)
    got = await client.expect(match("iq", id=get, type="result"), 10)
    assert channel in got.raw


async def test_there_is_a_bound_to_mix_domains(tap: TapHouse) -> None:
    """What the component names is remembered and stored, but not without end."""
    client = await tap.client()
    names = [f"d{number}.mix.example" for number in range(20_010)]
    for start in range(0, len(names), 2_500):
        await tap.services(*names[start : start + 2_500], complete=start == 0)
    for domain in (names[-1], names[0]):
        await tap.roster_set(client.bare, f"coven@{domain}", "from")
    # T8 of what is in a MIX domain, and of nothing else.
    reported = match("iq", type="set", from_=client.bare, to=tap.component)
    path = f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item"
    found = [push.xml.find(path) for push in tap.link.inbox.matching(reported)]
    assert [item is not None and item.get("jid") for item in found] == [f"coven@{names[0]}"]
    await tap.services(tap.fake.jid, complete=True)
