"""The stanzas of a join by aioxmpp alone, as it comes: parsed to XSOs, written by its writer.

It decides, stores and checks nothing. The component's join is compared with it.
"""

from typing import Any

import aioxmpp
import aioxmpp.xml
from aioxmpp import xso
from harness import xsos

from benchmarks import traffic
from schemas.namespaces import MIX_PAM


class Join(xsos.Join1):
    """`<join/>`, as a payload and within client-join."""


@aioxmpp.IQ.as_payload_class
class ClientJoin(xso.XSO):  # type: ignore[misc]
    """`<client-join/>` with the channel's address and what it wraps."""

    TAG = (MIX_PAM[2], "client-join")
    channel = xso.Attr("channel", type_=xso.JID())
    join = xso.Child([Join])


aioxmpp.IQ.as_payload_class(Join)


class _File:
    """A file that keeps the written data."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.write = self.pieces.append

    def flush(self) -> None:
        """Do nothing: nobody waits."""

    def taken(self) -> bytes:
        """Give the data written since the last call."""
        data = b"".join(self.pieces)
        self.pieces.clear()
        return data


class Stream:
    """A stream's two ends, both long-lived, as aioxmpp's own has them."""

    def __init__(self) -> None:
        self._read: list[aioxmpp.IQ] = []
        processor = aioxmpp.xml.XMPPXMLProcessor()
        processor.stanza_parser = xso.XSOParser()
        processor.stanza_parser.add_class(aioxmpp.IQ, self._read.append)
        self._parser: Any = aioxmpp.xml.make_parser()
        self._parser.setContentHandler(processor)
        self._parser.feed(
            b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' version='1.0'"
            b" xmlns:stream='http://etherx.jabber.org/streams' from='%b' id='s'>"
            % traffic.DOMAIN.encode()
        )
        self._file = _File()
        domain = aioxmpp.JID.fromstr(traffic.DOMAIN)
        self._writer: Any = aioxmpp.xml.XMLStreamWriter(self._file, domain)
        self._writer.start()
        self._file.taken()

    def read(self, data: bytes) -> aioxmpp.IQ:
        """Read one iq."""
        self._parser.feed(data)
        return self._read.pop()

    def write(self, stanza: aioxmpp.IQ) -> bytes:
        """Write one iq."""
        self._writer.send(stanza)
        return self._file.taken()

    def ask(self, wish: bytes) -> tuple[aioxmpp.IQ, bytes]:
        """Read a client-join; gives it, and the join for the channel."""
        asked = self.read(wish)
        join = aioxmpp.IQ(
            aioxmpp.IQType.SET,
            from_=asked.to,
            to=asked.payload.channel,
            id_=asked.id_,
            payload=asked.payload.join,
        )
        return asked, self.write(join)

    def respond(self, asked: aioxmpp.IQ, join: Join) -> bytes:
        """Give the client's result around the channel's `<join/>`."""
        payload = ClientJoin()
        payload.channel, payload.join = asked.payload.channel, join
        result = aioxmpp.IQ(
            aioxmpp.IQType.RESULT,
            from_=asked.to,
            to=asked.from_,
            id_=asked.id_,
            payload=payload,
        )
        return self.write(result)
