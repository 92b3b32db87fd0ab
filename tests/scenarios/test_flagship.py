"""The whole story on a real channel: join, talk, fan-out, archive, leave."""

import pytest
from harness import ns
from harness.stack import Stack
from harness.stanza import Stanza, match

MIX = f"{{{ns.CORE1}}}mix"


def own_id(stanza: Stanza, bare: str) -> str | None:
    """Return the archive id the user's server gave a message."""
    ids = stanza.all(f"{{{ns.SID}}}stanza-id[@by='{bare}']")
    assert len(ids) == 1, stanza.raw
    return ids[0].get("id")


@pytest.mark.req("J1", "J2", "L1", "R1", "F1", "F2", "A1", "A2", "N1")
async def test_join_talk_and_leave_a_real_channel(stack: Stack) -> None:
    channel = await stack.channel()
    alice, bob = await stack.user(), await stack.user()
    phone = await stack.device(alice, "phone")
    laptop = await stack.device(alice, "laptop")
    old = await stack.device(alice, "old", mix=False)
    speaker = await stack.device(bob, "desk")

    # mod_mix grants messages and participants; slixmpp reports what is missing.
    missing = await phone.pam.join_channel(channel, "Alice")
    assert missing == {f"{ns.NODES}info"}
    await speaker.pam.join_channel(channel, "Bob")
    item = f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item[@jid='{channel}']"
    for device in (phone, laptop):
        push = await device.expect(match("iq", type="set", has=item))
        assert push.find(f"{item}/{{{ns.MIX_ROSTER}}}channel[@participant-id]") is not None
    plain = await old.expect(match("iq", type="set", has=item))
    assert plain.find(f"{item}/{{{ns.MIX_ROSTER}}}channel") is None

    speaker.send(
        f"<message to='{channel}' type='groupchat' id='g1'><body>Boo &amp; bah</body></message>"
    )
    said = match("message", type="groupchat", body="Boo & bah")
    copies = [await device.expect(said, 10) for device in (phone, laptop)]
    await speaker.expect(said, 10)
    await stack.settle(phone, laptop, old, speaker)
    old.none(match("message"))
    for device, copy in zip((phone, laptop), copies, strict=True):
        assert device.count(said) == 1
        assert copy["from"].partition("/")[0] == channel
        assert copy["to"] == device.jid
        assert copy.need(f"{MIX}/{{{ns.CORE1}}}nick").text == "Bob"

    archive = await stack.archive(alice, channel)
    assert [stanza.body for stanza in archive] == ["Boo & bah"]
    assert {own_id(copy, alice.jid) for copy in copies} == {archive[0]["archive-id"]}

    await phone.pam.leave_channel(channel)
    for device in (phone, laptop, old):
        await device.expect(match("iq", type="set", has=f"{item}[@subscription='remove']"))
    assert await stack.roster(alice, channel) is None
    speaker.send(f"<message to='{channel}' type='groupchat' id='g2'><body>gone</body></message>")
    await speaker.expect(match("message", body="gone"), 10)
    await stack.settle(phone, laptop)
    for device in (phone, laptop):
        device.none(match("message", body="gone"))
    assert len(await stack.archive(alice, channel)) == 1
