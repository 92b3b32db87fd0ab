"""Logs: one event name a line, facts beside it; never a message's text or a secret.

So an error's own text is never written, of us nor of a library: it may quote what was being
dealt with. Its class, and where in the code it came from, is what a fault is mended by.
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
"""Lines of a traceback that are kept: the innermost."""

AGAIN = 60.0
"""Seconds until a library's word about the same thing is written again."""

KEPT = 100
"""Different words of libraries that are remembered for that."""

_WORDS = re.compile(r"[A-Za-z][A-Za-z ,'.-]{0,80}")
"""How a library's sentence begins, before what it fills in."""


def configure(settings: Settings) -> None:
    """Have the log written to standard error as the settings say, libraries' words included."""
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
    """Say where in the code an error came from, and of which class it and its causes are."""
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
    """Put classes and places in the place of an error with its text."""
    given = event.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    if isinstance(given, tuple):
        given = given[1]
    if isinstance(given, BaseException):
        event["exception"] = frames(given)
    return event


class Writer(structlog.PrintLogger):
    """Writes lines; where they go may be full or gone, and nobody is served worse for that."""

    def msg(self, message: str) -> None:
        """Write one line, or go on without."""
        with contextlib.suppress(OSError, ValueError):
            super().msg(message)

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


class Libraries(logging.Handler):
    """Writes what asyncio, aiohttp and others log, in the log's own format and words."""

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
    """Write what ends the process, as any other event."""
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger().error("fault", exception=frames(error))
