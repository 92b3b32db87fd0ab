"""A device of a user: slixmpp as its users run it, remembering what it received."""

from __future__ import annotations

import asyncio
import ssl
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slixmpp
from slixmpp import JID
from slixmpp.exceptions import IqError, IqTimeout

from tour.ports import IP, is_loopback
from tour.screen import Trouble

PLUGINS = ("xep_0030", "xep_0115", "xep_0199", "xep_0313", "xep_0359")
MIX_PLUGINS = ("xep_0369", "xep_0403", "xep_0404", "xep_0405")

CLIENT = "{jabber:client}"
ROSTER_ITEM = "{jabber:iq:roster}query/{jabber:iq:roster}item"
ANNOTATION = "{urn:xmpp:mix:roster:0}channel"
JOIN = "{urn:xmpp:mix:pam:2}client-join/{urn:xmpp:mix:core:1}join"
NICK = "{urn:xmpp:mix:core:1}mix/{urn:xmpp:mix:core:1}nick"
STANZA_ID = "{urn:xmpp:sid:0}stanza-id"


class Device(slixmpp.ClientXMPP):
    """One resource of an account; without `mix`, a client from before MIX."""

    def __init__(
        self,
        user: str,
        resource: str,
        password: str,
        certificate: Path | None = None,
        *,
        mix: bool = True,
    ) -> None:
        super().__init__(f"{user}/{resource}", password)
        self.user = user
        self.resource_name = resource
        self.mix = mix
        self.received: list[ET.Element] = []
        self._news = asyncio.Event()
        self._decided = asyncio.Event()
        self._failure = ""
        # In the demo, the only certificate a device trusts is the demo's own.
        self.ca_certs = certificate
        self.enable_direct_tls = False
        for plugin in PLUGINS + (MIX_PLUGINS if mix else ()):
            self.register_plugin(plugin)
        self.add_filter("in", self._note)
        self.add_event_handler("failed_all_auth", self._refused)

    def _note(self, stanza: Any) -> Any:  # noqa: ANN401 - slixmpp has no common type
        self.received.append(stanza.xml)
        self._news.set()
        return stanza

    def _refused(self, _: object) -> None:
        self._failure = "the server refused the password."
        self._decided.set()

    def do_without_tls(self) -> None:
        """Log in over a connection that is not encrypted; for this very machine only."""
        self.enable_starttls = False
        self.enable_plaintext = True
        for mechanism in ("unencrypted_scram", "unencrypted_plain"):
            self.plugin["feature_mechanisms"].config[mechanism] = True

    async def online(self, port: int, *, host: str = IP, register: bool = False) -> None:
        """Log in, ask for the roster and say "available"; `register` makes the account.

        Raises Trouble when that takes more than 20 seconds.
        """
        self.add_event_handler("session_start", lambda _: self._decided.set(), disposable=True)
        if register:
            self.register_plugin("xep_0077", {"force_registration": True})
            self.add_event_handler("register", self._register)
        if self.ca_certs is None and is_loopback(host):
            # On this very machine nobody is in between.
            self.ssl_context.check_hostname = False
            self.ssl_context.verify_mode = ssl.CERT_NONE
        self.connect(host, port)
        failure = f"{host}:{port} gave it no session within 20 seconds."
        try:
            await asyncio.wait_for(self._decided.wait(), 20)
        except TimeoutError:
            raise Trouble(f"{self.boundjid} could not log in: {failure}") from None
        if self._failure:
            raise Trouble(f"{self.boundjid} could not log in: {self._failure}")
        # slixmpp's MIX plugin asks for the channels' annotations, the old client does not.
        if self.mix:
            await self.plugin["xep_0405"].get_mix_roster()
        else:
            await self.get_roster()
        self.send_presence()

    async def _register(self, _: object) -> None:
        request = self.make_iq_set()
        request["register"]["username"] = self.boundjid.user
        request["register"]["password"] = self.password
        try:
            await request.send()  # type: ignore[no-untyped-call]
        except (IqError, IqTimeout) as error:
            self._failure = f"the server refused to make the account: {error}"
            self._decided.set()

    async def seen(
        self, wanted: Callable[[ET.Element], bool], seconds: float = 10
    ) -> ET.Element | None:
        """Return the first stanza received that is `wanted`, None if there is none in time."""
        deadline = time.monotonic() + seconds
        while True:
            self._news.clear()
            found = next((stanza for stanza in self.received if wanted(stanza)), None)
            left = deadline - time.monotonic()
            if found is not None or left <= 0:
                return found
            try:
                await asyncio.wait_for(self._news.wait(), left)
            except TimeoutError:
                continue

    async def fence(self, *targets: str) -> None:
        """Ask each of `targets` something, in turn: what was on its way has arrived.

        Stanzas on one way keep their order, so an answer is behind all that left before it.
        """
        for target in targets:
            try:
                await self.plugin["xep_0030"].get_info(jid=JID(target), cached=False, timeout=10)
            except IqError:
                continue  # an answer, too
            except IqTimeout:
                raise Trouble(f"{target} does not answer {self.boundjid}") from None

    def say(self, channel: str, text: str) -> None:
        """Send a message to a channel."""
        self.send_message(mto=JID(channel), mbody=text, mtype="groupchat")

    def copies(self, text: str) -> list[ET.Element]:
        """Return all messages received with body `text`."""
        return [stanza for stanza in self.received if says(text)(stanza)]

    async def off(self) -> None:
        """Log out."""
        if self.is_connected():
            await self.disconnect(wait=2.0)


def says(text: str) -> Callable[[ET.Element], bool]:
    """Return a test for a channel's message with body `text`."""
    return lambda stanza: (
        stanza.tag == f"{CLIENT}message"
        and stanza.get("type") == "groupchat"
        and stanza.findtext(f"{CLIENT}body") == text
    )


def roster_push(channel: str) -> Callable[[ET.Element], bool]:
    """Return a test for a roster push of `channel`."""
    return lambda stanza: (
        stanza.tag == f"{CLIENT}iq"
        and stanza.get("type") == "set"
        and stanza.find(f"{ROSTER_ITEM}[@jid='{channel}']") is not None
    )


def join_result(stanza: ET.Element) -> bool:
    """Tell whether a stanza is the positive answer to a join."""
    return stanza.get("type") == "result" and stanza.find(JOIN) is not None


def participant(stanza: ET.Element) -> str | None:
    """Return the participant id in a join result or in a roster push's annotation."""
    for path, name in ((JOIN, "id"), (f"{ROSTER_ITEM}/{ANNOTATION}", "participant-id")):
        found = stanza.find(path)
        if found is not None:
            return found.get(name)
    return None


def archive_ids(stanza: ET.Element, user: str) -> list[str]:
    """Return the ids that `user`'s own server gave a message (XEP-0359)."""
    return [e.get("id", "") for e in stanza.findall(STANZA_ID) if e.get("by") == user]
