"""Nobody ends the link that everybody shares: not by size, depth or spelling of a stanza.

The kind: whatever an XML parser has accepted, from whomever it comes and wherever it goes, is
passed on, replaced or left out, and the link goes on; and what the component writes is never
more than the server takes. Each test sends such stanzas the ways that there are (to the
component itself, in a request, in what a channel sends) while a neighbour's messages go on.
"""

import asyncio

import pytest
from harness import ns
from harness.bystander import Bystander, Neighbour, Withstands
from harness.client import RawClient
from harness.fake import error
from harness.inbox import Matcher
from harness.stack import Stack, client_join
from harness.stanza import match
from harness.steps import memberships
from harness.stream import fresh

pytestmark = pytest.mark.abuse(11)

CAPABLE = 200_000
"""Bytes that both servers take from their clients in one stanza."""


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


SPELLINGS = [
    pytest.param(spelling, size, id=f"{spelling} of {size}")
    for spelling in spelled(0)
    for size in (300, 40_000)
]


def flush(stack: Stack, client: RawClient, size: int) -> None:
    """Write white space: the servers' parsers wait for more behind a large tag."""
    for link in (stack.fake, stack.stranger, client):
        link.write(" " * 2 * size)


async def member(stack: Stack) -> tuple[RawClient, str]:
    """Return an online MIX client, and the channel it is in."""
    client = await stack.raw(await stack.user())
    await client.mix_online()
    return client, (await stack.joined(client)).jid


@pytest.mark.parametrize(("spelling", "size"), SPELLINGS)
async def test_spellings(stack: Stack, withstands: Withstands, spelling: str, size: int) -> None:
    odd = spelled(size)[spelling]
    client, channel = await member(stack)

    async def attack() -> None:
        for _ in range(3):
            # To the component, from a client and from a component elsewhere.
            client.send(f"<message to='{stack.component}'>{odd}</message>")
            client.send(f"<presence to='{stack.component}'>{odd}</presence>")
            stack.stranger.send(
                f"<message from='{stack.stranger.jid}' to='{stack.component}'>{odd}</message>"
            )
            # From the channel: what fits arrives as it was.
            id_ = stack.fake.say(channel, client.bare, "odd", odd)
            flush(stack, client, len(odd))
            await client.expect(match("message", id=id_))
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

    await withstands(attack)


@pytest.mark.parametrize("where", ["request", "presence", "message", "participant"])
async def test_tags_larger_than_the_limit(stack: Stack, withstands: Withstands, where: str) -> None:
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

    await withstands(attack)
    if where == "presence":
        # It comes again with each new link.
        await stack.mixpam.stop()
        await stack.mixpam.start()
        await withstands(stack.settle)


async def test_an_id_of_450_kilobytes(stack: Stack, withstands: Withstands) -> None:
    client, channel = await member(stack)

    async def attack() -> None:
        for kind in ("message", "presence", "iq"):
            type_ = {"message": "groupchat", "iq": "result"}.get(kind)
            written = f" type='{type_}'" if type_ else ""
            stack.fake.send(
                f"<{kind} from='{channel}' to='{client.bare}'{written} id='{'i' * 450_000}'/>"
            )
            flush(stack, client, 450_000)
            await asyncio.sleep(0.2)

    await withstands(attack)


async def test_a_stanza_that_a_prefix_makes_larger(stack: Stack, neighbour: Neighbour) -> None:
    """A namespace of 1,000 bytes, which Prosody writes with each of 15,000 elements.

    Beyond 32 MiB that wait for a connection, Prosody ends that itself.
    """
    client, channel = await member(stack)
    many = f"<x xmlns='urn:x' xmlns:p='{'u' * 1_000}'>{'<p:a/>' * 15_000}</x>"
    async with Bystander(stack, neighbour=neighbour) as bystander:
        for _ in range(2):
            stack.fake.say(channel, client.bare, "large", many)
            await stack.settle()
        stack.fake.send(f"<presence from='{channel}/p' to='{client.bare}'>{many}</presence>")
        await stack.settle()
        report = await bystander.finish()
    # How long the server itself is busy with it is nothing that we could change.
    assert not report.hurt


FEEDS = "\n" * CAPABLE


async def test_line_feeds_in_a_request_and_in_its_answer(
    stack: Stack, neighbour: Neighbour
) -> None:
    """Prosody's parser takes each by itself, and a while for all: only that all comes counts."""
    client, _ = await member(stack)
    target = stack.fake.channel(join=lambda asked: error(asked, "cancel", "not-allowed", FEEDS)).jid

    async def attack() -> None:
        for _ in range(3):
            asks = client_join(client.bare, target)
            asks = asks.replace("</join>", f"<x xmlns='urn:x'>{FEEDS}</x></join>")
            answer = await client.iq(asks, 15)
            assert answer["type"] == "error"
            assert "not-allowed" in answer.raw

    async with Bystander(stack, neighbour=neighbour) as bystander:
        await attack()
        report = await bystander.finish()
    assert not report.hurt


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

    async with Bystander(stack, neighbour=neighbour) as bystander:
        await attack()
        report = await bystander.finish()
    assert not report.hurt


def by_id(id_: str) -> Matcher:
    """Return a matcher for a message."""
    return match("message", id=id_)


@pytest.mark.parametrize("depth", [90, 120, 20_000])
async def test_depth(stack: Stack, withstands: Withstands, depth: int) -> None:
    client, channel = await member(stack)
    deep = "<x>" * depth + "</x>" * depth

    async def attack() -> None:
        stack.fake.say(channel, client.bare, "deep", deep)
        stack.stranger.send(
            f"<message from='{stack.stranger.jid}' to='{stack.component}'>{deep}</message>"
        )
        await asyncio.sleep(0.3)

    await withstands(attack)


async def test_participant_ids_of_quotes_in_many_channels(
    stack: Stack, withstands: Withstands
) -> None:
    client = await stack.raw(await stack.user())
    await client.mix_online()
    channels = [
        (await stack.joined(client, pid="&apos;" * 1_000, by=("id",))).jid for _ in range(60)
    ]

    async def attack() -> None:
        for _ in range(2):
            found = await memberships(client)
            assert {found[channel] for channel in channels} == {"'" * 1_000}

    await withstands(attack)
