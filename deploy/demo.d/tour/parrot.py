"""What the reader finds after the tour: bob, who answers, and mixpam's status page."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET

from tour.device import Device, says
from tour.ports import IP
from tour.screen import Unseen
from tour.story import BOB, Cast, join

NICK = "Bob"
GREETING = "Is anybody there?"


def answer_to(text: str) -> str:
    """Return what bob says to `text`."""
    return f"You said: {text}"


class Parrot:
    """Bob's desk, listening."""

    def __init__(self, desk: Device, channel: str) -> None:
        self._desk = desk
        self._channel = channel
        desk.add_event_handler("mix_message", self._hear)

    def _hear(self, message: object) -> None:
        xml: ET.Element = message.xml  # type: ignore[attr-defined]
        text = xml.findtext("{jabber:client}body")
        nick = xml.findtext("{urn:xmpp:mix:core:1}mix/{urn:xmpp:mix:core:1}nick")
        if text and nick != NICK:
            self._desk.say(self._channel, answer_to(text))


async def prepare(cast: Cast) -> Parrot:
    """Have bob join again and hear him answer; everybody else logs out.

    Raises Unseen if he does not answer, or if the status page does not.
    """
    phone = next(d for d in cast.on if d.resource_name == "phone")
    desk = next(d for d in cast.on if d.user == BOB)
    await join(desk, cast.channel, NICK)
    parrot = Parrot(desk, cast.channel)
    phone.say(cast.channel, GREETING)
    if await phone.seen(says(answer_to(GREETING))) is None:
        raise Unseen("bob answers alice in the channel", "nothing, for ten seconds")
    await _check_status(cast.status)
    await asyncio.gather(*(cast.off(device) for device in list(cast.on) if device is not desk))
    return parrot


async def _check_status(port: int) -> None:
    """Look at the status page. Raises Unseen unless it is there."""
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(IP, port)
            writer.write(f"GET / HTTP/1.0\r\nHost: {IP}\r\n\r\n".encode())
            first = (await reader.readline()).decode("ascii", "replace").strip()
            writer.close()
    except (OSError, TimeoutError) as error:
        first = str(error) or "no answer"
    if " 200 " not in first:
        raise Unseen("mixpam serves its status page", first)
