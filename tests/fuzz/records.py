"""Records in Redis: any bytes below the prefix, loaded by the real store from a real Redis.

A record is loaded or set aside; none raises an exception, and the core can work with all that were
loaded. Each line is one field, `key TAB field TAB value`; a line of another form is a key of
another type.
"""

import asyncio
import atexit
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from driver import ANNA, COVEN, PHONE, SERVER, Play
from harness.memory import Taken
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from component.store.keys import CAPABILITY, Keys
from component.store.store import Store
from component.wire.framing import Frame
from fuzz import control, sessions
from schemas.records import CapabilityRecord, JournalRecord, MembershipRecord
from schemas.settings import Settings

_KEYS = Keys("mixpam")
_loop = asyncio.new_event_loop()
_TAP = f"<message from='{SERVER}' to='mixpam.example.org'>{{}}</message>"


def seeds() -> list[bytes]:
    """Give a membership, changes under way, devices and capabilities."""
    member = MembershipRecord(channel=COVEN, participant_id="123", nick="é<", nodes=["n"])
    member_line = _line(_KEYS.channels(ANNA), COVEN, member.model_dump_json())
    lines = [member_line]
    for kind in ("join", "leave"):
        for step in ("ask", "roster"):
            record = JournalRecord(kind=kind, channel=COVEN, step=step, member=kind == "leave")
            journal = _line(_KEYS.journal(ANNA), COVEN, record.model_dump_json())
            lines.append(member_line + journal)
    features = CapabilityRecord(features=["urn:xmpp:mix:core:1"]).model_dump_json()
    lines += [
        member_line + _line(_KEYS.shown(ANNA), "phone", "12ab"),
        _line(_KEYS.capabilities, f"{CAPABILITY}sha-1 x=", features),
        _KEYS.channels(ANNA).encode() + b"\n",
    ]
    return [*lines, b"".join(lines)]


def _line(key: str, field: str, value: str) -> bytes:
    return f"{key}\t{field}\t{value}\n".encode()


def check(data: bytes) -> None:
    """Fill Redis, start, and play a little."""
    server = _server()
    raw = Redis(unix_socket_path=str(server))
    raw.flushall()
    with raw.pipeline(transaction=False) as pipeline:
        for line in data.split(b"\n"):
            key, _, rest = line.partition(b"\t")
            name, tab, value = rest.partition(b"\t")
            if tab:
                pipeline.hset(key, name, value)  # type: ignore[arg-type]
            elif key:
                pipeline.set(key, rest)
        pipeline.execute(raise_on_error=False)
    raw.close()
    _loop.run_until_complete(_start(server))


async def _start(server: Path) -> None:
    reports: list[str] = []

    def report(event: str, *_: object, **__: object) -> None:
        reports.append(event)

    settings = Settings(
        component_jid="mixpam.example.org",
        domains=SERVER,
        secret="secret",
        redis_url=f"unix://{server}",
    )
    store = Store(settings, report, lambda *_: None)
    try:
        await asyncio.wait_for(store.load(first := Taken()), 5)
        # Records set aside are not loaded again, and all others are.
        reports.clear()
        await asyncio.wait_for(store.load(second := Taken()), 5)
    finally:
        await store.close()
    assert second.ordered() == first.ordered()
    play = Play()
    first.give(play.core)
    play.says(_TAP.format(sessions.EVENTS[0]))
    play.hears_all()
    play.passes_on(Frame(f"<presence from='{PHONE}' to='mixpam.example.org'/>".encode()))
    play.says(_TAP.format(sessions.EVENTS[1]))
    play.waits(3_600)
    play.hears_all()
    control.forget(play)


@cache
def _server() -> Path:
    """Start a Redis that lives as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix="mixpam-fuzz-redis-"))
    socket = folder / "redis"
    child = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "redis-server", "--port", "0", "--save", "",
         "--unixsocket", str(socket), "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(child.wait)
    atexit.register(child.kill)
    with Redis(unix_socket_path=str(socket), retry=Retry(ConstantBackoff(0.05), 200)) as client:
        client.ping()
    return socket
