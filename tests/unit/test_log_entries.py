"""The log has no text of an error, whoever raised it, and one format for all.

The kind: an error's text quotes what was being dealt with: a stanza, a JID, a record, a URL
with a password. It comes by our own reports of faults, by an exception that ends the
process, by asyncio (a task that nobody waited for, a callback), by aiohttp, by warnings; and a
renderer that shows local variables quotes even more.
"""

import asyncio
import contextlib
import gc
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator

import pytest
import structlog
from pydantic import BaseModel

from component.process import log
from schemas.settings import load

SECRET = "hunter2-what-nobody-may-read"
GOOD = {
    "MIXPAM_COMPONENT_JID": "mixpam.example.org",
    "MIXPAM_SECRET": "s",
    "MIXPAM_DOMAINS": "example.org",
}


@pytest.fixture(params=["json", "console"])
def said(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], str]]:
    """Configure the log; give what was written."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    before = structlog.get_config()
    root, hook = logging.getLogger(), sys.excepthook
    handlers, level = root.handlers[:], root.level
    log.configure(load(GOOD | {"MIXPAM_LOG_FORMAT": request.param}))

    def read() -> str:
        text = written.getvalue()
        if request.param == "json":
            for line in text.splitlines():
                assert json.loads(line)["event"]
        assert SECRET not in text
        return text

    yield read
    structlog.configure(**before)
    root.handlers[:], sys.excepthook = handlers, hook
    root.setLevel(level)
    logging.captureWarnings(capture=False)


class Record(BaseModel):
    """Something whose error quotes what it was given."""

    number: int


def fails(text: str) -> None:
    local = text  # a renderer of local variables would show it
    try:
        Record.model_validate({"number": local})
    except ValueError as error:
        raise KeyError(local) from error


def test_a_fault_of_ours(said: Callable[[], str]) -> None:
    try:
        fails(SECRET)
    except KeyError:
        structlog.get_logger().exception("fault")
    text = said()
    assert "KeyError" in text
    assert "ValidationError" in text
    assert "in fails" in text


def test_what_ends_the_process(said: Callable[[], str]) -> None:
    try:
        fails(SECRET)
    except KeyError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    assert "fault" in said()


async def _task_that_nobody_waits_for() -> None:
    async def task(text: str) -> None:
        fails(text)

    waiting = asyncio.create_task(task(SECRET), name=SECRET)
    await asyncio.sleep(0.01)
    del waiting
    gc.collect()


async def _callback() -> None:
    asyncio.get_running_loop().call_soon(fails, SECRET)
    await asyncio.sleep(0.01)


@pytest.mark.parametrize("what", [_task_that_nobody_waits_for, _callback])
def test_the_loop(said: Callable[[], str], what: Callable[[], object]) -> None:
    asyncio.run(what())  # type: ignore[arg-type]
    text = said()
    assert "library" in text
    assert "asyncio" in text
    assert "KeyError" in text


def test_a_library_and_a_warning(said: Callable[[], str]) -> None:
    for _ in range(1000):
        logging.getLogger("aiohttp.server").error("Error handling request from %s", SECRET)
    warnings.showwarning(ResourceWarning(SECRET), ResourceWarning, "x.py", 1)
    text = said()
    assert text.count("Error handling request from") == 1


def test_what_is_said_without_end_is_bounded(said: Callable[[], str]) -> None:
    handler = log.Libraries()
    for number in range(3 * log.KEPT):
        handler.emit(logging.LogRecord(f"l{number}", 30, "x", 1, "%s", (SECRET,), None))
    assert len(handler._said) == log.KEPT
    assert said().count("library") >= log.KEPT


def test_where_nothing_can_be_written_all_goes_on() -> None:
    """A disk that is full, a pipe that nobody reads, a descriptor that was closed."""
    with open("/dev/full", "w") as full:  # noqa: PTH123 - it is no file
        log.Writer(full).error("one line")
        with contextlib.suppress(OSError):
            full.close()
        log.Writer(full).info("another")
    reading, writing = os.pipe()
    os.close(reading)
    pipe = os.fdopen(writing, "w")
    log.Writer(pipe).warning("one line")
    with contextlib.suppress(OSError):
        pipe.close()
