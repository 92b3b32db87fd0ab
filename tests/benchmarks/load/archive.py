"""Reads a user's archive (XEP-0313), page by page, for the numbers of the messages in it."""

import re

from harness import ns

from benchmarks.load.device import Device

NUMBER = re.compile(rb">b(\d+) ")
_PAGE = 5_000
"""Entries requested at once; servers may return fewer."""

_LAST = re.compile(rb"<last>([^<]*)</last>")


async def numbers(device: Device) -> list[int]:
    """Return the numbers of all archived messages, in the archive's order."""
    found: list[int] = []
    after, page = "", 0
    while True:
        page += 1
        id_ = f"archive{page}"
        match = await device.wire.ask(
            f"<iq type='set' id='{id_}'><query xmlns='{ns.MAM}' queryid='{id_}'>"
            f"<set xmlns='http://jabber.org/protocol/rsm'><max>{_PAGE}</max>{after}</set>"
            "</query></iq>",
            rb"\A(.*?)<iq(?=[^>]*\bid=['\"]" + id_.encode() + rb"['\"])[^>]*>(.*?)</iq>",
        )
        here = [int(each) for each in NUMBER.findall(match[1])]
        found += here
        last = _LAST.search(match[2])
        if not here or last is None or re.search(rb"complete=['\"]true", match[2]):
            return found
        after = f"<after>{last[1].decode()}</after>"
