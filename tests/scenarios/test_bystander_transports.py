"""Sessions over WebSocket and BOSH that attack, and a neighbour on plain TCP.

The kind: servers treat what goes to such a session differently, so what it costs the tap, the
component and the neighbour is looked at for each: rosters by the dozen, presence, joins, and
messages that go to many of them.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from harness import ns
from harness.bystander import LONG, Withstands
from harness.stack import Stack, client_join
from harness.stanza import match
from harness.stream import fresh

pytestmark = [pytest.mark.slow, pytest.mark.abuse(8, 11, 14), pytest.mark.timeout(120)]

ROUNDS = 8 if LONG else 2
SESSIONS = 3


@pytest_asyncio.fixture(loop_scope="session")
async def travelling(
    stack: Stack, server_kind: str, request: pytest.FixtureRequest
) -> AsyncIterator[Stack]:
    """Give a test the running system, to which its clients go by another transport."""
    if request.param == "bosh" and not server_kind.startswith("prosody"):
        # It leaves requests of ours without an answer.
        pytest.skip("the harness's BOSH client does not get along with ejabberd")
    stack.transport = request.param
    yield stack
    stack.transport = "tcp"


@pytest.mark.parametrize("travelling", ["websocket", "bosh"], indirect=True)
async def test_sessions_by_another_transport(travelling: Stack, withstands: Withstands) -> None:
    stack = travelling

    async def attack() -> None:
        account = await stack.user()
        clients = [await stack.raw(account) for _ in range(SESSIONS)]
        for client in clients:
            await client.mix_online()
        channels = [await stack.joined(clients[0]) for _ in range(20)]
        for _ in range(ROUNDS):
            asked = [(client, fresh("by")) for client in clients for _ in range(20)]
            for client, id_ in asked:
                client.send(
                    f"<iq type='get' id='{id_}'><query xmlns='{ns.ROSTER}'>"
                    f"<annotate xmlns='{ns.MIX_ROSTER}'/></query></iq>"
                )
            for client, id_ in asked:
                await client.expect(match("iq", id=id_, type="result"), 15)
            for client in clients:
                # Of sixty at once those that may not wait come as they are.
                answer = await client.roster(annotate=True)
                assert answer.raw.count("participant-id") >= len(channels)
                client.presence(f"<status>{'s' * 20_000}</status>")
                request = client_join(client.bare, stack.fake.channel().jid)
                id_ = fresh("odd")
                client.send(
                    request.replace("<iq", f"<iq id='{id_}'", 1).replace(
                        "</join>", f"<nick>{'&quot;' * 20_000}</nick></join>"
                    )
                )
                await client.expect(match("iq", id=id_), 10)
            said = [stack.fake.say(channel.jid, account.jid, "for all") for channel in channels]
            for client in clients:
                for id_ in said:
                    await client.expect(match("message", id=id_))

    await withstands(attack, busy_server=True)
