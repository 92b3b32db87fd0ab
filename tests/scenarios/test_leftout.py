"""What is left out has the effect that its kind demands, and nobody else notices.

The kind: any stanza that a server passes on and that is too large, too deep, has too many elements
or is spelled as trees cannot hold it. Here every kind of stanza is sent in every such way, by
real clients and channels: a request of a client is answered with the reason, an answer of a
channel ends what it answers, presence counts by its type, what may have been a kick is asked
after, a stranger is refused as ever, and a roster of any size is annotated, or read.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from harness import caps, ns
from harness.bystander import Withstands
from harness.client import Account, RawClient
from harness.fake import Script, is_join, joined, result
from harness.mixpam import Mixpam
from harness.stack import FreshStack, Stack, client_join, client_leave
from harness.stanza import Stanza, match
from harness.steps import leaves, memberships
from harness.stream import fresh

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ITEM = f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item"
NET = 5.0
"""Seconds after which the tap delivers a roster that did not come back."""

QUOTES = '"' * 60_000
"""Servers write each of them in six bytes, so that it is larger than what we take."""

ATTRIBUTE = f"""<a b='{'"' * 1_000}'/>"""
WAYS = {
    "quotes": f"<x xmlns='urn:test:x'>{QUOTES}</x>",
    "deep": "<x xmlns='urn:test:x'>" * 120 + "</x>" * 120,
    "many": f"<x xmlns='urn:test:x'>{'<a/>' * 50_010}</x>",
    "brace": "<x xmlns='urn:test:}x'/>",
    # Not in one piece: a server's own parser may wait for more behind a large one.
    "attributes": f"<x xmlns='urn:test:x'>{60 * ATTRIBUTE}</x>",
}
PASSED_ON = [way for way in WAYS if way != "brace"]
"""Ways that the clients here can read themselves, where it is passed on as it is."""


@pytest_asyncio.fixture(loop_scope="session")
async def client(stack: Stack) -> AsyncIterator[RawClient]:
    """Give a test an online MIX client of a fresh user."""
    made = await stack.raw(await stack.user())
    await made.mix_online()
    yield made


def text_of(answer: Stanza) -> str:
    return answer.need(f"{{{ns.CLIENT}}}error").findtext(f"{{{ns.STANZAS}}}text", "")


def filled(request: str, inner: str) -> str:
    """Return a client-join with this in it."""
    return request.replace("</join>", f"{inner}</join>")


# -- requests ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_join_that_cannot_be_read_is_answered(
    stack: Stack, client: RawClient, way: str, withstands: Withstands
) -> None:
    channel = stack.fake.channel()
    request = client_join(client.bare, channel.jid)

    async def attack() -> None:
        for _ in range(3):
            answer = await client.iq(filled(request, WAYS[way]), 10)
            assert answer["type"] == "error", answer.raw[:500]
            assert text_of(answer)

    (await withstands(attack)).check()
    await stack.settle(client)
    stack.fake.none(is_join(channel.jid))
    # And as it should be, at once.
    await stack.join(client, channel)


async def test_a_nick_of_quotes_and_a_large_id(stack: Stack, client: RawClient) -> None:
    channel = stack.fake.channel()
    answer = await client.iq(client_join(client.bare, channel.jid, QUOTES), 10)
    assert answer["type"] == "error"
    assert "262,144" in text_of(answer)
    id_ = "i" * 10_000
    request = client_join(client.bare, channel.jid).replace("<iq ", f"<iq id='{id_}' ", 1)
    client.send(request)
    answer = await client.expect(match("iq", id=id_), 10)
    assert answer["type"] == "error"


@pytest.mark.parametrize("way", WAYS)
async def test_a_request_to_the_component_is_answered(stack: Stack, way: str) -> None:
    answer = await stack.probe(WAYS[way])
    assert answer["type"] == "error"
    assert text_of(answer)


# -- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_a_join_whose_result_cannot_be_read_comes_to_nothing(
    stack: Stack, client: RawClient, way: str
) -> None:
    def answers(request: Stanza) -> str:
        return filled(joined(request, channel), WAYS[way])

    channel: Script = stack.fake.channel(join=answers)
    answer = await client.iq(client_join(client.bare, channel.jid), 10)
    assert answer["type"] == "error"
    assert text_of(answer)
    await stack.fake.expect(leaves(channel.jid), 10)
    assert await memberships(client) == {}
    channel.join = None
    await stack.settle(client)
    await stack.join(client, channel)
    assert await memberships(client) == {channel.jid: channel.pid}


async def test_a_leave_whose_result_cannot_be_read_is_one(stack: Stack, client: RawClient) -> None:
    channel = await stack.joined(client, leave=lambda stanza: result(stanza, WAYS["quotes"]))
    request = (
        f"<iq type='set' to='{client.bare}'><client-leave xmlns='{ns.PAM2}'"
        f" channel='{channel.jid}'><leave xmlns='{ns.CORE1}'/></client-leave></iq>"
    )
    answer = await client.iq(request, 10)
    assert answer["type"] == "result", answer.raw
    assert await memberships(client) == {}


# -- sessions and participants -------------------------------------------------------------------


@pytest.mark.parametrize("way", PASSED_ON)
async def test_a_session_is_there_and_gone_whatever_its_presence(stack: Stack, way: str) -> None:
    client = await stack.raw(await stack.user())
    client.features = caps.MIX
    await client.online(WAYS[way])
    channel = await stack.joined(client)
    shown = match("presence", **{"from": client.jid, "to": channel.jid})
    assert (await stack.fake.expect(shown, 10))["type"] == ""
    id_ = stack.fake.say(channel.jid, client.bare, "hello")
    await client.expect(match("message", id=id_), 10)
    client.send(f"<presence type='unavailable'>{WAYS[way]}</presence>")
    assert (await stack.fake.expect(shown, 10))["type"] == "unavailable"


@pytest.mark.parametrize("way", PASSED_ON)
async def test_a_participant_is_there_and_gone_whatever_the_presence(
    stack: Stack, client: RawClient, way: str
) -> None:
    channel = await stack.joined(client)
    them = f"them#{channel.jid}/r"
    seen = match("presence", **{"from": them})
    stack.fake.send(f"<presence from='{them}' to='{client.bare}'>{WAYS[way]}</presence>")
    assert (await client.expect(seen, 10))["type"] == ""
    stack.fake.send(
        f"<presence type='unavailable' from='{them}' to='{client.bare}'>{WAYS[way]}</presence>"
    )
    assert (await client.expect(seen, 10))["type"] == "unavailable"


# -- messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", PASSED_ON)
async def test_a_kick_that_cannot_be_read_is_one_all_the_same(
    stack: Stack, client: RawClient, way: str
) -> None:
    def tells(stanza: Stanza) -> str:
        return result(
            stanza, f"<pubsub xmlns='{ns.PUBSUB}'><items node='{ns.NODES}participants'/></pubsub>"
        )

    channel = await stack.joined(client, other=tells)
    stays = await stack.joined(client)
    inner = f"<retract id='{channel.pid}'/>"
    stack.fake.send(
        f"<message from='{channel.jid}' to='{client.bare}'><event xmlns='{ns.PUBSUB_EVENT}'>"
        f"<items node='{ns.NODES}participants'>{inner}</items></event>{WAYS[way]}</message>"
    )
    await client.roster(annotate=True)
    await client.expect(match("iq", type="set", has=f"{ITEM}[@subscription='remove']"), 20)
    assert await memberships(client) == {stays.jid: stays.pid}


async def test_a_stranger_is_refused_as_ever(stack: Stack, client: RawClient) -> None:
    for content in WAYS.values():
        channel, id_ = stack.fake.channel(), fresh("m")
        stack.fake.send(
            f"<message type='groupchat' from='{channel.jid}' to='{client.bare}' id='{id_}'>"
            f"<mix xmlns='{ns.CORE1}'/>{content}</message>"
        )
        answer = await stack.fake.expect(match("message", id=id_, to=channel.jid), 10)
        assert answer.find(f"{{{ns.CLIENT}}}error/{{{ns.STANZAS}}}service-unavailable") is not None


# -- rosters -------------------------------------------------------------------------------------


async def many_items(stack: Stack, client: RawClient, number: int, name: str) -> None:
    """Put so many items in a MIX domain into the roster."""
    attribute = f" name='{name}'" if name else ""
    for start in range(0, number, 100):
        await asyncio.gather(
            *(
                client.iq(
                    f"<iq type='set'><query xmlns='{ns.ROSTER}'>"
                    f"<item jid='nobody{start + each}@{stack.fake.jid}'{attribute}/>"
                    "</query></iq>",
                    60,
                )
                for each in range(min(100, number - start))
            )
        )


# Three pages and more parts than one.
LARGE = {"1,100 items": (1_100, ""), "400 kB": (40, "n" * 1_000 + "&quot;" * 1_500)}


@pytest.fixture(scope="module")
def with_large_rosters() -> dict[tuple[str, str], Account]:
    """Return who has a roster of that size on a server: to write one takes most of the time."""
    return {}


@pytest_asyncio.fixture(loop_scope="session", params=LARGE)
async def large(
    request: pytest.FixtureRequest,
    stack: Stack,
    with_large_rosters: dict[tuple[str, str], Account],
) -> RawClient:
    """Give a test a client of a user with a large roster, in no channel."""
    key = stack.kind, request.param
    if key not in with_large_rosters:
        filling = await stack.raw(await stack.user())
        await many_items(stack, filling, *LARGE[request.param])
        with_large_rosters[key] = filling.account
    return await stack.raw(with_large_rosters[key])


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_large_roster_is_annotated_and_soon(stack: Stack, large: RawClient) -> None:
    client = large
    channels = [await stack.joined(client) for _ in range(5)]
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await memberships(client) == {channel.jid: channel.pid for channel in channels}
    assert loop.time() - began < NET - 1
    for channel in channels:
        await client.iq(client_leave(client.bare, channel.jid))


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_what_goes_from_a_large_roster_meanwhile_is_left(
    breakable: Stack, large: RawClient
) -> None:
    stack, client = breakable, large
    channel, stays = [await stack.joined(client) for _ in range(2)]
    await stack.mixpam.stop()
    client.components = []
    await client.iq(
        f"<iq type='set'><query xmlns='{ns.ROSTER}'>"
        f"<item jid='{channel.jid}' subscription='remove'/></query></iq>"
    )
    await stack.mixpam.start()
    await stack.fake.expect(leaves(channel.jid), 30)
    assert await memberships(client) == {stays.jid: stays.pid}


# -- taps ------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_tap_that_is_missing_is_told_of(fresh_stack: FreshStack) -> None:
    stack = await fresh_stack(component=False)
    domains = f"{stack.domain},nobody-serves.example"
    mixpam = Mixpam(stack.server, stack.redis.url, MIXPAM_DOMAINS=domains)
    await mixpam.process.start()
    try:
        await mixpam.process.line(r'"tap-missing"', 30)
        missing = [record["domain"] for record in mixpam.events("tap-missing")]
    finally:
        await mixpam.stop()
    assert missing == ["nobody-serves.example"]
