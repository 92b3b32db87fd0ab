"""The three generations of XEP-0405, from the join to the leave, as each was written."""

import pytest
from harness import caps, ns
from harness.client import RawClient
from harness.fake import is_join
from harness.stack import Stack, client_join, client_leave
from harness.stanza import match
from harness.steps import VERSIONS, leaves

ITEM = f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item"


async def device(stack: Stack, core: str) -> RawClient:
    """Return an online client of a fresh user that speaks one core version."""
    client = await stack.raw(await stack.user())
    await client.roster(annotate=True)
    return await client.mix_online((ns.DISCO_INFO, core))


@pytest.mark.parametrize(("pam", "core"), VERSIONS)
async def test_a_whole_life(stack: Stack, pam: str, core: str) -> None:
    """Only the namespaces asked with are ever seen, by the client or by the channel."""
    client = await device(stack, core)
    channel = stack.fake.channel()
    request = client_join(client.bare, channel.jid, pam=pam, core=core)
    answer = await client.iq(request)
    asked = await stack.fake.expect(is_join(channel.jid, client.bare))
    join = answer.need(f"{{{pam}}}client-join/{{{core}}}join")
    assert (join.get("id"), join.get("jid")) == (channel.pid, f"{channel.pid}#{channel.jid}")
    push = match("iq", type="set", has=f"{ITEM}[@jid='{channel.jid}']/{{{ns.MIX_ROSTER}}}channel")
    await client.expect(push)
    stack.fake.say(channel.jid, client.bare, "hello", core=core)
    said = await client.expect(match("message", body="hello"))
    assert said.text(f"{{{core}}}mix/{{{core}}}nick") == "Hecate"
    left = await client.iq(client_leave(client.bare, channel.jid, pam=pam, core=core))
    assert left.find(f"{{{pam}}}client-leave/{{{core}}}leave") is not None
    leave = await stack.fake.expect(leaves(channel.jid))
    others = {ns.PAM0, ns.PAM1, ns.PAM2, ns.CORE0, ns.CORE1} - {pam, core}
    for stanza in (answer, said, left, asked, leave):
        for other in others:
            assert other not in stanza.raw
    assert pam not in asked.raw + leave.raw


@pytest.mark.req("N3")
async def test_pam_1_is_understood_and_not_offered(stack: Stack) -> None:
    """Clients of that time ask without looking for a feature."""
    client = await device(stack, ns.CORE0)
    disco = await client.iq(
        f"<iq type='get' to='{client.bare}'><query xmlns='{ns.DISCO_INFO}'/></iq>"
    )
    offered = {e.get("var") for e in disco.all(f"{{{ns.DISCO_INFO}}}query/*")}
    assert {ns.PAM0, ns.PAM2} <= offered
    assert ns.PAM1 not in offered
    channel = stack.fake.channel()
    answer = await client.iq(client_join(client.bare, channel.jid, pam=ns.PAM1, core=ns.CORE0))
    assert answer.find(f"{{{ns.PAM1}}}client-join/{{{ns.CORE0}}}join") is not None


@pytest.mark.req("N1", "N2", "N3")
async def test_devices_of_three_generations_share_one_membership(stack: Stack) -> None:
    first = await device(stack, ns.CORE0)
    devices = [first]
    for features in ((ns.DISCO_INFO, ns.CORE0), caps.MIX):
        client = await stack.raw(first.account)
        await client.roster(annotate=True)
        devices.append(await client.mix_online(features))
    channel = stack.fake.channel()
    for client, (pam, core) in zip(
        devices, ((ns.PAM0, ns.CORE0), (ns.PAM1, ns.CORE0), (ns.PAM2, ns.CORE1)), strict=True
    ):
        answer = await client.iq(client_join(client.bare, channel.jid, pam=pam, core=core))
        assert answer.find(f"{{{pam}}}client-join/{{{core}}}join") is not None
    for said in (ns.CORE0, ns.CORE1):
        stack.fake.say(channel.jid, first.bare, f"in {said}", core=said)
        for client, core in zip(devices, (ns.CORE0, ns.CORE0, ns.CORE1), strict=True):
            copy = await client.expect(match("message", body=f"in {said}"))
            assert copy.find(f"{{{core}}}mix") is not None
    # What the newest leaves, all have left.
    await devices[2].iq(client_leave(first.bare, channel.jid))
    answer = await first.iq(client_leave(first.bare, channel.jid, pam=ns.PAM0, core=ns.CORE0))
    assert answer.condition == "item-not-found"
