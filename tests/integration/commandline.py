"""Runs `mixpam …` as an operator does, against servers that a test has broken on purpose."""

import asyncio
import contextlib
import json
import os
import pty
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from harness.component import SECRET
from harness.house import make_server
from harness.loopback import Block
from harness.machines import REPOSITORY
from harness.redis import Redis
from harness.server import Server


class Finished:
    """A command that has ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        """Return what was printed, as JSON."""
        return json.loads(self.out)

    def result(self, check: str) -> dict[str, str]:
        """Return the one result of a check. Fails if there is not exactly one."""
        found = [each for each in self.json["results"] if each["check"] == check]
        assert len(found) == 1, self.out
        return dict(found[0])

    @property
    def levels(self) -> dict[str, str]:
        """Return check -> level."""
        return {each["check"]: each["level"] for each in self.json["results"]}


def environment(server: Server, redis: Redis, **changes: str) -> dict[str, str]:
    """Return the settings of a component of this server."""
    return {
        "MIXPAM_COMPONENT_JID": server.component,
        "MIXPAM_SECRET": SECRET,
        "MIXPAM_SERVER_HOST": server.place.ip,
        "MIXPAM_SERVER_PORT": str(server.component_port(server.component)),
        "MIXPAM_DOMAINS": server.domain,
        "MIXPAM_REDIS_URL": redis.url,
        "MIXPAM_HTTP_HOST": server.place.ip,
        # So that no other test's component is taken for this one's.
        "MIXPAM_HTTP_TOKEN": "token-of-a-test-run",
        **changes,
    }


async def mixpam(*argv: str, env: dict[str, str], stdin: str = "") -> Finished:
    """Run a command and return when it has ended."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "component", *argv,
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(REPOSITORY), **env},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(child.communicate(stdin.encode()), 45)
    except TimeoutError:
        child.kill()
        raise
    assert child.returncode is not None
    return Finished(child.returncode, out.decode(), err.decode())


async def on_terminal(
    *argv: str, env: dict[str, str], output: Path | None = None
) -> tuple[int, str]:
    """Run a command on a terminal of its own; return its exit code and what was shown there.

    With `output`, its standard output goes into that file.
    """
    ours, its = pty.openpty()
    os.set_blocking(ours, False)
    loop, seen, over = asyncio.get_running_loop(), bytearray(), asyncio.Event()

    def read() -> None:
        try:
            data = os.read(ours, 65_536)
        except OSError:  # the other end is closed
            data = b""
        seen.extend(data)
        if not data:
            loop.remove_reader(ours)
            over.set()

    out = its if output is None else os.open(output, os.O_WRONLY | os.O_CREAT)
    try:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "component", *argv,
            env={
                "PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(REPOSITORY),
                "TERM": "xterm", "COLUMNS": "80", "LANG": "C.UTF-8", **env,
            },
            stdin=its, stdout=out, stderr=its,
        )  # fmt: skip
    finally:
        for each in {its, out}:
            os.close(each)
    loop.add_reader(ours, read)
    try:
        async with asyncio.timeout(45):
            code = await child.wait()
            await over.wait()
    except TimeoutError:
        child.kill()
        loop.remove_reader(ours)
        raise
    finally:
        os.close(ours)
    return code, seen.decode()


Change = Callable[[str], str]


@contextlib.asynccontextmanager
async def server_with(
    kind: str,
    block: Block,
    logs: Any,
    prosody: Change,
    ejabberd: Change,
    *,
    files: Mapping[str, bytes] | None = None,
) -> AsyncIterator[Server]:
    """Run a server whose configuration was changed. Fails if a change changes nothing.

    `files` are put beside the configuration, which reaches them as ``@folder@/name``.
    """
    server = make_server(kind, block)
    is_prosody = server.kind.software == "prosody"
    file = server.folder / ("prosody.cfg.lua" if is_prosody else "ejabberd.yml")
    change = prosody if is_prosody else ejabberd
    write = server.write

    def write_changed() -> None:
        write()
        for name, data in (files or {}).items():
            (server.folder / name).write_bytes(data)
        _change(file, lambda text: change(text).replace("@folder@/", server.inside("") + "/"))

    server.write = write_changed  # type: ignore[method-assign]
    logs.add(server.folder)
    try:
        with logs.kept_on_error(server.folder):
            await server.start()
        yield server
    finally:
        await server.stop()
        logs.done(server.folder)


def _change(file: Path, change: Change) -> None:
    before = file.read_text(encoding="utf-8")
    after = change(before)
    assert after != before, f"{file.name} has not what was to be changed"
    file.write_text(after, encoding="utf-8")


def as_it_is(text: str) -> str:
    """Change nothing that matters."""
    return text + "\n"


def without(*parts: str) -> Change:
    """Return a change that takes parts of the text out, all of which must be there."""

    def change(text: str) -> str:
        for part in parts:
            assert part in text, part
            text = text.replace(part, "")
        return text

    return change


def instead(old: str, new: str) -> Change:
    """Return a change of one text into another."""
    return lambda text: text.replace(old, new)
