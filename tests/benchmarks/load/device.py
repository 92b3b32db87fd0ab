"""Accounts and their devices: registered, logged in, online as MIX clients, joined."""

import base64
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness import caps, ns
from harness.loopback import Place

from benchmarks.load.wire import RefusedError, Wire, connect, open_stream

_PASSWORD = "pw-of-a-benchmark"
_numbers = itertools.count(1)
_DISCO = re.compile(rb"<iq\b[^>]*>\s*<query[^>]*disco#info[^>]*/?>")
_ATTRIBUTE = {name: re.compile(rb"\b" + name + rb"=['\"]([^'\"]*)") for name in (b"id", b"from")}
_NODE = re.compile(rb"<query[^>]*\bnode=['\"]([^'\"]*)")


@dataclass
class Device:
    """One session: its full JID and its connection."""

    jid: str
    wire: Wire

    @property
    def bare(self) -> str:
        """Return the account's JID."""
        return self.jid.partition("/")[0]


def fresh_names(count: int) -> list[str]:
    """Return localparts not used before in this run."""
    return [f"b{next(_numbers)}" for _ in range(count)]


async def register(place: Place, name: str) -> None:
    """Make an account by in-band registration."""
    wire = await connect(place.ip, 5222)
    await wire.ask(open_stream(place.domain, ns.CLIENT), rb"</stream:features>")
    await wire.ask(
        f"<iq type='set' id='reg' to='{place.domain}'><query xmlns='{ns.REGISTER}'>"
        f"<username>{name}</username><password>{_PASSWORD}</password></query></iq>",
        rb"<iq[^>]*type=['\"]result['\"]",
    )
    wire.close()


def disco_answers(features: tuple[str, ...], data: bytes) -> Iterator[str]:
    """Write the answers of a client with these features to each disco#info request in `data`."""
    for query in _DISCO.finditer(data):
        text = query[0]
        if b"get" not in text:
            continue
        id_, sender = (_ATTRIBUTE[name].search(text) for name in (b"id", b"from"))
        node = _NODE.search(text)
        if id_ and sender:
            info = caps.info(features, node=node[1].decode() if node else "")
            to = sender[1].decode()
            yield f"<iq type='result' id='{id_[1].decode()}' to='{to}'>{info}</iq>"


async def login(place: Place, name: str, resource: str, features: tuple[str, ...]) -> Device:
    """Open a session and come online as a client with these features (XEP-0115)."""
    wire = await connect(
        place.ip, 5222, lambda wire, data: wire.write("".join(disco_answers(features, data)))
    )
    await wire.ask(open_stream(place.domain, ns.CLIENT), rb"</stream:features>")
    secret = base64.b64encode(f"\0{name}\0{_PASSWORD}".encode()).decode()
    await wire.ask(f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'>{secret}</auth>", rb"<success")
    await wire.ask(open_stream(place.domain, ns.CLIENT), rb"</stream:features>")
    await wire.ask(
        f"<iq type='set' id='bind'><bind xmlns='{ns.BIND}'><resource>{resource}</resource>"
        "</bind></iq>",
        rb"<jid>[^<]*</jid>",
    )
    device = Device(f"{name}@{place.domain}/{resource}", wire)
    wire.write(f"<presence>{caps.element(features)}</presence>")
    await fence(device)
    return device


async def fence(device: Device) -> None:
    """Make a round trip to the server."""
    id_ = f"fence{next(_numbers)}"
    domain = device.bare.partition("@")[2]
    await device.wire.ask(
        f"<iq type='get' id='{id_}' to='{domain}'><ping xmlns='{ns.PING}'/></iq>",
        rb"<iq[^>]*id=['\"]" + id_.encode() + rb"['\"]",
    )


async def newest_archived(device: Device) -> str:
    """Return the newest entry of the account's archive (XEP-0313), as received."""
    match = await device.wire.ask(
        f"<iq type='set' id='newest'><query xmlns='{ns.MAM}'>"
        "<set xmlns='http://jabber.org/protocol/rsm'><max>1</max><before/></set></query></iq>",
        rb"(.*)<iq[^>]*id=['\"]newest['\"]",
    )
    return match[1].decode()


async def create_channel(device: Device, service: str, name: str) -> str:
    """Make a channel on mod_mix and return its address."""
    await _set(device, service, f"<create xmlns='{ns.CORE1}' channel='{name}'/>")
    return f"{name}@{service}"


async def join(device: Device, channel: str) -> None:
    """Join through the user's own server; only the messages node, so that joins stay cheap."""
    await _set(
        device,
        device.bare,
        f"<client-join xmlns='{ns.PAM2}' channel='{channel}'><join xmlns='{ns.CORE1}'>"
        f"<nick>{device.bare.partition('@')[0]}</nick><subscribe node='{ns.NODES}messages'/>"
        "</join></client-join>",
    )


async def leave(device: Device, channel: str) -> None:
    """Leave through the user's own server."""
    await _set(
        device,
        device.bare,
        f"<client-leave xmlns='{ns.PAM2}' channel='{channel}'><leave xmlns='{ns.CORE1}'/>"
        "</client-leave>",
    )


async def unregister(device: Device) -> None:
    """Remove the account, with its archive; the server ends its sessions."""
    device.wire.write(
        f"<iq type='set' id='gone'><query xmlns='{ns.REGISTER}'><remove/></query></iq>"
    )
    await device.wire.lost


async def _set(device: Device, to: str, inner: str) -> None:
    id_ = f"set{next(_numbers)}"
    match = await device.wire.ask(
        f"<iq type='set' id='{id_}' to='{to}'>{inner}</iq>",
        rb"<iq(?=[^>]*\bid=['\"]" + id_.encode() + rb"['\"])[^>]*?(?:/>|>.*?</iq>)",
    )
    if b"type='result'" not in match[0].replace(b'"', b"'").partition(b">")[0]:
        raise RefusedError(f"{inner[:80]}: {match[0]!r}")
