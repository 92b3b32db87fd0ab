"""Sessions that are not plain TCP: roster, presence and fan-out over WebSocket and BOSH.

The kind: servers treat what goes to such a session differently (it is cloned, gets a namespace,
is queued), so whatever the tap does to a session's stanzas is run over each transport, with and
without XEP-0198. The bodies are those of the modules they come from.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from harness.stack import Stack
from test_fanout import (  # noqa: F401 - collected here, too
    test_each_device_gets_the_namespace_it_speaks,
    test_every_mix_device_gets_it_unchanged,
    test_never_devices_without_mix_or_presence,
    test_order_is_kept,
    test_presence_of_participants,
)
from test_join import (  # noqa: F401
    test_the_channels_error_reaches_the_client,
    test_the_roster_after_a_join,
    test_what_comes_during_a_join_comes_after_it,
)
from test_presence import (  # noqa: F401
    test_a_device_that_comes_later_is_shown_once,
    test_a_join_shows_every_mix_device_and_no_other,
)
from test_roster import (  # noqa: F401
    test_a_forged_channel_element_is_stripped,
    test_a_removal_is_pushed_without_annotation,
    test_an_annotated_get_is_never_answered_as_unchanged,
    test_channels_are_marked_and_nothing_else,
    test_the_flag_is_each_sessions_own,
)

pytestmark = pytest.mark.slow

WAYS = [
    pytest.param(("tcp", True), id="tcp-resumable"),
    pytest.param(("websocket", False), id="websocket"),
    pytest.param(("websocket", True), id="websocket-resumable"),
    pytest.param(("bosh", False), id="bosh"),
    pytest.param(("bosh", True), id="bosh-resumable"),
]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, server_kind: str) -> tuple[str, bool]:
    """Return a transport, and whether its sessions can be resumed."""
    transport, resumable = request.param
    if transport == "bosh" and resumable and not server_kind.startswith("prosody"):
        pytest.skip("ejabberd has no XEP-0198 over BOSH")
    return transport, resumable


@pytest_asyncio.fixture(loop_scope="session")
async def stack(stack: Stack, way: tuple[str, bool]) -> AsyncIterator[Stack]:
    """Give a test the running system, to which its clients go by another transport."""
    stack.transport, stack.resumable = way
    yield stack
    stack.transport, stack.resumable = "tcp", False
