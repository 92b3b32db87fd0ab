"""The log of a running component: one may follow a join or leave through it."""

from harness.stack import Stack, client_join, client_leave
from harness.steps import session


async def test_one_request_id_runs_through_a_join_and_a_leave(stack: Stack) -> None:
    client = await session(stack)
    channel = stack.fake.channel()
    seen: set[str] = set()
    for kind, request in (
        ("join", client_join(client.bare, channel.jid)),
        ("leave", client_leave(client.bare, channel.jid)),
    ):
        since = stack.mixpam.mark()
        answer = await client.iq(request)
        assert answer["type"] == "result", answer.raw
        await stack.settle(client)
        told = [
            record
            for record in stack.mixpam.events()[since:]
            if (record.get("user"), record.get("channel")) == (client.bare, channel.jid)
        ]
        assert [record["event"] for record in told] == ["change-begun", "change-done"]
        assert {record["kind"] for record in told} == {kind}
        # Ours, not the client's: two clients may use the same one.
        [number] = {record["request"] for record in told}
        assert number not in seen
        seen.add(number)


async def test_a_refused_request_says_why_under_its_id(stack: Stack) -> None:
    client = await session(stack)
    since = stack.mixpam.mark()
    answer = await client.iq(client_leave(client.bare, stack.fake.channel().jid))
    assert answer.condition == "item-not-found"
    [told] = [
        record
        for record in stack.mixpam.events()[since:]
        if record["event"] == "change-refused" and record["user"] == client.bare
    ]
    assert told["request"]
    assert told["condition"] == "item-not-found"
