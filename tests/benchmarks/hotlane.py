"""The component's hot lane without a socket: bytes into the real stream, copies into a sink."""

import asyncio
import time

from benchmarks.engines.mixpam import settings
from component.engine import Engine
from component.link.stream import Stream


class Sink(asyncio.Transport):
    """A transport that counts bytes and drops them."""

    def __init__(self) -> None:
        super().__init__()
        self.messages = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Count the stanzas."""
        self.messages += bytes(data).count(b"</message>")

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing."""

    def is_closing(self) -> bool:
        """Tell that the transport is open."""
        return False


class HotLane:
    """A stream that is up, with an engine whose mirror the benchmark fills. Needs a loop."""

    def __init__(self) -> None:
        configured = settings()
        self.engine = Engine(configured)
        self.mirror = self.engine.core.mirror
        self.sink = Sink()
        self._stream = Stream(
            configured.component_jid,
            configured.secret.get_secret_value(),
            configured.domains[0],
            self.engine,
            max_bytes=configured.max_stanza_bytes,
            keepalive=configured.keepalive,
        )
        self._stream.connection_made(self.sink)
        self._stream.data_received(b"<stream:stream id='bench'><handshake/>")

    def feed(self, chunks: list[bytes]) -> tuple[float, int]:
        """Take chunks as reads; return CPU seconds and copies made."""
        before, start = self.sink.messages, time.process_time()
        for chunk in chunks:
            self._stream.data_received(chunk)
        return time.process_time() - start, self.sink.messages - before
