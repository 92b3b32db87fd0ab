"""T7 `s2s`, and the detours for a channel on another server, by real server-to-server streams."""

from collections.abc import AsyncIterator

import pytest_asyncio
from harness import ns
from harness.client import RawClient, register
from harness.house import TapHouse, event
from harness.loopback import Block
from harness.stack import MixHost
from harness.stanza import match
from harness.stream import fresh


@pytest_asyncio.fixture(loop_scope="session")
async def remote(block: Block) -> AsyncIterator[MixHost]:
    """Run another server, which the test may stop."""
    host = MixHost(block)
    try:
        yield await host.start()
    finally:
        await host.stop()
        host.server.remove()


async def _ping(client: RawClient, domain: str) -> None:
    answer = await client.iq(f"<iq type='get' to='{domain}'><ping xmlns='{ns.PING}'/></iq>", 20)
    assert answer.condition != "remote-server-not-found", answer.raw
    assert answer.condition != "remote-server-timeout", answer.raw


async def test_connections_to_other_domains_are_told(tap: TapHouse, remote: MixHost) -> None:
    client = await tap.client()
    domain = remote.server.domain
    await _ping(client, domain)
    told = await tap.link.expect(match("message", has=event("s2s", domain=domain, state="up")), 10)
    assert (told["from"], told["to"]) == (tap.domain, tap.component)
    tap.link.none(match("message", has=event("s2s", domain=domain, state="down")))
    await remote.stop()
    await tap.link.expect(match("message", has=event("s2s", domain=domain, state="down")), 20)


async def test_a_channel_on_another_server(tap: TapHouse, mix_host: MixHost) -> None:
    """Join mod_mix in the user's name; answer and messages come over the link."""
    service = mix_host.server.mix
    await tap.services(tap.fake.jid, service, complete=True)
    client = await tap.client()
    speaker = RawClient(await register(mix_host.server.place), fresh("far"))
    await speaker.login()
    channel = f"{fresh('room')}@{service}"
    made = await speaker.iq(
        f"<iq type='set' to='{service}'>"
        f"<create xmlns='{ns.CORE1}' channel='{channel.partition('@')[0]}'/></iq>"
    )
    assert made["type"] == "result", made.raw

    def join(nick: str) -> str:
        return (
            f"<join xmlns='{ns.CORE1}'><nick>{nick}</nick>"
            f"<subscribe node='{ns.NODES}messages'/>"
            f"<subscribe node='{ns.NODES}participants'/></join>"
        )

    tap.link.send(f"<iq type='set' id='j1' from='{client.bare}' to='{channel}'>{join('n')}</iq>")
    await tap.link.expect(
        match("message", from_=channel, to=client.bare, has=f"{{{ns.PUBSUB_EVENT}}}event"), 20
    )
    result = await tap.link.expect(match("iq", type="result", from_=channel, id="j1"), 10)
    assert result.need(f"{{{ns.CORE1}}}join").get("id")
    assert (await tap.roster_set(client.bare, channel))["type"] == "result"

    assert (await speaker.iq(f"<iq type='set' to='{channel}'>{join('far')}</iq>"))[
        "type"
    ] == "result"
    speaker.send(
        f"<message to='{channel}' id='g1' type='groupchat'><body>far away</body></message>"
    )
    live = await tap.link.expect(match("message", type="groupchat", body="far away"), 10)
    archive = await tap.archive(client, channel)
    assert [stanza.body for stanza in archive] == ["far away"]
    own = live.need(f"{{{ns.SID}}}stanza-id[@by='{client.bare}']")
    assert own.get("id") == archive[0]["archive-id"]
    await tap.fence(client)
    client.none(match("message", from_=channel, type="groupchat"))
    await speaker.close()
