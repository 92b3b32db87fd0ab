"""Reconciling: memory, roster and channel are brought together again, whichever is wrong."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from harness import ns
from harness.client import Account, RawClient
from harness.fake import Script
from harness.loopback import Block
from harness.participants import refuses, tells
from harness.stack import MixHost, Stack
from harness.stanza import match
from harness.steps import leaves, memberships
from harness.stream import fresh
from operating import operated

COMMANDS = "http://jabber.org/protocol/commands"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house(
    server_kind: str, block: Block, mix_host: MixHost, logs: Any
) -> AsyncIterator[tuple[Stack, Account]]:
    """Run a system with an admin."""
    async with operated(server_kind, block, mix_host, logs) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def operator(house: tuple[Stack, Account]) -> AsyncIterator["Operator"]:
    """Give a test the admin's session."""
    stack, account = house
    yield Operator(stack, await stack.raw(account))
    await stack.logout()


class Operator:
    """The admin, and the system of which she is one."""

    def __init__(self, stack: Stack, client: RawClient) -> None:
        self.stack = stack
        self.client = client

    async def user(self) -> RawClient:
        """Log a fresh user in."""
        return await self.stack.raw(await self.stack.user())

    async def reconcile(self, user: str, *, repair: bool) -> list[str]:
        """Run the command and return its lines, one for each channel."""
        answer = await self.client.iq(
            f"<iq type='set' to='{self.stack.component}'><command xmlns='{COMMANDS}'"
            f" node='mixpam:reconcile'><x xmlns='{ns.DATA}' type='submit'>"
            f"<field var='user'><value>{user}</value></field>"
            f"<field var='dry-run'><value>{0 if repair else 1}</value></field>"
            "</x></command></iq>",
            15,
        )
        assert answer["type"] == "result", answer.raw
        form = answer.need(f"{{{COMMANDS}}}command/{{{ns.DATA}}}x")
        lines = form.findall(f"{{{ns.DATA}}}field[@var='findings']/{{{ns.DATA}}}value")
        await self.stack.settle()
        return [line.text or "" for line in lines]

    async def forget_all(self) -> None:
        """Lose what Redis had, as a disk that broke does."""
        await self.stack.mixpam.stop()
        await self.stack.redis.stop(kill=True)
        for path in self.stack.redis.folder.rglob("*"):
            if path.is_file() and path.suffix in {".aof", ".rdb", ".manifest"}:
                path.unlink()
        await self.stack.redis.start()
        await self.stack.mixpam.start()


async def roster_set(client: RawClient, channel: str, subscription: str = "") -> None:
    """Change the roster as a client does."""
    flag = f" subscription='{subscription}'" if subscription else ""
    answer = await client.iq(
        f"<iq type='set'><query xmlns='{ns.ROSTER}'><item jid='{channel}'{flag}/></query></iq>"
    )
    assert answer["type"] == "result", answer.raw


async def test_nothing_is_done_where_all_agree(operator: Operator) -> None:
    user = await operator.user()
    channel = await operator.stack.joined(user)
    tells(channel, ("someone", "someone@else.example"), (channel.pid, user.bare))
    await roster_set(user, "friend@nowhere.example")
    lines = await operator.reconcile(user.bare, repair=True)
    assert lines[0] == f"{channel.jid}: all agree"
    assert lines[1:] == ["nowhere.example did not answer: not looked at"]
    assert await memberships(user) == {channel.jid: channel.pid}


@pytest.mark.parametrize("core", [ns.CORE0, ns.CORE1])
async def test_what_redis_lost_is_restored(operator: Operator, core: str) -> None:
    stack = operator.stack
    user = await operator.user()
    channel = await stack.joined(user)
    tells(channel, (channel.pid, user.bare), core=core)
    await user.mix_online()
    await operator.forget_all()
    await stack.settle(user)
    assert await memberships(user) == {}
    lines = await operator.reconcile(user.bare, repair=False)
    assert lines == [f"{channel.jid}: restore the membership"]
    assert await memberships(user) == {}
    lines = await operator.reconcile(user.bare, repair=True)
    assert lines == [f"{channel.jid}: restore the membership"]
    assert await memberships(user) == {channel.jid: channel.pid}
    # The channel sees the device again, and the device the channel.
    await stack.fake.expect(match("presence", **{"from": user.jid, "to": channel.jid}))
    said = stack.fake.say(channel.jid, user.bare, "back again")
    await user.expect(match("message", id=said))
    # And it is in Redis: another start changes nothing.
    await stack.mixpam.stop()
    await stack.mixpam.start()
    assert await memberships(user) == {channel.jid: channel.pid}
    assert await operator.reconcile(user.bare, repair=True) == [f"{channel.jid}: all agree"]


async def test_a_real_channel_tells_enough(operator: Operator) -> None:
    user = await operator.user()
    channel = await operator.stack.channel()
    answer = await operator.stack.join(user, channel)
    participant = answer.need(f"{{{ns.PAM2}}}client-join/{{{ns.CORE1}}}join").get("id")
    await operator.forget_all()
    lines = await operator.reconcile(user.bare, repair=True)
    assert lines == [f"{channel}: restore the membership"]
    assert await memberships(user) == {channel: participant}


async def test_memory_and_roster_follow_a_channel_that_has_no_such_participant(
    operator: Operator,
) -> None:
    stack = operator.stack
    user = await operator.user()
    channel, kept = await stack.joined(user), await stack.joined(user)
    tells(channel, ("someone", "someone@else.example"))
    tells(kept, (kept.pid, user.bare))
    lines = await operator.reconcile(user.bare, repair=False)
    both = (
        "forget the membership: the channel has no such participant;"
        " remove the channel from the roster"
    )
    wanted = sorted(
        [
            f"{channel.jid}: {both}",
            f"{kept.jid}: all agree",
        ]
    )
    assert lines == wanted
    assert set(await memberships(user)) == {channel.jid, kept.jid}
    assert await operator.reconcile(user.bare, repair=True) == wanted
    await stack.settle(user)
    assert await memberships(user) == {kept.jid: kept.pid}
    assert await stack.roster(user.account, channel.jid) is None


async def test_a_channel_that_is_gone(operator: Operator) -> None:
    stack = operator.stack
    user = await operator.user()
    channel = await stack.joined(user)
    del stack.fake.channels[channel.jid]
    lines = await operator.reconcile(user.bare, repair=True)
    assert "forget the membership" in lines[0]
    await stack.settle(user)
    assert await stack.roster(user.account, channel.jid) is None


async def test_a_left_over_roster_item_goes(operator: Operator) -> None:
    stack = operator.stack
    user = await operator.user()
    channel = stack.fake.channel()
    tells(channel)
    await roster_set(user, channel.jid)
    lines = await operator.reconcile(user.bare, repair=True)
    assert lines == [f"{channel.jid}: remove the channel from the roster"]
    await stack.settle(user)
    assert await stack.roster(user.account, channel.jid) is None


async def test_lost_rosters_come_back(operator: Operator) -> None:
    stack = operator.stack
    users = [await operator.user() for _ in range(8)]
    channels = [await stack.joined(user) for user in users]
    for user, channel in zip(users, channels, strict=True):
        tells(channel, (channel.pid, user.bare))
    # So many at once are no wish of the users': the component ends a few and then stops.
    await stack.mixpam.stop()
    for user, channel in zip(users, channels, strict=True):
        await roster_set(user, channel.jid, "remove")
    await stack.mixpam.start()
    await stack.mixpam.process.line('"audit-stopped"', 10)
    await stack.settle()
    mended = 0
    for user, channel in zip(users, channels, strict=True):
        lines = await operator.reconcile(user.bare, repair=True)
        item = await stack.roster(user.account, channel.jid)
        if lines == ["none"]:
            assert item is None
            continue
        mended += 1
        assert lines == [f"{channel.jid}: put the channel into the roster"]
        assert item is not None
        assert item["subscription"] == "from"
        assert await memberships(user) == {channel.jid: channel.pid}
        stack.fake.none(leaves(channel.jid))
    assert mended >= 1


@pytest.mark.parametrize("case", ["forbidden", "hidden", "silent", "no node"])
async def test_where_a_channel_does_not_tell_nothing_is_changed(
    operator: Operator, case: str
) -> None:
    stack = operator.stack
    user = await operator.user()
    channel = stack.fake.channel()
    why = {
        "forbidden": "refuses",
        "hidden": "hides",
        "silent": "did not answer",
        "no node": "no participants node",
    }[case]
    silence(channel, case)
    await roster_set(user, channel.jid)
    before = await stack.roster(user.account, channel.jid)
    lines = await operator.reconcile(user.bare, repair=True)
    assert len(lines) == 1
    assert lines[0].startswith(f"{channel.jid}: left alone, ")
    assert why in lines[0]
    assert await stack.roster(user.account, channel.jid) == before
    # A member's hidden id that is in use is proof enough.
    await roster_set(user, channel.jid, "remove")
    if case == "hidden":
        await stack.join(user, channel)
        tells(channel, (channel.pid, None))
        lines = await operator.reconcile(user.bare, repair=True)
        assert lines == [f"{channel.jid}: all agree"]


def silence(channel: Script, case: str) -> None:
    """Have a channel keep to itself who is in it."""
    if case == "hidden":
        tells(channel, ("one", None), ("two", "someone@else.example"))
    elif case == "silent":
        channel.other = lambda _: None
    else:
        refuses(channel, "item-not-found" if case == "no node" else case)


async def test_a_member_is_kept_where_the_channel_refuses(operator: Operator) -> None:
    user = await operator.user()
    channel = await operator.stack.joined(user)
    refuses(channel, "forbidden")
    lines = await operator.reconcile(user.bare, repair=True)
    assert "left alone" in lines[0]
    assert await memberships(user) == {channel.jid: channel.pid}


async def test_a_join_that_comes_in_between_wins(operator: Operator) -> None:
    stack = operator.stack
    user = await operator.user()
    channel = stack.fake.channel()
    asked = asyncio.Event()
    channel.other = lambda _: asked.set()
    await roster_set(user, channel.jid)
    looking = asyncio.create_task(operator.reconcile(user.bare, repair=True))
    await asyncio.wait_for(asked.wait(), 5)
    await stack.join(user, channel)
    lines = await looking
    assert "left alone" in lines[0]
    assert await memberships(user) == {channel.jid: channel.pid}


async def test_addresses_of_others_are_not_looked_at(operator: Operator) -> None:
    answer = await operator.client.iq(
        f"<iq type='set' to='{operator.stack.component}'><command xmlns='{COMMANDS}'"
        f" node='mixpam:reconcile'><x xmlns='{ns.DATA}' type='submit'>"
        f"<field var='user'><value>{fresh('x')}@else.example</value></field></x></command></iq>"
    )
    assert answer["type"] == "error"
    assert "MIXPAM_DOMAINS" in (answer.text(f"{{{ns.CLIENT}}}error/{{{ns.STANZAS}}}text") or "")
