"""The user's own archive of a channel, end to end."""

import pytest
from harness import ns
from harness.stack import FreshStack, Stack, client_leave
from harness.stanza import match


@pytest.mark.req("A1", "A2")
async def test_once_with_the_same_id_everywhere(stack: Stack) -> None:
    account = await stack.user()
    devices = [await stack.device(account) for _ in range(2)]
    channel = await stack.joined(devices[0])
    extra = (
        f"<stanza-id xmlns='{ns.SID}' by='{channel.jid}' id='c1'/>"
        f"<stanza-id xmlns='{ns.SID}' by='{account.jid}' id='forged'/>"
    )
    stack.fake.say(channel.jid, account.jid, "noted", extra)
    copies = [await device.expect(match("message", body="noted")) for device in devices]
    archive = await stack.archive(account, channel.jid)
    assert [s.body for s in archive] == ["noted"]
    for copy in copies:
        ids = {(e.get("by"), e.get("id")) for e in copy.all(f"{{{ns.SID}}}stanza-id")}
        assert ids == {(account.jid, archive[0]["archive-id"]), (channel.jid, "c1")}


@pytest.mark.req("A3")
async def test_preferences_and_hints(stack: Stack) -> None:
    account = await stack.user()
    device = await stack.device(account)
    channel = await stack.joined(device)
    stack.fake.say(channel.jid, account.jid, "hint", f"<no-store xmlns='{ns.HINTS}'/>")
    await device.expect(match("message", body="hint"))
    answer = await device.iq(
        f"<iq type='set'><prefs xmlns='{ns.MAM}' default='never'><always/><never/></prefs></iq>"
    )
    assert answer["type"] == "result"
    stack.fake.say(channel.jid, account.jid, "preference")
    live = await device.expect(match("message", body="preference"))
    assert live.find(f"{{{ns.SID}}}stanza-id[@by='{account.jid}']") is None
    assert await stack.archive(account, channel.jid) == []


@pytest.mark.req("A4")
async def test_only_joined_channels_write(stack: Stack) -> None:
    account = await stack.user()
    device = await stack.device(account)
    channel = await stack.joined(device)
    stack.fake.say(stack.fake.channel().jid, account.jid, "spam")
    stack.fake.say(channel.jid, account.jid, "welcome")
    await device.expect(match("message", body="welcome"))
    await device.iq(client_leave(account.jid, channel.jid))
    stack.fake.say(channel.jid, account.jid, "after leaving")
    await stack.settle(device)
    assert [s.body for s in await stack.archive(account, stack.fake.jid)] == []
    assert [s.body for s in await stack.archive(account, channel.jid)] == ["welcome"]


@pytest.mark.slow
@pytest.mark.req("A1", "D1")
async def test_while_the_component_is_down(fresh_stack: FreshStack) -> None:
    stack = await fresh_stack()
    account = await stack.user()
    client = await stack.raw(account)
    await client.mix_online()
    channel = await stack.joined(client)
    await stack.mixpam.stop()
    client.components = []
    stack.fake.say(channel.jid, account.jid, "missed live")
    await stack.fake.fence()
    disco = await client.iq(
        f"<iq type='get' to='{account.jid}'><query xmlns='{ns.DISCO_INFO}'/></iq>"
    )
    assert "urn:xmpp:mix:pam" not in disco.raw
    client.none(match("message"))
    stack.fake.none(match("message", type="error"))
    await stack.mixpam.start()
    stack.fake.say(channel.jid, account.jid, "live again")
    await client.expect(match("message", body="live again"), 10)
    bodies = [s.body for s in await stack.archive(account, channel.jid)]
    assert bodies == ["missed live", "live again"]
