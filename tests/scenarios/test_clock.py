"""The machine's clock is set while a component runs: nothing it waits for takes notice."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from harness.fake import is_join
from harness.stack import FreshStack, client_join
from harness.stanza import match
from harness.steps import session

LIBRARY = "libfaketime.so.1"
FOLDERS = sorted(Path("/usr/lib").glob("*/faketime"))


@pytest.mark.slow
@pytest.mark.abuse(30)
@pytest.mark.parametrize("jump", ["+1d", "-1d"])
async def test_a_clock_that_jumps(fresh_stack: FreshStack, tmp_path: Path, jump: str) -> None:
    assert FOLDERS, "libfaketime is not installed; tests/run does that"
    clock = tmp_path / "clock"
    clock.write_text("+0", encoding="utf-8")
    stack = await fresh_stack(
        LD_PRELOAD=str(FOLDERS[0] / LIBRARY),
        FAKETIME_TIMESTAMP_FILE=str(clock),
        FAKETIME_NO_CACHE="1",
        # As a real clock that is set: only the wall's time changes.
        FAKETIME_DONT_FAKE_MONOTONIC="1",
        MIXPAM_CHANNEL_TIMEOUT="2",
        MIXPAM_KEEPALIVE="1",
    )
    client = await session(stack)
    mute = stack.fake.channel(join=lambda _: None)
    start = asyncio.get_running_loop().time()
    mark = stack.mixpam.mark()
    client.send(client_join(client.bare, mute.jid).replace("<iq", "<iq id='slow'", 1))
    await stack.fake.expect(is_join(mute.jid))
    clock.write_text(jump, encoding="utf-8")
    answer = await client.expect(match("iq", id="slow"), 10)
    waited = asyncio.get_running_loop().time() - start
    assert answer.condition == "remote-server-timeout"
    assert 1.5 < waited < 8
    channel = await stack.joined(client)
    assert channel.jid != mute.jid
    records = stack.mixpam.events()[mark:]
    assert "link-down" not in [record["event"] for record in records]
    # It did jump, or all this shows nothing.
    times = [datetime.fromisoformat(record["timestamp"]) for record in records]
    assert abs(times[-1] - times[0]) > timedelta(hours=20)
