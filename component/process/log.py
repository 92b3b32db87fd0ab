"""Logs: one event a line, with its facts; never a message's text or a secret.

So the text of an exception is never written, neither mixpam's nor a library's: it may quote the
data being handled. A bug is found by the exception's class and its place in the code.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import traceback
from collections import OrderedDict
from collections.abc import MutableMapping
from time import monotonic
from types import TracebackType
from typing import Any

import structlog

from schemas.settings import Settings

FRAMES = 30
"""Lines of a traceback that are kept, the innermost ones."""

AGAIN = 60.0
"""Seconds until a library's message about the same thing is written again."""

KEPT = 100
"""Different library messages that are remembered for that."""

_WORDS = re.compile(r"[A-Za-z][A-Za-z ,'.-]{0,80}")
"""The constant beginning of a library's message, before the values it fills in."""


def configure(settings: Settings) -> None:
    """Write the log to standard error as the settings say, libraries' messages included."""
    on_terminal = sys.stderr.isatty()
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not on_terminal)
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_texts,
    ]
    if as_json:
        processors.append(structlog.processors.JSONRenderer(ensure_ascii=False))
    else:
        plain = structlog.dev.plain_traceback
        processors.append(
            structlog.dev.ConsoleRenderer(colors=on_terminal, exception_formatter=plain)
        )
    writer = Writer(sys.stderr)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.log_level.upper()]
        ),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [Libraries()]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    sys.excepthook = _at_the_end


def frames(error: BaseException) -> str:
    """Describe an exception by its place in the code, and by its class and those of its causes."""
    parts: list[str] = []
    found: BaseException | None = error
    while found is not None and len(parts) < FRAMES:
        lines = traceback.format_tb(found.__traceback__)[-FRAMES:]
        parts.append("".join([*lines, type(found).__qualname__]))
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
    return "\nwhich came of\n".join(parts)


def without_texts(
    _: Any,  # noqa: ANN401 - structlog's logger of whatever kind
    __: str,
    event: MutableMapping[str, Any],
) -> MutableMapping[str, Any]:
    """Replace an exception, which has a text, by classes and places."""
    given = event.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    if isinstance(given, tuple):
        given = given[1]
    if isinstance(given, BaseException):
        event["exception"] = frames(given)
    return event


class Writer(structlog.PrintLogger):
    """Writes lines; users are served even if the output is full or gone."""

    def msg(self, message: str) -> None:
        """Write one line, or go on without it."""
        with contextlib.suppress(OSError, ValueError):
            super().msg(message)

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


class Libraries(logging.Handler):
    """Writes messages of asyncio, aiohttp and other libraries in the log's own format."""

    def __init__(self) -> None:
        super().__init__()
        self._said: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one, unless it was written a moment ago."""
        error = record.exc_info[1] if record.exc_info else None
        words = _WORDS.match(str(record.msg))
        says = words[0].strip() if words else ""
        key = (record.name, says, type(error).__qualname__)
        now = monotonic()
        if now < self._said.get(key, 0.0):
            return
        self._said.pop(key, None)
        self._said[key] = now + AGAIN
        while len(self._said) > KEPT:
            self._said.popitem(last=False)
        came = {} if error is None else {"exception": frames(error)}
        self._report("library", "warning", library=record.name, says=says, **came)

    def _report(self, event: str, level: str, **facts: str) -> None:
        getattr(structlog.get_logger(), level)(event, **facts)


def _at_the_end(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    """Write the exception that ends the process, like any other event."""
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger().error("fault", exception=frames(error))
