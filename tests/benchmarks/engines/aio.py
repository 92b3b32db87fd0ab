"""aioxmpp's XSO in and out: parsed to objects, readdressed, written by its writer.

aioxmpp has no component; its parser and writer are put on a socket here. Children without a class
would be dropped, so those of the message are declared.
"""

import asyncio
import sys
from typing import Any

import aioxmpp
import aioxmpp.xml
from aioxmpp import xso

from benchmarks import traffic


class _Mix(xso.XSO):  # type: ignore[misc]
    TAG = ("urn:xmpp:mix:core:1", "mix")
    nick = xso.ChildText(("urn:xmpp:mix:core:1", "nick"), default=None)
    jid = xso.ChildText(("urn:xmpp:mix:core:1", "jid"), default=None)


aioxmpp.Message.bench_mix = xso.Child([_Mix])


class _Sink:
    """A file that writes to a transport."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self.write = transport.write

    def flush(self) -> None:
        """Do nothing: the transport writes when it can."""


class _Component(asyncio.Protocol):
    def __init__(self, devices: int) -> None:
        self._devices = devices
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        to = aioxmpp.JID.fromstr(traffic.DOMAIN)
        assert isinstance(transport, asyncio.WriteTransport)
        self._writer: Any = aioxmpp.xml.XMLStreamWriter(_Sink(transport), to)
        self._writer.start()
        processor = aioxmpp.xml.XMPPXMLProcessor()
        processor.stanza_parser = xso.XSOParser()
        processor.stanza_parser.add_class(aioxmpp.Message, self._fan_out)
        self._parser: Any = aioxmpp.xml.make_parser()
        self._parser.setContentHandler(processor)

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)

    def connection_lost(self, _: Exception | None) -> None:
        self.ended.set_result(None)

    def _fan_out(self, message: aioxmpp.Message) -> None:
        bare = message.to
        for number in range(1, self._devices + 1):
            message.to = bare.replace(resource=f"d{number}")
            self._writer.send(message)


async def _main(port: int, devices: int) -> None:
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    _, component = await loop.create_connection(lambda: _Component(devices), "127.0.0.1", port)
    await component.ended


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2])))
