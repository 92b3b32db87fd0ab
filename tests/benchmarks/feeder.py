"""Plays the server to one engine: sends it stanzas, takes the copies, counts and measures.

Reading has a thread of its own, so that an engine which writes while it reads never
waits for us.
"""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks import traffic
from benchmarks.processes import cpu_seconds, resident_bytes

_END = b"</message>"
_ADDRESS = b"<address type='to'"
_PIECE = 262_144
_HEAD = 65_536
"""Bytes of an engine's output that are kept, to check that it is right."""
PATIENCE = 120.0


class EngineError(RuntimeError):
    """The engine ended, or did not produce the expected number of copies."""


class Engine:
    """A running engine; `argv` gets port and number of devices appended, then `extra`."""

    def __init__(
        self,
        name: str,
        argv: list[str],
        devices: int,
        *,
        extra: tuple[str, ...] = (),
        content: str = "jabber:component:accept",
    ) -> None:
        self.name = name
        self.devices = devices
        # A pattern that occurs once for each copy in the engine's output.
        self._mark = _ADDRESS if "gathered" in extra else _END
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        self._child = subprocess.Popen(
            [*argv, str(port), str(devices), *extra], stdout=subprocess.PIPE
        )
        with listener:
            self._link = self._accept(listener)
        self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._copies = 0
        self.head = b""
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        header = traffic.HEADER.format(content=content, component=traffic.COMPONENT)
        self._link.sendall(header.encode())
        if content == "jabber:component:accept":
            self._link.sendall(b"<handshake/>")
        time.sleep(0.3)

    def _accept(self, listener: socket.socket) -> socket.socket:
        """Wait for the engine, as long as it lives."""
        listener.settimeout(0.2)
        deadline = time.monotonic() + PATIENCE
        while self._child.poll() is None and time.monotonic() < deadline:
            try:
                return listener.accept()[0]
            except TimeoutError:
                continue
        self._child.kill()
        raise EngineError(f"{self.name} did not connect")

    def _read(self) -> None:
        rest = b""
        while True:
            try:
                data = self._link.recv(1 << 20)
            except OSError:
                data = b""
            count = (rest + data).count(self._mark)
            rest = (rest + data)[1 - len(self._mark) :] if data else b""
            if len(self.head) < _HEAD:
                self.head += data
            with self._changed:
                self._copies += count if data else 0
                self._changed.notify_all()
            if not data:
                return

    @property
    def pid(self) -> int:
        """Return the engine's process id."""
        return self._child.pid

    @property
    def memory(self) -> int:
        """Return the engine's resident bytes."""
        return resident_bytes(self.pid)

    def feed(self, pieces: Iterable[bytes], stanzas: int) -> tuple[float, float]:
        """Send `stanzas` stanzas in pieces; return seconds and CPU seconds until all copies came.

        Raises EngineError when they do not.
        """
        wanted = self._copies + stanzas * self.devices
        cpu, start = cpu_seconds(self.pid), time.perf_counter()
        for piece in pieces:
            self._link.sendall(piece)
        with self._changed:
            while self._copies < wanted:
                if not self._changed.wait(PATIENCE) or not self._reader.is_alive():
                    raise EngineError(
                        f"{self.name}: {wanted - self._copies} copies of {stanzas} are missing"
                    )
        if self._copies > wanted:
            raise EngineError(f"{self.name}: {self._copies - wanted} copies too many")
        return time.perf_counter() - start, cpu_seconds(self.pid) - cpu

    def stop(self) -> None:
        """End the engine."""
        self._link.close()
        self._child.terminate()
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()


def python(name: str) -> list[str]:
    """Return the command of an engine in Python."""
    return [sys.executable, "-m", f"benchmarks.engines.{name}"]


def pieces(stanzas: Iterable[bytes]) -> list[bytes]:
    """Join stanzas to pieces of a size suited to a socket."""
    result, gathered, size = [], [], 0
    for stanza in stanzas:
        gathered.append(stanza)
        size += len(stanza)
        if size >= _PIECE:
            result.append(b"".join(gathered))
            gathered, size = [], 0
    if gathered:
        result.append(b"".join(gathered))
    return result


def compile_ceiling(folder: Path) -> Path:
    """Compile ceiling.c. Raises EngineError with the missing package."""
    program = folder / "ceiling"
    source = Path(__file__).with_name("ceiling.c")
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(source)]
    try:
        done = subprocess.run([*command, "-lexpat"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise EngineError("no C compiler: apt-get install gcc libexpat1-dev") from None
    if done.returncode:
        raise EngineError(f"apt-get install libexpat1-dev? {done.stderr.strip()}")
    return program
