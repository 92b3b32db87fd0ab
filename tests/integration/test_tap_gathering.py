"""The ejabberd tap's batches while they are taken under the hands of who fills them.

The tap itself, compiled with all it has exported, in an Erlang without a server: a real one
takes a batch at that very moment once in a long while. test_tap_multicast has the servers.
"""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest
from harness.machines import REPOSITORY

SOURCES = (
    REPOSITORY / "deploy/ejabberd/src/mod_mixpam_tap_batches.erl",
    REPOSITORY / "deploy/ejabberd/src/mod_mixpam_tap_keeper.erl",
    REPOSITORY / "deploy/ejabberd/src/mod_mixpam_tap_link.erl",
    REPOSITORY / "tests/integration/tap_gathering.erl",
)
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
"""Where the host's ejabberd has its libraries, of which the tap calls xmpp."""


@pytest.mark.timeout(60)
async def test_no_row_is_lost_or_taken_twice(tmp_path: Path) -> None:
    for program, *arguments in (
        ("erlc", "+export_all", "+nowarn_export_all", "-o", str(tmp_path), *map(str, SOURCES)),
        ("erl", "-noinput", "-pa", str(tmp_path), "-s", "tap_gathering", "run"),
    ):
        found = shutil.which(program)
        assert found, f"{program} is missing: ./tests/run installs it"
        child = await asyncio.create_subprocess_exec(
            found, *arguments, cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "ERL_LIBS": LIBRARIES},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await child.communicate()
        assert child.returncode == 0, output.decode()
    assert "all of it" in output.decode()
