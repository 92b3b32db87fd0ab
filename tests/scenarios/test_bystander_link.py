"""One peer's stanza and the link that everybody shares.

The kind: nothing that an XML parser has accepted may end the link, whatever its size, depth or
spelling, and nothing may be written that the server refuses. Where it may come from: a
stranger's stanza to the component, a client's request, a client's presence (which the
server says again at every start), a channel's message, presence, event and answer. What may be
large: names, attributes, values that grow when they are escaped, prefixes that are
written out, levels, children, and what mixpam writes itself: errors, translations, rosters.
"""

import asyncio
from collections.abc import Callable

import pytest
from harness import ns
from harness.bystander import LONG, Withstands
from harness.client import RawClient
from harness.fake import error, is_join
from harness.stack import Stack, client_join
from harness.stanza import match
from harness.steps import memberships, session
from harness.stream import Stream, fresh

pytestmark = [pytest.mark.slow, pytest.mark.abuse(11), pytest.mark.timeout(120)]

ROUNDS = 10 if LONG else 1
QUOTES = "&quot;"


async def member(stack: Stack) -> tuple[RawClient, str]:
    """Return an online MIX client of a fresh user, and the channel the user is in."""
    client = await stack.raw(await stack.user())
    await client.mix_online()
    return client, (await stack.joined(client)).jid


def message(channel: str, to: str, inner: str, attributes: str = "") -> str:
    """Return a channel's message with anything in it."""
    return (
        f"<message from='{channel}' to='{to}' type='groupchat' {attributes}><body>b</body>{inner}"
        f"<mix xmlns='{ns.CORE1}'><nick>n</nick></mix></message>"
    )


def join(client: RawClient, channel: str, inner: str, id_: str) -> str:
    """Return a client-join with an id and anything in it."""
    request = client_join(client.bare, channel).replace("</join>", f"{inner}</join>")
    return request.replace("<iq", f"<iq id='{id_}'", 1)


async def tell(peer: Stream, *stanzas: str) -> None:
    """Send some 400 kB a second: a server has work enough with so much XML."""
    for stanza in stanzas:
        peer.send(stanza)
        await asyncio.sleep(len(stanza) / 400_000)


async def answered(client: RawClient, ids: list[str]) -> None:
    """Wait until each request has its answer, whichever it is."""
    for id_ in ids:
        await client.expect(match("iq", id=id_), 10)


async def everywhere(
    stack: Stack, make: Callable[[], str], *, requests: bool = True, own: bool = True
) -> None:
    """Send an odd child in every kind of stanza that peers can send; requests are answered.

    Without `own` the client, which gets its own presence back, sends none.
    """
    client, channel = await member(stack)
    ids = []
    for _ in range(ROUNDS):
        await tell(
            stack.stranger,
            f"<message from='{stack.stranger.jid}' to='{stack.component}'>{make()}</message>",
            f"<iq type='get' id='{fresh('odd')}' from='{stack.stranger.jid}' "
            f"to='{stack.component}'>{make()}</iq>",
        )
        await tell(stack.fake, message(channel, client.bare, make()))
        await tell(
            stack.fake, f"<presence from='p#{channel}' to='{client.bare}'>{make()}</presence>"
        )
        stack.fake.event(channel, client.bare, "participants", f"<item id='p'>{make()}</item>")
        if requests:
            ids.append(fresh("odd"))
            await tell(client, join(client, stack.fake.channel().jid, make(), ids[-1]))
        if own:
            await tell(client, f"<presence>{make()}</presence>")
        await client.fence()
    await answered(client, ids)
    assert channel in await memberships(client)


async def past_mixpam(stack: Stack, make: Callable[[], str]) -> None:
    """Send as much as `everywhere` does to somebody whom mixpam does not serve."""
    client = await stack.raw(await stack.user())
    await client.online()
    peer, to = stack.stranger, client.jid
    for _ in range(ROUNDS):
        for attributes in ("type='chat'", "type='groupchat'", ""):
            await tell(
                peer, f"<message from='{peer.jid}' to='{to}' {attributes}>{make()}</message>"
            )
        id_ = fresh("odd")
        await tell(peer, f"<iq type='get' id='{id_}' from='{peer.jid}' to='{to}'>{make()}</iq>")
        await tell(peer, f"<presence from='p@{peer.jid}' to='{to}'>{make()}</presence>")
        await tell(client, f"<presence>{make()}</presence>")
        await client.fence()


async def test_names_of_any_length(stack: Stack, withstands: Withstands) -> None:
    """Of attributes, elements and prefixes: parsers know no limit, so the framer has none."""

    def made() -> list[str]:
        a, b = "a" * 300, "b" * 20_000
        return [
            f"<x xmlns='urn:x' {a}='1'/>",
            f"<x xmlns='urn:x' {b}='1' {a}=''/>",
            f"<{a} xmlns='urn:x'><{b}/></{a}>",
            f"<{a}:x xmlns:{a}='urn:x' {a}:{a}='1'/>",
        ]

    async def attack() -> None:
        for child in made():
            await everywhere(stack, lambda child=child: child)  # type: ignore[misc]

    await withstands(attack, busy_server=True)


async def test_names_of_xml_itself(stack: Stack, withstands: Withstands) -> None:
    """What the prefix `xml` stands for no other may, and servers write it out all the same."""

    async def attack() -> None:
        for child in (
            "<xml:x/>",
            "<x xmlns='urn:x'><xml:x xml:lang='en'><y xmlns='urn:y'/></xml:x>text</x>",
            "<x xmlns='urn:x' xml:other='1' xml:lang='en' xml:to='2'/>",
            "<x xmlns='urn:x' xmlns:a='urn:a' a:to='1' a:xmlns='2' a:from='3'/>",
        ):
            await everywhere(stack, lambda child=child: child, own=False)  # type: ignore[misc]
        client, channel = await member(stack)
        for core in (ns.CORE0, ns.CORE1):
            stack.fake.say(channel, client.bare, "body", "<xml:x/>", core=core)
            await tell(stack.fake, message(channel, client.bare, "", f"xml:{fresh('a')}='1'"))
        await stack.settle(client)
        assert client.count(match("message", from_=channel)) == 4

    await withstands(attack, busy_server=True)


async def test_start_tags_that_grow(stack: Stack, withstands: Withstands) -> None:
    """An id of 200 kB of quotes is six times that when the server has escaped it.

    In presence it comes back at every start, so the component is one that starts with it.
    """

    async def attack() -> None:
        client, channel = await member(stack)
        large = QUOTES * 30_000
        raw = '"' * 200_000
        for _ in range(ROUNDS):
            await tell(client, f"<presence id='{raw}'/>")
            request = client_join(client.bare, stack.fake.channel().jid)
            await tell(client, request.replace("<iq", f"<iq id='{raw}'", 1))
            await tell(stack.fake, message(channel, client.bare, "", f"id='{large}'"))
            await tell(stack.fake, message(channel, client.bare, "", f"id='{raw}'"))
            await tell(stack.fake, f"<presence from='p#{channel}' to='{client.bare}' id='{raw}'/>")
            await tell(
                stack.stranger,
                f"<iq type='get' id='{raw}' from='{stack.stranger.jid}' to='{stack.component}'/>",
            )
            await client.fence()

    await withstands(attack, busy_server=True)


async def test_ids_as_large_as_a_remote_server_sends_them(
    stack: Stack, withstands: Withstands
) -> None:
    async def attack() -> None:
        client, channel = await member(stack)
        for _ in range(ROUNDS):
            for name in ("id", "xml:lang"):
                await tell(
                    stack.fake,
                    f"<message from='{channel}' to='{client.bare}' {name}='{'x' * 450_000}'>"
                    f"<mix xmlns='{ns.CORE1}'/></message>",
                )
            await stack.fake.fence()

    await withstands(attack, busy_server=True)


async def test_prefixes_that_are_written_out(stack: Stack, withstands: Withstands) -> None:
    """One declaration of a long namespace and many uses: the server may write it each time."""
    uses = 400 if LONG else 60
    space = "urn:" + "n" * 100_000

    async def attack() -> None:
        inner = f"<x xmlns:p='{space}'>{'<p:y/>' * uses}</x>"
        await everywhere(stack, lambda: inner)

    async def past() -> None:
        inner = f"<x xmlns:p='{space}'>{'<p:y/>' * uses}</x>"
        await past_mixpam(stack, lambda: inner)

    await withstands(attack, busy_server=True, past_mixpam=past)


async def test_what_mixpam_writes_itself(stack: Stack, withstands: Withstands) -> None:
    """Line feeds may be written as `&#10;`, and trees repeat namespaces: both grow.

    A request, a channel's refusal, and a message that has to be translated.
    """
    feeds = "\n" * 200_000

    async def attack() -> None:
        client, channel = await member(stack)
        for _ in range(ROUNDS):
            id_ = fresh("grow")
            await tell(client, join(client, stack.fake.channel().jid, f"<nick>{feeds}</nick>", id_))
            refused = stack.fake.channel(
                join=lambda asked: error(asked, "cancel", "conflict", feeds)
            )
            other = fresh("grow")
            await tell(client, join(client, refused.jid, "", other))
            stack.fake.say(
                channel,
                client.bare,
                "\n" * 110_000,
                f"<forwarded xmlns='{ns.FORWARD}'><message xmlns='{ns.CLIENT}'/></forwarded>",
                core=ns.CORE0,
            )
            small = "".join(f"<x xmlns='urn:{n}'><y/></x>" for n in range(6_000))
            stack.fake.say(channel, client.bare, "b", small, core=ns.CORE0)
            await answered(client, [id_, other])
            assert client.inbox.matching(match("iq", id=other))[0]["type"] == "error"

    async def past() -> None:
        client = await stack.raw(await stack.user())
        await client.online()
        peer, to = stack.stranger, client.jid
        small = "".join(f"<x xmlns='urn:{n}'><y/></x>" for n in range(6_000))
        for _ in range(ROUNDS):
            request = f"<iq type='set' id='{fresh('grow')}' to='{peer.jid}'>"
            await tell(client, f"{request}<x xmlns='urn:x'>{feeds}</x></iq>")
            for inner in (
                f"<subject>{feeds}</subject>",
                f"<body>{chr(10) * 110_000}</body>",
                small,
            ):
                await tell(peer, f"<message from='{peer.jid}' to='{to}'>{inner}</message>")
            await client.fence()

    await withstands(attack, busy_server=True, past_mixpam=past)


async def test_depth_and_breadth(stack: Stack, withstands: Withstands) -> None:
    """50,010 elements come in one request, in all other kinds of stanza a tenth of that.

    Eight stanzas of so many at once are seconds of work for a server itself, whomever they
    are for.
    """
    deep = "<d>" * 1_000 + "</d>" * 1_000
    wide = "<w/>" * (50_010 if LONG else 5_000)
    new = "".join(f"<n{n}/>" for n in range(5_000 if LONG else 1_000))

    async def attack() -> None:
        client = await session(stack)
        channel = stack.fake.channel().jid
        await tell(client, join(client, channel, "<w/>" * 50_010, "breadth"))
        await answered(client, ["breadth"])
        for inner in (deep, wide, new):
            await everywhere(stack, lambda inner=inner: f"<x xmlns='urn:x'>{inner}</x>")  # type: ignore[misc]

    async def past() -> None:
        client = await session(stack)
        request = f"<iq type='set' id='{fresh('odd')}' to='{stack.stranger.jid}'>"
        await tell(client, f"{request}<x xmlns='urn:x'>{'<w/>' * 50_010}</x></iq>")
        for inner in (deep, wide, new):
            await past_mixpam(stack, lambda inner=inner: f"<x xmlns='urn:x'>{inner}</x>")  # type: ignore[misc]

    await withstands(attack, busy_server=True, past_mixpam=past)


async def test_participant_ids_that_grow(stack: Stack, withstands: Withstands) -> None:
    """Ids of 1,000 apostrophes in 100 channels: an annotated roster of 600 kB."""
    client = await session(stack)
    channels = 100
    for _ in range(channels):
        await stack.joined(client, pid="&apos;" * 1_000)

    async def attack() -> None:
        for _ in range(ROUNDS):
            answer = await client.roster(annotate=True)
            items = answer.all(f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item")
            assert len(items) == channels
            ids = [item.find(f"{{{ns.MIX_ROSTER}}}channel") for item in items]
            assert [each.get("participant-id") for each in ids if each is not None] == (
                ["'" * 1_000] * channels
            )

    await withstands(attack, busy_server=True)


async def test_joins_are_answered_under_all_of_it(stack: Stack, withstands: Withstands) -> None:
    """Comments, instructions and DTDs cannot come through a server; what can, is taken."""
    odd = ("}", "{", "urn:x y", "\u00a0", "urn:&amp;&lt;&gt;", "http://[", "x" * 10_000)

    async def attack() -> None:
        client = await session(stack)
        ids = []
        for space in odd:
            ids.append(fresh("odd"))
            await tell(
                client, join(client, stack.fake.channel().jid, f"<x xmlns='{space}'/>", ids[-1])
            )
        await answered(client, ids)

    await withstands(attack, busy_server=True)
    stack.fake.none(is_join("nobody"))


NOT_TAKEN = {
    "reserved": ("", "<xml:x/>"),
    "reserved inside": ("", "<x xmlns='urn:x'><y><xml:x xml:a='1'/></y></x>"),
    "element": ("xmlns:p='urn:p'", "<p:x><p:y p:z='1'/></p:x>"),
    "attribute": ("xmlns:p='urn:p'", "<x xmlns='urn:x'><y p:z='1'/></x>"),
}


@pytest.mark.parametrize("way", NOT_TAKEN)
async def test_what_a_server_writes_and_takes_from_nobody(
    stack: Stack, withstands: Withstands, way: str
) -> None:
    """Servers lose declarations, and write reserved namespaces: what came whole is XML no more."""
    attributes, child = NOT_TAKEN[way]

    async def attack() -> None:
        client, channel = await member(stack)
        for _ in range(ROUNDS):
            new = stack.fake.channel()
            id_ = fresh("odd")
            stack.fake.send(message(channel, client.bare, child, attributes))
            for address in (channel, f"p#{channel}/r"):
                stack.fake.send(
                    f"<presence {attributes} from='{address}' to='{client.bare}'>{child}</presence>"
                )
            stack.fake.send(
                f"<message {attributes} from='{channel}' to='{client.bare}'>"
                f"<event xmlns='{ns.PUBSUB_EVENT}'><items node='{ns.NODES}participants'>"
                f"<item id='p'>{child}</item></items></event></message>"
            )
            request = join(client, new.jid, child, id_)
            client.send(request.replace("<iq", f"<iq {attributes}", 1))
            await answered(client, [id_])
            await stack.settle(client)
        body = fresh("after")
        stack.fake.say(channel, client.bare, body)
        await client.expect(match("message", body=body))

    await withstands(attack)
