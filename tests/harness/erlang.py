"""Erlang's own programs, run on the tap's sources without a server."""

import asyncio
import shutil
import subprocess
from pathlib import Path

_LIBRARIES = "/usr/lib/x86_64-linux-gnu"
"""The folder of the host's ejabberd libraries; the tap calls xmpp."""


async def run(folder: Path, program: str, *arguments: str) -> str:
    """Run one of Erlang's programs in a folder and return its output; it must succeed."""
    found = shutil.which(program)
    assert found, f"{program} is missing: ./tests/run installs it"
    child = await asyncio.create_subprocess_exec(
        found, *arguments, cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "ERL_LIBS": _LIBRARIES},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await child.communicate()
    text = output.decode().strip()
    # A badmatch prints both terms whole, which may be megabytes.
    assert child.returncode == 0, f"{text[:2000]} … {text[-2000:]}" if len(text) > 4000 else text
    return text
