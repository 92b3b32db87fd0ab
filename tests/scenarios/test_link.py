"""Nobody ends the link that everybody shares: not by size, depth or spelling of a stanza.

The kind: whatever an XML parser has accepted, from whomever it comes and wherever it goes, is
passed on, replaced or left out, and the link goes on; and what the component writes is never
more than the server takes. Each test sends such stanzas the ways that there are (to the
component itself, in a request, in what a channel sends) while a neighbour's messages go on.
"""

import asyncio

import pytest
from harness import ns
from harness.bystander import Attack, Bystander, Neighbour, Withstands
from harness.client import RawClient
from harness.fake import error
from harness.inbox import Matcher
from harness.stack import FreshStack, Stack, client_join
from harness.stanza import match
from harness.stream import fresh
from redis.asyncio import Redis

from component.store.keys import Keys
from schemas.records import MembershipRecord

pytestmark = [pytest.mark.slow, pytest.mark.abuse(11)]

CAPABLE = 110_000
"""Line feeds in a stanza; with five bytes for each, it would be more than servers take."""


def spelled(content: int) -> dict[str, str]:
    """Give elements that are odd in their tags, with so many bytes of oddity."""
    name, quotes = "n" * content, "&apos;" * (content // 6)
    return {
        "attribute": f"<x xmlns='urn:x' {name}='1'/>",
        "element": f"<{name} xmlns='urn:x'/>",
        "prefix": f"<x xmlns='urn:x' xmlns:{name}='urn:y'><{name}:y/></x>",
        "value": f'<x xmlns="urn:x" y="{quotes}"/>',
        "raw quotes": f'<x xmlns="urn:x" y="{"&apos;" * (content // 6)}">{"&quot;" * 9}</x>',
        "marks in a value": f"<x xmlns='urn:x' y='{'/&gt;' * (content // 5)}'/>",
        "attributes": "<x xmlns='urn:x'"
        + "".join(f" a{number}=''" for number in range(content // 10))
        + "/>",
    }


def flush(stack: Stack, client: RawClient, size: int) -> None:
    """Write white space: the servers' parsers wait for more behind a large tag."""
    for link in (stack.fake, stack.stranger, client):
        link.write(" " * 2 * size)


async def unhurt(stack: Stack, neighbour: Neighbour, attack: Attack) -> None:
    """Have an attack go on that keeps the server itself busy; the neighbour loses nothing."""
    async with Bystander(stack, neighbour=neighbour) as bystander:
        await attack()
        report = await bystander.finish()
    assert not report.hurt


async def member(stack: Stack) -> tuple[RawClient, str]:
    """Return an online MIX client, and the channel it is in."""
    client = await stack.raw(await stack.user())
    await client.mix_online()
    return client, (await stack.joined(client)).jid


@pytest.mark.parametrize("size", [300, 40_000])
async def test_spellings_arrive_as_they_were(
    stack: Stack, withstands: Withstands, size: int
) -> None:
    client, channel = await member(stack)

    async def attack() -> None:
        for odd in spelled(size).values():
            # To the component, from a client and from a component elsewhere.
            client.send(f"<message to='{stack.component}'>{odd}</message>")
            client.send(f"<presence to='{stack.component}'>{odd}</presence>")
            stack.stranger.send(
                f"<message from='{stack.stranger.jid}' to='{stack.component}'>{odd}</message>"
            )
            # From the channel: what fits arrives as it was.
            id_ = stack.fake.say(channel, client.bare, "odd", odd)
            flush(stack, client, len(odd))
            got = await client.expect(by_id(id_))
            assert got.body == "odd"
            stack.fake.send(f"<presence from='{channel}/p' to='{client.bare}'>{odd}</presence>")
            flush(stack, client, len(odd))
            await client.expect(match("presence", **{"from": f"{channel}/p"}))
            # In a request, which has its answer.
            target = stack.fake.channel().jid
            asks = client_join(client.bare, target).replace("</join>", f"{odd}</join>")
            asked = asyncio.create_task(client.iq(asks, 15))
            await asyncio.sleep(0)
            flush(stack, client, len(odd))
            assert (await asked)["type"] in {"result", "error"}
            await asyncio.sleep(0.1)

    await withstands(attack)


@pytest.mark.parametrize("where", ["request", "presence", "message", "participant"])
async def test_tags_larger_than_the_limit(stack: Stack, neighbour: Neighbour, where: str) -> None:
    """What a quote is written with makes 40,000 bytes 240,000, and 200,000 a million."""
    client, channel = await member(stack)
    quotes = "'" * 200_000

    async def attack() -> None:
        for _ in range(3):
            match where:
                case "request":
                    id_ = fresh("large")
                    asks = client_join(client.bare, channel)
                    client.send(asks.replace("<iq", f'<iq id="{id_}{quotes}"', 1))
                case "presence":
                    client.send(f'<presence id="{quotes}"/>')
                case "message":
                    stack.fake.send(
                        f"<message from='{channel}' to='{client.bare}' type='groupchat'"
                        f' id="{quotes}"><body>b</body></message>'
                    )
                case "participant":
                    stack.fake.send(
                        f"<presence from='{channel}/p' to='{client.bare}' id=\"{quotes}\"/>"
                    )
            flush(stack, client, len(quotes))
            await asyncio.sleep(0.2)

    await unhurt(stack, neighbour, attack)
    if where == "presence":
        # It comes again with each new link.
        await stack.mixpam.stop()
        await stack.mixpam.start()
        await unhurt(stack, neighbour, stack.settle)


FEEDS = "\n" * CAPABLE


async def test_line_feeds_in_a_request_and_in_its_answer(
    stack: Stack, neighbour: Neighbour
) -> None:
    """Prosody's parser takes each by itself, and a while for all."""
    client, _ = await member(stack)
    target = stack.fake.channel(join=lambda asked: error(asked, "cancel", "not-allowed", FEEDS)).jid

    async def attack() -> None:
        for _ in range(3):
            asks = client_join(client.bare, target)
            asks = asks.replace("</join>", f"<x xmlns='urn:x'>{FEEDS}</x></join>")
            answer = await client.iq(asks, 15)
            assert answer["type"] == "error"
            assert "not-allowed" in answer.raw

    await unhurt(stack, neighbour, attack)


async def test_line_feeds_in_a_message_that_is_translated(
    stack: Stack, neighbour: Neighbour
) -> None:
    client, channel = await member(stack)
    forwarded = f"<forwarded xmlns='{ns.FORWARD}'/>"

    async def attack() -> None:
        for _ in range(3):
            id_ = stack.fake.say(channel, client.bare, FEEDS, forwarded, core=ns.CORE0)
            got = await client.expect(by_id(id_))
            assert got.find(f"{{{ns.CORE1}}}mix") is not None
            assert got.body == FEEDS

    await unhurt(stack, neighbour, attack)


def by_id(id_: str) -> Matcher:
    """Return a matcher for a message."""
    return match("message", id=id_)


async def test_a_list_of_domains_larger_than_a_stanza(fresh_stack: FreshStack) -> None:
    """Two and a half thousand domains of 200 letters, known from Redis at the start."""
    stack = await fresh_stack()
    client, channel = await member(stack)
    await stack.mixpam.stop()
    redis = Redis.from_url(stack.redis.url)
    record = MembershipRecord(channel="c@d", participant_id="1", nodes=[], core=1)
    domains = [f"{'d' * 60}.{'e' * 60}.{'f' * 60}.n{number}.example" for number in range(2_500)]
    for user in range(5):
        address = f"nobody{user}@{stack.domain}"
        await redis.hset(  # type: ignore[misc]
            Keys("mixpam").channels(address),
            mapping={
                f"c@{domain}": record.model_copy(
                    update={"channel": f"c@{domain}"}
                ).model_dump_json()
                for domain in domains[user * 500 : (user + 1) * 500]
            },
        )
    await redis.aclose()
    mark = stack.mixpam.mark()
    await stack.mixpam.start()
    await stack.settle(client)
    assert not [line for line in stack.mixpam.process.lines[mark:] if "link-down" in line]
    # The server is busy: users without an account leave two thousand channels elsewhere.
    id_ = stack.fake.say(channel, client.bare, "still here")
    await client.expect(by_id(id_), 15)
