"""Old and new work together: an earlier tap, an earlier component, what that left in Redis.

The kind: an operator exchanges one half and not yet the other, or goes back. Whatever was joined,
said and wished for before goes on, and nothing in it is noticed by a channel. The earlier half
runs from the sources of its commit, on the libraries of now. A checkout without that commit
fails; an archive, which has no history, cannot have it.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from harness import caps, ns
from harness.client import RawClient
from harness.earlier import history, unpack
from harness.fake import Script, is_join
from harness.machines import REPOSITORY
from harness.mixpam import Mixpam
from harness.stack import FreshStack, Stack, client_join, client_leave
from harness.stanza import Match, Stanza, match
from harness.steps import leaves, memberships
from harness.stream import fresh
from sharing import PREFERENCE, answering, gone, grants, here, preference, shown

from component.store.keys import Keys

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not history(), reason="this is no checkout"),
]

ITEM = f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item"
MARK = f"{{{ns.MIX_ROSTER}}}channel"
CONFLICT = r'"reason": ?"conflict"'


@pytest.fixture(scope="session")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tree of the earlier version."""
    return unpack(tmp_path_factory.mktemp("earlier"))


def process(stack: Stack, tree: Path) -> Mixpam:
    """Return a component of a version, not started, for what a stack has of all else."""
    return Mixpam(stack.server, stack.redis.url, tree, MIXPAM_HTTP_PORT="0")


@pytest_asyncio.fixture(loop_scope="session")
async def earlier_component(breakable: Stack, earlier: Path) -> AsyncIterator[Stack]:
    """Give the running system with an earlier component in the place of its own."""
    stack, own = breakable, breakable.mixpam
    await own.stop()
    stack.mixpam = process(stack, earlier)
    try:
        await stack.mixpam.start()
        yield stack
    finally:
        await stack.logout()
        await stack.mixpam.stop()
        stack.mixpam = own


async def mix_client(stack: Stack, like: RawClient | None = None) -> RawClient:
    """Return an online MIX client that has its roster annotated."""
    client = await stack.raw(like.account if like else await stack.user())
    await client.roster(annotate=True)
    return await client.mix_online()


def own_id(stanza: Stanza, bare: str) -> str | None:
    """Return the archive id the user's server gave a message."""
    ids = stanza.all(f"{{{ns.SID}}}stanza-id[@by='{bare}']")
    assert len(ids) == 1, stanza.raw
    return ids[0].get("id")


async def a_life(stack: Stack) -> None:
    """Join, talk, share, block, come back after a restart, and leave."""
    fake = stack.fake
    phone = await mix_client(stack)
    laptop = await mix_client(stack, phone)
    plain = await stack.raw(phone.account)
    await plain.roster()
    await plain.mix_online(caps.PLAIN)
    other = await mix_client(stack)
    await phone.fence()

    channel = await joined_and_shown(stack, phone, laptop, plain)
    await stack.join(other, channel)
    quiet = await stack.joined(phone)
    members = {channel.jid: channel.pid, quiet.jid: quiet.pid}
    for client in (phone, laptop):
        assert await memberships(client) == members
        await fake.expect(here(client.jid, channel.jid))
        await fake.expect(here(client.jid, quiet.jid))

    # A message, and a channel's presence, are at each MIX device of each member.
    await heard(stack, channel, phone, laptop, other, not_by=plain)
    sender = f"p1#{channel.jid}/r"
    fake.send(f"<presence from='{sender}' to='{phone.bare}'/>")
    for client in (phone, laptop):
        await client.expect(match("presence", from_=sender))

    # What a user does not share, a channel is not shown.
    await shares_no_more(phone, stack, quiet)
    await fake.expect(gone(laptop.jid, quiet.jid))
    await shows(stack, phone, "away", channel, not_to=quiet)

    # A blocked channel says nothing, and the others do.
    await phone.block(channel.jid)
    await is_not_heard(stack, channel, phone)
    assert len(await stack.archive(phone.account, channel.jid)) == 1
    await heard(stack, quiet, phone, laptop)
    await phone.set(f"<unblock xmlns='{ns.BLOCKING}'><item jid='{channel.jid}'/></unblock>")
    await heard(stack, channel, phone, laptop)

    # The component is killed and comes back: the tap tells it who is there.
    await stack.mixpam.stop(kill=True)
    await stack.mixpam.start()
    assert await memberships(laptop) == members
    await heard(stack, channel, phone, laptop, not_by=plain)

    # A device goes. A channel ends a membership, and a user does.
    stack.devices.remove(laptop)
    await laptop.close()
    await fake.expect(gone(laptop.jid, channel.jid))
    fake.event(quiet.jid, phone.bare, "participants", f"<retract id='{quiet.pid}'/>")
    await phone.expect(removal(quiet))
    await left(stack, phone, channel)
    for client in (phone, plain):
        await client.expect(removal(channel))
    assert await memberships(phone) == {}
    assert await stack.roster(phone.account, channel.jid) is None
    await heard(stack, channel, other)


async def joined_and_shown(
    stack: Stack, joiner: RawClient, annotated: RawClient, plain: RawClient
) -> Script:
    """Have a user join a channel, and the rosters of all three devices show it."""
    channel = stack.fake.channel()
    answer = await stack.join(joiner, channel)
    join = answer.need(f"{{{ns.PAM2}}}client-join/{{{ns.CORE1}}}join")
    assert (join.get("id"), join.get("jid")) == (channel.pid, f"{channel.pid}#{channel.jid}")
    assert (await stack.fake.expect(is_join(channel.jid)))["from"] == joiner.bare
    item = f"{ITEM}[@jid='{channel.jid}']"
    for client in (joiner, annotated):
        push = await client.expect(match("iq", type="set", has=item))
        assert push.need(f"{item}/{MARK}").get("participant-id") == channel.pid
    push = await plain.expect(match("iq", type="set", has=item))
    assert push.find(f"{item}/{MARK}") is None
    return channel


def removal(channel: Script) -> Match:
    """Return a matcher for the push that takes a channel out of a roster."""
    return match("iq", type="set", has=f"{ITEM}[@jid='{channel.jid}'][@subscription='remove']")


async def heard(
    stack: Stack, channel: Script, *by: RawClient, not_by: RawClient | None = None
) -> None:
    """Have a channel say something; each device has it once, each user's archive likewise."""
    body = fresh("words")
    for user in {client.bare for client in by}:
        stack.fake.say(channel.jid, user, body)
    copies = {client: await client.expect(match("message", body=body)) for client in by}
    await stack.settle(*by, *([not_by] if not_by else []))
    for client, copy in copies.items():
        assert (copy["from"], copy["to"]) == (channel.jid, client.jid)
        assert client.count(match("message", body=body)) == 1
        archive = await stack.archive(client.account, channel.jid)
        assert [own_id(copy, client.bare)] == [s["archive-id"] for s in archive if s.body == body]
    if not_by:
        not_by.none(match("message", body=body))


async def is_not_heard(stack: Stack, channel: Script, client: RawClient) -> None:
    """Have a channel say something that a device may not have."""
    body = fresh("words")
    stack.fake.say(channel.jid, client.bare, body)
    await stack.settle(client)
    client.none(match("message", body=body))


async def shares_no_more(client: RawClient, stack: Stack, channel: Script) -> None:
    """Have a channel take a user's word that presence is not shared with it."""
    with answering(stack.fake, PREFERENCE, grants):
        answer = await client.iq(
            f"<iq type='set' to='{channel.jid}'>{preference('not share')}</iq>"
        )
        assert answer["type"] == "result", answer.raw
        await stack.fake.expect(gone(client.jid, channel.jid))


async def shows(stack: Stack, client: RawClient, show: str, to: Script, *, not_to: Script) -> None:
    """Change a device's presence; one channel is told, and one is not."""
    client.presence(caps.element(caps.MIX) + f"<show>{show}</show>")
    await stack.fake.expect(here(client.jid, to.jid, shown(show)))
    await stack.settle(client)
    stack.fake.none(here(client.jid, not_to.jid, shown(show)))


async def left(stack: Stack, client: RawClient, channel: Script) -> None:
    """Leave a channel, which is asked in the user's name."""
    assert (await client.iq(client_leave(client.bare, channel.jid)))["type"] == "result"
    assert (await stack.fake.expect(leaves(channel.jid)))["from"] == client.bare


async def test_an_earlier_tap(fresh_stack: FreshStack, earlier: Path) -> None:
    await a_life(await fresh_stack(tap=earlier))


async def test_an_earlier_component(earlier_component: Stack) -> None:
    await a_life(earlier_component)


@pytest.mark.parametrize("way", ["restart", "standby"])
@pytest.mark.parametrize("first", ["earlier", "now"])
async def test_what_one_version_has_written_the_other_reads(
    breakable: Stack, earlier: Path, first: str, way: str
) -> None:
    """Forth and back; read when it starts, or followed while it waits."""
    stack, own = breakable, breakable.mixpam
    trees = [earlier, REPOSITORY] if first == "earlier" else [REPOSITORY, earlier]
    await own.stop()
    old, new = (process(stack, tree) for tree in trees)
    stack.mixpam = await old.start()
    try:
        if way == "standby":
            await new.process.start()
            await new.process.line(CONFLICT, 20)
        await written_by_one(stack, new)
    finally:
        await stack.logout()
        await old.stop(kill=True)
        await new.stop()
        stack.mixpam = own


async def written_by_one(stack: Stack, successor: Mixpam) -> None:
    """Have the first leave all that is kept, and the second go on with it."""
    fake = stack.fake
    client = await mix_client(stack)
    second = await mix_client(stack, client)
    stays, quiet, gone_by, cut = [await stack.joined(client) for _ in range(4)]
    ancient = fake.channel()
    request = client_join(client.bare, ancient.jid, pam=ns.PAM0, core=ns.CORE0)
    assert (await client.iq(request))["type"] == "result"
    for device in (client, second):
        for channel in (stays, quiet, ancient):
            await fake.expect(here(device.jid, channel.jid))
    await shares_no_more(client, stack, quiet)
    hermit = await mix_client(stack)
    blocked = await stack.joined(hermit)
    await hermit.block(blocked.jid)
    await left(stack, client, gone_by)
    stack.devices.remove(second)
    await second.close()
    await fake.expect(gone(second.jid, stays.jid))
    await shows(stack, client, "away", stays, not_to=quiet)
    await remembered(stack, client)

    # One leave is under way when it is killed.
    cut.leave = lambda _: None
    client.send(client_leave(client.bare, cut.jid).replace("<iq", "<iq id='cut'", 1))
    await fake.expect(leaves(cut.jid))
    await stack.mixpam.stop(kill=True)
    cut.leave = None
    fake.inbox.clear()
    await succeeds(stack, successor)

    # The leave is finished, and no channel is told what it knows.
    await fake.expect(leaves(cut.jid))
    await successor.process.line('"event": ?"change-done"', 20)
    await stack.settle(client)
    joined = {each.jid: each.pid for each in (stays, quiet, ancient)}
    assert await memberships(client) == joined
    assert await memberships(hermit) == {blocked.jid: blocked.pid}
    fake.none(match("presence", from_=client.jid))
    for channel in (stays, quiet, ancient):
        await heard(stack, channel, client)
    for channel in (gone_by, cut):
        await is_not_heard(stack, channel, client)
    await is_not_heard(stack, blocked, hermit)
    await shows(stack, client, "xa", stays, not_to=quiet)
    await fake.expect(here(client.jid, ancient.jid, shown("xa")))
    # And all can be changed.
    again = await stack.joined(client)
    for channel in (stays, quiet, again):
        await left(stack, client, channel)
    request = client_leave(client.bare, ancient.jid, pam=ns.PAM0, core=ns.CORE0)
    assert (await client.iq(request))["type"] == "result"
    assert await memberships(client) == {}
    contents = await stack.redis.contents()
    assert [name for name in contents if client.bare in name and "channels" in name] == []


async def succeeds(stack: Stack, successor: Mixpam) -> None:
    """Have the second take the place of the first, and find nothing that it cannot read."""
    stack.mixpam = successor
    if successor.process.running:
        await successor.ready()
        assert len(successor.events("taken-over")) == 1
    else:
        await successor.start()
    assert successor.events("record-unusable") == []
    assert await stack.redis.ask("EXISTS", Keys("mixpam").set_aside) == 0


async def remembered(stack: Stack, client: RawClient) -> None:
    """Wait until Redis knows for certain how channels were shown a device."""
    shown_to_all: str | None = None
    async with asyncio.timeout(20):
        # Redis wakes nobody.
        while not shown_to_all:
            await asyncio.sleep(0.05)
            key = Keys("mixpam").shown(client.bare)
            shown_to_all = await stack.redis.ask("HGET", key, client.resource)
