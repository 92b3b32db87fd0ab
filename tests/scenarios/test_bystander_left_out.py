"""What is left out, and who waits for it: nobody else.

The kind: what is too large, too deep or unreadable still has its effect, and neither making
that effect nor keeping what waits for it costs others anything.
"""

import pytest
from harness import ns
from harness.bystander import LONG, Withstands
from harness.stack import Stack, client_join
from harness.stanza import match
from harness.steps import memberships, session
from harness.stream import fresh

pytestmark = [pytest.mark.slow, pytest.mark.abuse(11, 13), pytest.mark.timeout(120)]

ROUNDS = 10 if LONG else 2


async def test_requests_that_cannot_be_read(stack: Stack, withstands: Withstands) -> None:
    """Each is answered all the same, and the one behind it is, too."""
    odd = (
        f"<nick>{'&quot;' * 30_000}</nick>",
        "<x>" * 120 + "</x>" * 120,
        "<x/>" * 50_010,
        "<x xmlns='}'/>",
        "<x xmlns='urn:{'/>",
        f"<x xmlns:{'p' * 300}='urn:x'/>",
    )

    async def attack() -> None:
        client = await session(stack)
        for inner in odd * ROUNDS:
            id_ = fresh("odd")
            request = client_join(client.bare, stack.fake.channel().jid)
            request = request.replace("</join>", f"{inner}</join>")
            client.send(request.replace("<iq", f"<iq id='{id_}'", 1))
            await client.expect(match("iq", id=id_), 10)
        last = await stack.joined(client)
        assert last.jid in await memberships(client)

    await withstands(attack, busy_server=True)


async def test_rosters_larger_than_a_stanza(stack: Stack, withstands: Withstands) -> None:
    """They come complete, with their annotations, while others hardly notice."""
    client = await session(stack)
    channel = await stack.joined(client)
    items = 400
    for number in range(items):
        client.send(
            f"<iq type='set' id='l{number}'><query xmlns='{ns.ROSTER}'>"
            f"<item jid='contact{number}@example.org' name='{'n' * 1_000}'/></query></iq>"
        )
        if number % 50 == 49:
            await client.expect(match("iq", id=f"l{number}", type="result"), 30)

    async def attack() -> None:
        for _ in range(ROUNDS):
            answer = await client.roster(annotate=True)
            found = answer.all(f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item")
            assert len(found) == items + 1
            marked = [
                item for item in found if item.find(f"{{{ns.MIX_ROSTER}}}channel") is not None
            ]
            assert [item.get("jid") for item in marked] == [channel.jid]

    await withstands(attack, busy_server=True)


async def test_rosters_asked_for_without_waiting(stack: Stack, withstands: Withstands) -> None:
    """Sixty at once: 80 bytes must not cost the server a megabyte each."""
    client = await session(stack)
    for _ in range(20):
        await stack.joined(client)

    async def attack() -> None:
        for _ in range(ROUNDS):
            ids = [fresh("many") for _ in range(60)]
            client.send(
                "".join(
                    f"<iq type='get' id='{id_}'><query xmlns='{ns.ROSTER}'>"
                    f"<annotate xmlns='{ns.MIX_ROSTER}'/></query></iq>"
                    for id_ in ids
                )
            )
            for id_ in ids:
                await client.expect(match("iq", id=id_, type="result"), 15)

    await withstands(attack)


async def test_requests_without_end(stack: Stack, withstands: Withstands) -> None:
    """Those beyond what may wait are refused at once."""
    silent = stack.fake.channel(join=lambda _: None)
    client = await session(stack)

    async def attack() -> None:
        ids = [fresh("pile") for _ in range(400)]
        for id_ in ids:
            request = client_join(client.bare, silent.jid)
            client.send(request.replace("<iq", f"<iq id='{id_}'", 1))
        # Ten are with the channel, a hundred wait, and some of those have their time meanwhile.
        refused = match("iq", type="error", test=lambda answer: answer["id"] in ids)
        for _ in range(400 - 110 - 50):
            await client.expect(refused, 10)

    await withstands(attack)
