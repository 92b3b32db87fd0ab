"""The ejabberd tap's batches while they are taken under the hands of who fills them.

The tap itself, compiled with all it has exported, in an Erlang without a server: a real one
takes a batch at that very moment once in a long while. test_tap_multicast has the servers.
"""

from pathlib import Path

import pytest
from harness.erlang import run
from harness.machines import REPOSITORY, Machine, host_suite

SOURCES = (
    REPOSITORY / "deploy/ejabberd/src/mod_mixpam_tap_batches.erl",
    REPOSITORY / "deploy/ejabberd/src/mod_mixpam_tap_keeper.erl",
    REPOSITORY / "deploy/ejabberd/src/mod_mixpam_tap_link.erl",
    REPOSITORY / "tests/integration/tap_gathering.erl",
)


@pytest.mark.timeout(60)
async def test_no_row_is_lost_or_taken_twice(tmp_path: Path) -> None:
    await run(
        tmp_path, "erlc", "+export_all", "+nowarn_export_all", "-o", str(tmp_path),
        *Machine(host_suite()).headers(), *map(str, SOURCES),
    )  # fmt: skip
    output = await run(
        tmp_path, "erl", "-noinput", "-pa", str(tmp_path), "-s", "tap_gathering", "run"
    )
    assert "all of it" in output
