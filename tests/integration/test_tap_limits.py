"""What the taps keep for many together is bounded, too: those limits that no user meets alone.

The kind: a total, of an account, of a host or of a link, that grows by many small things of which
each is allowed. At the bound the effect is that of its kind: a roster goes as it is, a request is
answered, a link that takes nothing ends.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from harness import ns
from harness.client import RawClient
from harness.contrib import server, standing_still
from harness.examples import replaced
from harness.house import TapHouse
from harness.stanza import Match, match
from harness.stream import fresh
from talking import Traffic
from test_tap_prosody import reload

GROUPS = 12_000
"""In one roster item. Prosody's tap counts 200 bytes for each: 2.4 MB (look_at_roster)."""

TRIES = 3

QUERY = f"{{{ns.ROSTER}}}query"


async def heavy(tap: TapHouse, items: int) -> tuple[RawClient, str]:
    """Return a client with so many items of 2.4 MB in its roster, and one channel."""
    client = await tap.client()
    for number in range(items):
        groups = "".join(f"<group>{group}</group>" for group in range(GROUPS))
        await client.set(
            f"<query xmlns='{ns.ROSTER}'><item jid='r{number}@{tap.domain}'>{groups}</item></query>"
        )
    channel = await tap.joined(client.bare)
    await tap.fence(client)
    tap.drop_idle()
    return client, channel


def ask(client: RawClient) -> Match:
    """Ask for the roster with annotations, and return a matcher for the answer."""
    id_ = fresh("roster")
    client.send(
        f"<iq type='get' id='{id_}'><query xmlns='{ns.ROSTER}'>"
        f"<annotate xmlns='{ns.MIX_ROSTER}'/></query></iq>"
    )
    return match("iq", id=id_, type="result")


async def under_way(tap: TapHouse, client: RawClient) -> tuple[Match, str]:
    """Ask for a roster that goes to the component; return what answers it, and its part's id."""
    answer = ask(client)
    part = await tap.link.expect(match("iq", to=client.jid, has=QUERY), 20)
    return answer, part["id"]


def annotate(tap: TapHouse, client: RawClient, channel: str, id_: str) -> None:
    """Send a part of a roster back as the component does."""
    tap.link.send(
        f"<iq type='result' id='{id_}' from='{client.bare}' to='{client.jid}'>"
        f"<query xmlns='{ns.ROSTER}'><item jid='{channel}' subscription='none'>"
        f"<channel xmlns='{ns.MIX_ROSTER}' participant-id='p1'/></item></query></iq>"
    )


@pytest.fixture(name="prosody")
def only_prosody(tap: TapHouse) -> TapHouse:
    """Give Prosody's tap: in ejabberd each roster is in its session's own state."""
    if not tap.prosody:
        pytest.skip("ejabberd keeps them in the sessions")
    return tap


async def left_as_it_is(tap: TapHouse, first: RawClient, channel: str, second: RawClient) -> None:
    """Show that the second's roster goes at once while the first's waits, and waits afterwards."""
    mark = f"{QUERY}/{{{ns.ROSTER}}}item/{{{ns.MIX_ROSTER}}}channel"
    for _ in range(TRIES):
        tap.drop_idle()
        answer, id_ = await under_way(tap, first)
        roster = await second.expect(ask(second), 20)
        await tap.link.fence()
        await first.fence()
        if not first.count(answer):
            break
        # The first has waited for its five seconds before all this was seen.
    else:
        pytest.fail("this machine is too slow to see it")
    assert roster.find(mark) is None
    tap.link.none(match("iq", to=second.jid, has=QUERY))
    annotate(tap, first, channel, id_)
    await first.expect(answer, 20)
    # What has been delivered counts no more.
    _, id_ = await under_way(tap, second)
    annotate(tap, second, channel, id_)
    await tap.fence(second)


async def test_rosters_of_an_account_may_not_be_too_large_together(prosody: TapHouse) -> None:
    """8 MiB (ACCOUNT_WEIGHT); the first goes whatever it weighs."""
    first, channel = await heavy(prosody, 4)
    second = await prosody.client(first.account)
    await left_as_it_is(prosody, first, channel, second)


@pytest_asyncio.fixture(loop_scope="session")
async def small_host(prosody: TapHouse) -> AsyncIterator[TapHouse]:
    """Give a tap whose host has 5 MiB in place of 64: as much takes minutes to fill."""
    module = prosody.server.folder / "modules/mod_mixpam_tap.lua"
    text = module.read_text("utf-8")
    module.write_text(replaced(text, {"5000, 64 * MIB": "5000, 5 * MIB"}), "utf-8")
    await reload(prosody)
    yield prosody
    module.write_text(text, "utf-8")
    await reload(prosody)


async def test_rosters_of_a_host_may_not_be_too_large_together(small_host: TapHouse) -> None:
    """HOST_WEIGHT, of all accounts: two such items are less, three more."""
    first, channel = await heavy(small_host, 2)
    second, _ = await heavy(small_host, 1)
    await left_as_it_is(small_host, first, channel, second)


WAITING = 10_000
"""Requests before a process that reads rosters (mod_mixpam_tap_rosters)."""


@pytest.mark.timeout(120)
async def test_requests_before_who_reads_rosters(contrib: TapHouse) -> None:
    """The component gets an answer to every request, and an error to those beyond the limit."""
    await contrib.up()
    client = await contrib.client()
    for number in (1, 2, 3, 4):
        await server(contrib).erlang(f"sys:suspend(mod_mixpam_tap_rosters_{number})")
    contrib.drop_idle()
    try:
        for number in range(WAITING + 20):
            contrib.link.send(
                f"<iq type='get' id='w{number}' from='{contrib.component}' to='{client.bare}'>"
                f"<query xmlns='{ns.ROSTER}'/></iq>"
            )
        await contrib.link.fence()
        refused = contrib.link.inbox.matching(match("iq", from_=client.bare))
        assert [stanza["id"] for stanza in refused] == [f"w{WAITING + n}" for n in range(20)]
        assert {stanza.condition for stanza in refused} == {"resource-constraint"}
    finally:
        for number in (1, 2, 3, 4):
            await server(contrib).erlang(f"sys:resume(mod_mixpam_tap_rosters_{number})")
    await contrib.link.expect(match("iq", id=f"w{WAITING - 1}", type="result"), 60)
    answers = contrib.link.inbox.count(match("iq", from_=client.bare, type="result"))
    assert answers == WAITING
    await contrib.close_clients()


KEPT = (
    'begin {{Table, Bytes, _}} = persistent_term:get({{mod_mixpam_tap_batches, <<"{}">>}}), {} end'
)
"""What mod_mixpam_tap_batches keeps for a domain."""

LIMITS = {
    "rows": (
        "lists:foreach(fun(N) -> ets:insert(Table, {{filler, N}}) end, lists:seq(1, 100001))",
        "ets:match_delete(Table, {{filler, '_'}})",
    ),
    "bytes": ("counters:add(Bytes, 1, 134217729)", "counters:sub(Bytes, 1, 134217729)"),
}
"""How one more than may be kept gets there, and away again (mod_mixpam_tap_gatherer)."""

SENT = 100
"""Messages; the link may have 50 before it."""


@pytest.mark.parametrize("what", LIMITS)
async def test_a_link_that_takes_nothing_is_closed(contrib: TapHouse, what: str) -> None:
    """What is kept for it is put there at once: a hundred thousand messages take a minute."""
    house, (fill, empty) = contrib, LIMITS[what]
    await house.up()
    await house.services(house.fake.jid, complete=True, multicast=f"{house.component}/limits")
    client = await house.client()
    channel = await house.joined(client.bare)
    await house.fence()
    link = f'element(3, hd(ets:lookup(mixpam_link, <<"{house.domain}">>)))'
    since = len(house.server.process.lines)
    async with standing_still(house, link):
        await server(house).erlang(KEPT.format(house.domain, fill))
        for number in range(SENT):
            say(house, channel, client, f"m{number}")
        await house.fake.fence()
        await house.server.process.line("its link is closed", 30, since=since)
    with pytest.raises(AssertionError):
        await house.link.expect(lambda _: False, 30)
    assert not house.link.connected
    await server(house).erlang(KEPT.format(house.domain, empty))
    for _ in range(50):
        if await server(house).erlang("ets:info(mixpam_link, size)") == "0":
            break
        await asyncio.sleep(0.1)
    # All is in the archive, and the next link has what comes then.
    await house.up()
    say(house, channel, client, "next")
    await house.link.expect(match("message", id="next"))
    assert await Traffic(house, channel, [client]).archived(client) == SENT + 1
    await house.close_clients()


def say(house: TapHouse, channel: str, client: RawClient, id_: str) -> None:
    """Have a channel send a user a message."""
    house.fake.send(
        f"<message from='{channel}' to='{client.bare}' id='{id_}' type='groupchat'>"
        f"<body>{id_}</body></message>"
    )
