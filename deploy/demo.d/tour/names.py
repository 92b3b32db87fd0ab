"""A tiny name server: where the XMPP servers of the demo's domains are.

The other server has to reach the component's domain by name, as a real one would, and on
a machine where the reader may be no administrator no file says where that is. ejabberd
asks the C library for addresses, but a server of its choice for SRV records (RFC 2782).
"""

from __future__ import annotations

import asyncio
import struct

from tour.ports import IP

HEADER = struct.Struct("!6H")
PREFIX = b"\x0c_xmpp-server\x04_tcp"
SRV, INTERNET = 33, 1
ANSWERED, NO_SUCH_NAME = 0x8580, 0x8583
TARGET = b"\x09localhost\x00"


class NameServer(asyncio.DatagramProtocol):
    """Say that the XMPP server of each of `domains` is at localhost, on port `port`."""

    def __init__(self, domains: list[str], port: int) -> None:
        self._known = {PREFIX + _encoded(domain) for domain in domains}
        self._port = port
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> int:
        """Start answering, and return the UDP port."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(IP, 0))
        return int(self._transport.get_extra_info("sockname")[1])

    def stop(self) -> None:
        """Answer no more."""
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one query; what is none gets no answer."""
        end = data.find(b"\0", HEADER.size) + 1
        if len(data) < HEADER.size or end == 0 or len(data) < end + 4:
            return
        (number, *_) = HEADER.unpack_from(data)
        name, question = data[HEADER.size : end].lower(), data[HEADER.size : end + 4]
        kind, _ = struct.unpack_from("!2H", data, end)
        found = name in self._known and kind == SRV
        answer = b""
        if found:
            place = struct.pack("!3H", 0, 0, self._port) + TARGET
            # 0xC00C: the name asked for, which stands right behind the header.
            answer = struct.pack("!3HIH", 0xC00C, SRV, INTERNET, 60, len(place)) + place
        flags = ANSWERED if found else NO_SUCH_NAME
        header = HEADER.pack(number, flags, 1, int(found), 0, 0)
        if self._transport is not None:
            self._transport.sendto(header + question + answer, addr)


def _encoded(domain: str) -> bytes:
    labels = domain.encode("ascii").split(b".")
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
