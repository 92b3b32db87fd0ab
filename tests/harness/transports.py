"""Clients over WebSocket (RFC 7395) and BOSH (XEP-0124, XEP-0206): `RawClient` on other wires."""

import asyncio
import contextlib
import random
import re
from collections import deque
from typing import Final
from xml.parsers import expat

import aiohttp

from harness import ns
from harness.client import Account, RawClient
from harness.stanza import Stanza
from harness.stream import Slicer

FRAMING: Final = "urn:ietf:params:xml:ns:xmpp-framing"
HTTP_BIND: Final = "http://jabber.org/protocol/httpbind"
XBOSH: Final = "urn:xmpp:xbosh"
PORT: Final = 5280
APART: Final = 0.03
"""Seconds from one BOSH request to the next. Requests use two connections, and ejabberd loses a
request that overtakes another (ejabberd_bosh, 23.01 to 24.12): it queues it behind the other, and
then reads it only if it had an immediate answer to the other."""
#: The transports of a session.
TRANSPORTS: Final = ("tcp", "websocket", "bosh")


def make_client(transport: str, account: Account, resource: str) -> RawClient:
    """Return a client over `transport`, one of `TRANSPORTS`; not connected."""
    kinds: dict[str, type[RawClient]] = {
        "tcp": RawClient,
        "websocket": WebSocketClient,
        "bosh": BoshClient,
    }
    return kinds[transport](account, resource)


class _HttpClient(RawClient):
    """The common part of both: an HTTP session, and a queue of elements to be written."""

    def __init__(self, account: Account, resource: str) -> None:
        super().__init__(account, resource)
        self._http: aiohttp.ClientSession | None = None
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._header: dict[str, str] = {}

    @property
    def connected(self) -> bool:
        """Tell whether the session is connected."""
        return self._http is not None and self.inbox.closed is None

    def url(self, path: str) -> str:
        """Return the address of an endpoint of the account's server."""
        return f"http://{self.account.place.ip}:{PORT}/{path}"

    async def _connect(self, ip: str, port: int) -> None:
        del ip, port
        self.inbox.closed = None
        self._queue = asyncio.Queue()
        self._http = aiohttp.ClientSession(headers={"Host": self.account.domain})

    def write(self, data: str | bytes) -> None:
        """Write an element to the wire; no stream around it declares its namespace."""
        text = data.decode() if isinstance(data, bytes) else data
        tag = text.partition(">")[0]
        if tag and " xmlns=" not in tag:
            text = re.sub(r"^<[^\s/>]+", rf"\g<0> xmlns='{ns.CLIENT}'", text, count=1)
        self._queue.put_nowait(text)

    async def cut(self) -> None:
        """Break the connection without a word."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=3)
        self._tasks.clear()
        if self._http is not None:
            await self._http.close()
            self._http = None
        self.inbox.close("the test closed the connection")

    async def _guarded(self, work: asyncio.Task[None]) -> None:
        reason = "the connection was closed"
        try:
            await work
        except (OSError, expat.ExpatError, aiohttp.ClientError) as error:
            reason = f"the connection broke: {error}"
        self.inbox.close(reason)

    def _spawn(self, *works: object) -> None:
        for work in works:
            task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[call-overload]
            self._tasks += [task, asyncio.create_task(self._guarded(task))]


class WebSocketClient(_HttpClient):
    """A session over WebSocket: each frame is one element."""

    def __init__(self, account: Account, resource: str) -> None:
        super().__init__(account, resource)
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def _connect(self, ip: str, port: int) -> None:
        await super()._connect(ip, port)
        assert self._http is not None
        self._socket = await self._http.ws_connect(
            self.url("xmpp-websocket"), protocols=("xmpp",), max_msg_size=0
        )
        self._spawn(self._read_frames(self._socket), self._write_frames(self._socket))

    async def _open(self, to: str) -> dict[str, str]:
        """Open or reopen the stream; return the attributes of the server's `<open/>`."""
        self._opened.clear()
        self.write(f"<open xmlns='{FRAMING}' to='{to}' version='1.0'/>")
        await asyncio.wait_for(self._opened.wait(), 10)
        return self._header

    async def _write_frames(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await socket.send_str(await self._queue.get())

    async def _read_frames(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                return
            stanza = Stanza.of(message.data)
            if stanza.xml.tag == f"{{{FRAMING}}}open":
                self._header = dict(stanza.xml.attrib)
                self._opened.set()
            elif stanza.xml.tag == f"{{{FRAMING}}}close":
                return
            else:
                self.arrived(stanza)

    async def close(self) -> None:
        """End the session as a polite client does."""
        if self.connected and self._socket is not None:
            with contextlib.suppress(OSError, aiohttp.ClientError):
                await self._socket.send_str(f"<close xmlns='{FRAMING}'/>")
                await self._socket.close()
        await self.cut()


class BoshClient(_HttpClient):
    """A session over BOSH: one request waits at the server, a second carries new stanzas."""

    def __init__(self, account: Account, resource: str) -> None:
        super().__init__(account, resource)
        self._sid = ""
        self._rid = 0
        self._attributes = ""  # of the next request
        self._open_requests: deque[asyncio.Task[str]] = deque()
        self._changed = asyncio.Event()
        self._requested = 0.0

    async def _open(self, to: str) -> dict[str, str]:
        """Begin the session, or restart the stream in it."""
        if self._sid:
            self._attributes = f" to='{to}' xmpp:restart='true' xmlns:xmpp='{XBOSH}'"
            self._queue.put_nowait("")
            return self._header
        self._rid = random.randrange(1, 2**32)  # noqa: S311 - a number to begin with
        self._opened.clear()
        self._request(
            f" to='{to}' hold='1' wait='50' ver='1.6' xmpp:version='1.0' xml:lang='en'"
            f" content='text/xml; charset=utf-8' xmlns:xmpp='{XBOSH}'",
            "",
        )
        self._spawn(self._answers())
        await asyncio.wait_for(self._opened.wait(), 10)
        self._sid = self._header["sid"]
        self._spawn(self._carry())
        return self._header

    def _request(self, attributes: str, inner: str) -> None:
        self._rid += 1
        self._requested = asyncio.get_running_loop().time()
        sid = f" sid='{self._sid}'" if self._sid else ""
        body = f"<body rid='{self._rid}'{sid} xmlns='{HTTP_BIND}'{attributes}>{inner}</body>"
        self._open_requests.append(asyncio.create_task(self._post(body)))
        self._changed.set()

    async def _post(self, body: str) -> str:
        assert self._http is not None
        headers = {"Content-Type": "text/xml; charset=utf-8"}
        async with self._http.post(
            self.url("http-bind"), data=body.encode(), headers=headers
        ) as answer:
            return await answer.text()

    async def _carry(self) -> None:
        """Make requests: at least one waits at the server, at most two."""
        while True:
            inner = ""
            if self._open_requests:
                inner = await self._queue.get()
            while len(self._open_requests) > 1:
                self._changed.clear()
                await self._changed.wait()
            await asyncio.sleep(self._requested + APART - asyncio.get_running_loop().time())
            while not self._queue.empty():
                inner += self._queue.get_nowait()
            attributes, self._attributes = self._attributes, ""
            self._request(attributes, inner)

    async def _answers(self) -> None:
        """Take the contents of the answers, in the order of the requests."""
        while True:
            while not self._open_requests:
                self._changed.clear()
                await self._changed.wait()
            text = await asyncio.shield(self._open_requests[0])
            self._open_requests.popleft()
            self._changed.set()
            # There is always a request open, so that the server can send.
            if not self._open_requests and self._sid:
                self._queue.put_nowait("")
            if self._took(text):
                return

    def _took(self, text: str) -> bool:
        """Take an answer; tell whether it was the last."""
        slicer = Slicer()
        raws = slicer.feed(text.removesuffix("</body>").encode())
        header = slicer.header or {}
        self._header = self._header or header
        for raw in raws:
            self.arrived(Stanza.of(raw))
        self._opened.set()
        return header.get("type") == "terminate"

    async def close(self) -> None:
        """End the session as a polite client does."""
        if self.connected and self._sid:
            self._attributes = " type='terminate'"
            self.write("<presence type='unavailable'/>")
            # The reader ends with the last answer.
            await asyncio.wait(self._tasks[:1], timeout=3)
        await self.cut()

    async def cut(self) -> None:
        """Break the connection without closing: the server waits for a request in vain."""
        for request in self._open_requests:
            request.cancel()
        self._open_requests.clear()
        await super().cut()
        self._sid = ""
        self._attributes = ""
        self._header = {}
