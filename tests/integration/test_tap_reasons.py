"""Why a stanza does not go on: Prosody's tap says it at level "debug", once for each."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from harness import ns
from harness.house import TapHouse
from harness.logs import KeptLogs, running
from harness.loopback import Block
from harness.machines import KINDS
from harness.stream import fresh


@pytest_asyncio.fixture(loop_scope="session")
async def talkative(
    server_kind: str, block: Block, logs: KeptLogs, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TapHouse]:
    """Run a server of its own that logs at level debug."""
    if KINDS[server_kind].software != "prosody":
        pytest.skip("about Prosody")
    monkeypatch.setattr("harness.prosody.DEBUG", True)
    async with running(TapHouse(server_kind, block), logs) as house:
        yield house


async def test_each_stanza_that_does_not_go_on_has_its_reason(talkative: TapHouse) -> None:
    tap = talkative
    client = await tap.client()
    channel = await tap.joined(client.bare)
    nobody = f"nobody{fresh()}@{tap.domain}"
    blocked = tap.channel()
    answer = await client.iq(
        f"<iq type='set'><block xmlns='urn:xmpp:blocking'><item jid='{blocked}'/></block></iq>"
    )
    assert answer["type"] == "result", answer.raw
    for stanza in (
        f"<message from='{channel}' to='{client.bare}' type='chat'><body>hi</body></message>",
        f"<message from='{channel}' to='{client.bare}' type='error'/>",
        f"<message from='{channel}' to='{nobody}' type='groupchat'><body>hi</body></message>",
        f"<message from='p#{blocked}' to='{client.bare}' type='groupchat'/>",
        f"<presence from='{channel}' to='{client.bare}' type='subscribe'/>",
        f"<iq type='get' id='x' from='{channel}' to='{client.bare}'><a xmlns='{ns.PAM2}'/></iq>",
    ):
        tap.fake.send(stanza)
    await tap.fake.fence()
    tap.link.send(f"<message from='{channel}' to='{client.bare}/gone'><body>hi</body></message>")
    await tap.link.fence()
    client.send(f"<presence to='{channel}'/>")
    await (await tap.client()).roster(annotate=True)
    await client.fence()
    await tap.down()
    client.send(f"<iq type='set' id='j' to='{client.bare}'><client-join xmlns='{ns.PAM2}'/></iq>")
    await client.fence()
    presence = f"<presence from='{channel}' to='{client.bare}'/>"
    tap.fake.send(presence)
    await tap.fake.fence()
    expected = (
        f"Left alone: message chat from {channel} to {client.bare}: nothing of MIX is in it",
        f"Left alone: message error from {channel} to {client.bare}: it is an error",
        f"Left alone: message groupchat from {channel} to {nobody}: there is no such account",
        f"Not passed on: message groupchat from p#{blocked} to {client.bare}: it is blocked",
        "Left alone: presence subscribe",
        f"Not passed on: iq get from {channel} to {client.bare}: it is no session of this account",
        f"to {client.bare}/gone: the session is gone",
        f"to {channel}: what a channel sees of a device is the component's to say",
        "no channel is in it",
        "the component is not ready",
        f"from {channel} to {client.bare}: no component is connected",
    )
    log = tap.server.folder / "server.log"
    missing = list(expected)
    for _ in range(50):
        text = log.read_text(encoding="utf-8", errors="replace")
        missing = [line for line in expected if text.count(line) != 1]
        if not missing:
            break
        await asyncio.sleep(0.1)
    assert not missing
