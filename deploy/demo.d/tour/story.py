"""The story: alice with three devices, bob, and a channel. Each line shown was checked."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

from slixmpp import JID
from slixmpp.exceptions import IqError, IqTimeout

from tour.device import (
    ANNOTATION,
    NICK,
    ROSTER_ITEM,
    Device,
    archive_ids,
    join_result,
    participant,
    roster_push,
    says,
)
from tour.ports import COMPONENT, DOMAIN
from tour.screen import Unseen, heading, saw

ALICE, BOB = f"alice@{DOMAIN}", f"bob@{DOMAIN}"
CHANNEL_NAME = "coven"


@dataclass
class Cast:
    """Who plays: where they log in, and the devices that are on.

    `status` is the port of mixpam's status page; `register` tells whether the users have
    to make their accounts themselves.
    """

    port: int
    certificate: Path
    service: str
    passwords: dict[str, str]
    register: bool
    status: int
    on: list[Device] = field(default_factory=list)

    @property
    def channel(self) -> str:
        """Return the channel's address."""
        return f"{CHANNEL_NAME}@{self.service}"

    async def device(
        self, user: str, resource: str, *, mix: bool = True, register: bool = False
    ) -> Device:
        """Switch a device on and return it when server and component know it."""
        made = Device(user, resource, self.passwords[user], self.certificate, mix=mix)
        self.on.append(made)
        await made.online(self.port, register=register and self.register)
        # Twice: it answers the component's question about its abilities meanwhile.
        await made.fence(COMPONENT, DOMAIN, COMPONENT, DOMAIN)
        return made

    async def off(self, device: Device) -> None:
        """Switch a device off."""
        self.on.remove(device)
        await device.off()


async def raise_the_curtain(cast: Cast) -> tuple[Device, Device, Device, Device]:
    """Switch everybody's devices on and make the channel; return them."""
    phone = await cast.device(ALICE, "phone", register=True)
    laptop = await cast.device(ALICE, "laptop")
    old = await cast.device(ALICE, "old", mix=False)
    desk = await cast.device(BOB, "desk", register=True)
    if not await phone.plugin["xep_0405"].check_server_capability():
        raise Unseen("alice's account offers MIX-PAM", "no urn:xmpp:mix:pam:2 in its disco#info")
    try:
        await phone.plugin["xep_0369"].create_channel(JID(cast.service), CHANNEL_NAME)
    except (IqError, IqTimeout) as error:
        raise Unseen(f"{cast.service} makes a channel", why(error)) from None
    return phone, laptop, old, desk


async def play(cast: Cast) -> None:
    """Play the whole story. Raises Unseen at the first claim that does not hold."""
    phone, laptop, old, desk = await raise_the_curtain(cast)
    await _alice_joins(cast.channel, phone, laptop, old)
    await _bob_talks(cast, phone, laptop, old, desk)
    lines = await _laptop_catches_up(cast, phone, laptop, desk)
    await _old_client_reads(cast.channel, old, lines)
    await _bob_leaves(cast, desk)


async def _alice_joins(channel: str, phone: Device, laptop: Device, old: Device) -> None:
    heading(1, "alice joins the channel, on her phone alone")
    await join(phone, channel, "Alice")
    result = await phone.seen(join_result)
    me = participant(result) if result is not None else None
    if not me:
        raise Unseen("the join names alice's participant id", _text(result))
    saw("phone", f"is told that alice is in, as participant {me[:8]}")
    push = await laptop.seen(roster_push(channel))
    if push is None or participant(push) != me:
        raise Unseen("the laptop's roster names the same participant", _text(push))
    saw("laptop", "finds the channel in its roster at once, with the same participant id")
    push = await old.seen(roster_push(channel))
    if push is None or push.find(f"{ROSTER_ITEM}/{ANNOTATION}") is not None:
        raise Unseen("the old client gets a plain roster entry", _text(push))
    saw("old client", "gets a plain roster entry: it did not ask for MIX annotations")


async def _bob_talks(cast: Cast, phone: Device, laptop: Device, old: Device, desk: Device) -> None:
    heading(2, 'bob joins too, and says "When shall we three meet again?"')
    await join(desk, cast.channel, "Bob")
    text = "When shall we three meet again?"
    desk.say(cast.channel, text)
    await _get_it_once(cast, text, "Bob", phone, laptop, desk)
    saw("phone, laptop", "have it, once each, though only the phone has joined")
    await old.fence(cast.service, COMPONENT, DOMAIN)
    if old.copies(text):
        raise Unseen("the old client is left alone", _text(old.copies(text)[0]))
    saw("old client", "gets nothing: it does not say that it understands MIX", nothing=True)
    text = "In thunder, lightning, or in rain"
    laptop.say(cast.channel, text)
    await _get_it_once(cast, text, "Alice", phone, laptop, desk)
    saw("bob, phone", f'have what alice answers on her laptop: "{text}"')


async def _laptop_catches_up(
    cast: Cast, phone: Device, laptop: Device, desk: Device
) -> dict[str, str]:
    """Return alice's archive of the channel: text by archive id, oldest first."""
    heading(3, "alice's laptop is off while bob speaks, and reads it up later")
    await cast.off(laptop)
    text = "When the hurlyburly's done"
    desk.say(cast.channel, text)
    await _get_it_once(cast, text, "Bob", phone, desk)
    saw("phone", f'has "{text}"')
    again = await cast.device(ALICE, "laptop")
    archive = await _archive(again, cast.channel)
    if text not in archive.values():
        raise Unseen("the laptop finds the message in alice's archive", f"only {archive}")
    saw("laptop", "is back and finds it in alice's own archive (XEP-0313)")
    live = {i: _body(m) for m in phone.received if _body(m) for i in archive_ids(m, ALICE)}
    if archive != live or len(live) != 3:  # noqa: PLR2004 - three lines have been said
        raise Unseen("archive and live copies agree", f"archive {archive}, live {live}")
    saw("archive", "holds all three, with the very ids that the phone's live copies carry")
    return archive


async def _old_client_reads(channel: str, old: Device, lines: dict[str, str]) -> None:
    archive = await _archive(old, channel)
    if archive != lines:
        raise Unseen("the old client can read the archive", f"{archive}, not {lines}")
    saw("old client", "can read them there, too")


async def _bob_leaves(cast: Cast, desk: Device) -> None:
    heading(4, "bob leaves")
    await leave(desk, cast.channel)
    if not await desk.seen(
        lambda s: (
            roster_push(cast.channel)(s)
            and s.find(f"{ROSTER_ITEM}[@subscription='remove']") is not None
        )
    ):
        raise Unseen("the channel leaves bob's roster", "no roster push with a removal")
    left, _ = await _rosters(desk, cast.channel)
    if left:
        raise Unseen("the channel has left bob's roster", "it is still there")
    saw("bob", "is out, and the channel is gone from his roster")
    phone, laptop = (_named(cast, name) for name in ("phone", "laptop"))
    phone.say(cast.channel, text := "Fair is foul, and foul is fair")
    await _get_it_once(cast, text, "Alice", phone, laptop)
    await desk.fence(cast.service, COMPONENT, DOMAIN)
    if desk.copies(text):
        raise Unseen("bob hears no more of the channel", _text(desk.copies(text)[0]))
    saw("bob", "hears nothing of what alice says now; her devices do", nothing=True)
    joined, annotated = await _rosters(laptop, cast.channel)
    if not (joined and annotated):
        raise Unseen("alice's roster still has the channel", f"{joined=}, {annotated=}")
    saw("alice", "is still in: the channel is in her roster, annotated")


# -- what the story is made of -------------------------------------------------------------


async def join(device: Device, channel: str, nick: str) -> None:
    """Join a channel with slixmpp's MIX plugins. Raises Unseen when that fails."""
    try:
        await device.plugin["xep_0405"].join_channel(JID(channel), nick, timeout=20)
    except (IqError, IqTimeout) as error:
        raise Unseen(f"{nick} joins {channel}", why(error)) from None


async def leave(device: Device, channel: str) -> None:
    """Leave a channel. Raises Unseen when that fails."""
    try:
        await device.plugin["xep_0405"].leave_channel(JID(channel), timeout=20)
    except (IqError, IqTimeout) as error:
        raise Unseen(f"{device.user} leaves {channel}", why(error)) from None


async def _get_it_once(cast: Cast, text: str, nick: str, *devices: Device) -> None:
    """Check that each device has `text` by `nick` exactly once, once all has settled."""
    for device in devices:
        copy = await device.seen(says(text))
        who = f"{device.user.partition('@')[0]}'s {device.resource_name}"
        if copy is None:
            raise Unseen(f'{who} has "{text}"', "nothing, for ten seconds")
        if copy.findtext(NICK) != nick:
            raise Unseen(f"it is {nick} who speaks", _text(copy))
    for device in devices:
        await device.fence(cast.service, COMPONENT, DOMAIN)
        if len(device.copies(text)) != 1:
            raise Unseen("one copy for each device", f"{len(device.copies(text))} copies")


async def _archive(device: Device, channel: str) -> dict[str, str]:
    """Ask the user's own archive for a channel: text by archive id, oldest first."""
    try:
        answer = await device.plugin["xep_0313"].retrieve(with_jid=JID(channel), timeout=10)
    except (IqError, IqTimeout) as error:
        raise Unseen(f"{device.user} reads the archive", why(error)) from None
    return {
        str(found["mam_result"]["id"]): str(found["mam_result"]["forwarded"]["stanza"]["body"])
        for found in answer["mam"]["results"]
        if found["mam_result"]["forwarded"]["stanza"]["body"]
    }


async def _rosters(device: Device, channel: str) -> tuple[bool, bool]:
    """Tell whether the channel is in the user's roster, and whether it is annotated."""
    contacts, channels = await device.plugin["xep_0405"].get_mix_roster()
    annotated = any(item["jid"] == channel for item in channels)
    return annotated or any(item["jid"] == channel for item in contacts), annotated


def _named(cast: Cast, resource: str) -> Device:
    return next(d for d in cast.on if d.resource_name == resource)


def _body(stanza: ET.Element) -> str:
    groupchat = stanza.get("type") == "groupchat"
    return (stanza.findtext("{jabber:client}body") or "") if groupchat else ""


def _text(stanza: ET.Element | None) -> str:
    return "nothing" if stanza is None else ET.tostring(stanza, "unicode")


def why(error: IqError | IqTimeout) -> str:
    """Say in words what a request came to."""
    if isinstance(error, IqTimeout):
        return "no answer"
    return f"the error {error.condition}: {error.text or 'no text'}"
