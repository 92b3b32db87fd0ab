"""A channel on a component link: accepts joins, and sends one stanza to each participant."""

import hashlib
import itertools
import re
from collections import defaultdict
from collections.abc import Callable

from harness import ns
from harness.component import SECRET
from harness.server import Server

from benchmarks.load.wire import Wire, connect, open_stream

_IQ = re.compile(rb"<iq\b([^>]*)>(.*?)</iq>", re.DOTALL)
_ATTRIBUTE = re.compile(rb"\b(id|from|to|type)=['\"]([^'\"]*)")
_numbers = itertools.count(1)


class Service:
    """A MIX service on its own link; all channels of its domain exist."""

    def __init__(self, server: Server) -> None:
        self.jid = server.fake
        self._server = server
        self._rest = b""
        self._wire: Wire | None = None
        # The participants of each channel: bare JIDs.
        self.participants: defaultdict[str, set[str]] = defaultdict(set)

    async def connect(self) -> "Service":
        """Connect and complete the handshake."""
        port = self._server.component_port(self.jid)
        wire = await connect(self._server.place.ip, port, self._overhear)
        header = await wire.ask(
            open_stream(self.jid, ns.COMPONENT), rb"<stream:stream[^>]*\bid=['\"]([^'\"]+)[^>]*>"
        )
        digest = hashlib.sha1(header[1] + SECRET.encode()).hexdigest()  # noqa: S324
        await wire.ask(f"<handshake>{digest}</handshake>", rb"<handshake")
        self._wire = wire
        return self

    def channel(self) -> str:
        """Return the address of a channel."""
        return f"room{next(_numbers)}@{self.jid}"

    def speaker(
        self, channel: str, targets: list[str], kind: str = "groupchat"
    ) -> Callable[[str], None]:
        """Return a function that sends a body to each target, as `channel` or as a chat message."""
        heads = [f"<message to='{target}' from='{channel}/p1'" for target in targets]

        def say(body: str) -> None:
            assert self._wire is not None
            tail = _tail(body, kind)
            self._wire.write("".join([head + tail for head in heads]))

        return say

    def say(self, channel: str, body: str) -> None:
        """Send a body to all participants."""
        self.speaker(channel, list(self.participants[channel]))(body)

    def show(self, channel: str, participant: str, show: str) -> None:
        """Send a participant's presence to all participants."""
        local, _, domain = channel.partition("@")
        assert self._wire is not None
        self._wire.write(
            "".join(
                f"<presence from='{participant}#{local}@{domain}/r' to='{user}'>"
                f"<show>{show}</show></presence>"
                for user in self.participants[channel]
            )
        )

    def close(self) -> None:
        """End the stream."""
        if self._wire is not None:
            self._wire.close()

    def _overhear(self, wire: Wire, data: bytes) -> None:
        """Answer disco#info, joins and pings."""
        self._rest += data
        end = 0
        for found in _IQ.finditer(self._rest):
            end = found.end()
            attributes = {key: value.decode() for key, value in _ATTRIBUTE.findall(found[1])}
            if attributes.get(b"type") in {"get", "set"}:
                user, channel = attributes[b"from"].partition("/")[0], attributes[b"to"]
                if b"<join" in found[2]:
                    self.participants[channel].add(user)
                elif b"<leave" in found[2]:
                    self.participants[channel].discard(user)
                wire.write(
                    f"<iq type='result' id='{attributes[b'id']}' to='{attributes[b'from']}'"
                    f" from='{attributes[b'to']}'>{_answer(found[2])}</iq>"
                )
        self._rest = self._rest[end:] if end else self._rest[-65536:]


def _answer(request: bytes) -> str:
    if b"disco#info" in request:
        return (
            f"<query xmlns='{ns.DISCO_INFO}'><identity category='conference' type='mix'/>"
            f"<feature var='{ns.CORE1}'/></query>"
        )
    if b"<join" in request:
        return (
            f"<join xmlns='{ns.CORE1}' id='p{next(_numbers)}'>"
            f"<subscribe node='{ns.NODES}messages'/></join>"
        )
    if b"<leave" in request:
        return f"<leave xmlns='{ns.CORE1}'/>"
    return ""


def _tail(body: str, kind: str) -> str:
    """Return the rest of the message, the size of what mod_mix sends."""
    return (
        f" type='{kind}' id='{next(_numbers):016}'><body>{body}</body>"
        f"<mix xmlns='{ns.CORE1}'><nick>someone</nick><jid>someone@example.org</jid></mix>"
        "</message>"
    )
