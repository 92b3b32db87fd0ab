"""ejabberd's tap of an earlier version is upgraded under traffic.

The kind: running code of the old version calls functions that the new version has moved or
renamed. Nothing is bounced, and everything is archived and arrives live, as with an exchange by
the same version (test_tap_exchange).
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from harness import ns
from harness.contrib import ContribEjabberd, server
from harness.earlier import history, unpack
from harness.house import TapHouse, event
from harness.loopback import Block
from harness.machines import KINDS, REPOSITORY
from harness.stanza import match
from talking import talking

BEFORE = "8de8ec68c222af79687c3e8220ac81e2356f2f4b"
"""The commit before the tap's sessions and link were divided into more modules."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not history(), reason="this is no checkout"),
]


@pytest_asyncio.fixture(loop_scope="session")
async def earlier(
    server_kind: str, block: Block, logs: Any, tmp_path: Path
) -> AsyncIterator[TapHouse]:
    """Run an ejabberd with an earlier tap as a contributed module."""
    if KINDS[server_kind].software != "ejabberd":
        pytest.skip("about ejabberd's modules")
    made = ContribEjabberd(KINDS[server_kind], block)
    made.tree = unpack(tmp_path, BEFORE)
    house = TapHouse(server_kind, block, made)
    logs.add(made.folder)
    try:
        with logs.kept_on_error(made.folder):
            await house.start()
        yield house
    finally:
        await house.stop()
        logs.done(made.folder)


@pytest.mark.parametrize("resource", ["", "gathering"])
async def test_an_upgrade_from_an_earlier_version(earlier: TapHouse, resource: str) -> None:
    house, traffic = earlier, await talking(earlier, resource)
    client = traffic.members[0]
    client.send(
        f"<iq type='set' id='open' to='{client.bare}'>"
        f"<client-join xmlns='{ns.PAM2}' channel='a@b'/></iq>"
    )
    await house.link.expect(match("iq", id="open"))
    server(house).tree = REPOSITORY
    server(house).lay_out()
    async with traffic.going_on():
        assert await server(house).erlang("ext_mod:upgrade(mod_mixpam_tap)") == "ok"
    await house.link.expect(match("message", has=event("hello")))
    await traffic.check()
    assert (await house.roster_set(client.bare, house.channel()))["type"] == "result"
    # An open request gets its answer, and the end of a session is reported.
    house.link.send(f"<iq type='result' id='open' from='{client.bare}' to='{client.jid}'/>")
    await client.expect(match("iq", id="open", type="result"))
    house.clients.remove(client)
    await client.close()
    await house.link.expect(match("presence", from_=client.jid, type="unavailable"))
