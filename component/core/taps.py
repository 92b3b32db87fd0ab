"""Events of the taps, about themselves and their servers (tap protocol T7).

A tap without a `hello` is reported, too: no user of its domain is served, and no other part would
notice.
"""

from __future__ import annotations

from collections.abc import Callable

from component.core.context import Context, Tap
from schemas import codec, jid, tap
from schemas.jid import Jid
from schemas.stanza import Stanza

PROTOCOL_VERSION = "1"

PATIENCE = 10.0
"""Seconds that the taps have for their `hello`, which they send as soon as a link is up …"""

REMINDER = 3_600.0
"""… and seconds after which it is said again that one is missing."""

STRANGE_DOMAINS = 10
"""Foreign domains whose taps are reported during one link."""


class Taps:
    """Takes the taps' events; `heard` gets those about the tap's own domain, with the domain."""

    def __init__(self, context: Context, heard: Callable[[str, tap.Event], None]) -> None:
        self._context = context
        self._heard = heard
        # Domains that have sent `hello` on this link: those served, and others.
        self._ours: set[str] = set()
        self._strange: set[str] = set()

    def link_up(self) -> None:
        """Begin to wait for the taps: a link is up."""
        self._ours.clear()
        self._strange.clear()
        self._context.while_linked(PATIENCE, self._look_for_missing)

    def _look_for_missing(self) -> None:
        for domain in sorted(self._context.domains - self._ours):
            self._context.report("tap-missing", "warning", domain=domain)
        self._context.while_linked(REMINDER, self._look_for_missing)

    def event(self, stanza: Stanza) -> None:
        """Take a message to the component. Raises MalformedStanza for a garbled event."""
        sender, payload = stanza.sender, stanza.payload
        kind = None if payload is None else tap.EVENTS.get(payload.tag)
        if payload is None or kind is None:
            self._context.drop("message-to-component")
            return
        is_server = sender.local is None and sender.resource is None
        if not is_server or sender.domain not in self._context.domains:
            if is_server and kind is tap.Hello and sender != self._context.own:
                self._not_ours(sender.domain)
            else:
                # Only the servers' own taps; anybody else is up to something.
                self._context.report("event-of-stranger", "warning", sender=str(sender))
            self._context.drop("event-of-stranger")
            return
        event = codec.to_xso(payload, kind)
        if isinstance(event, tap.Hello) and not self._hello(sender.domain, event):
            return
        self._heard(sender.domain, event)

    def _not_ours(self, domain: str) -> None:
        """Report once that the tap of a domain is connected that is not served."""
        if domain not in self._strange and len(self._strange) < STRANGE_DOMAINS:
            self._strange.add(domain)
            self._context.report("tap-of-other-domain", "warning", domain=domain)

    def _hello(self, domain: str, hello: tap.Hello) -> bool:
        """Note what a tap can do; False for one that we do not understand."""
        self._ours.add(domain)
        self._context.report(
            "tap",
            domain=domain,
            software=hello.software,
            tap=hello.tap,
            archive=hello.archive,
        )
        if hello.version != PROTOCOL_VERSION:
            self._context.report("tap-version", "error", domain=domain, version=hello.version)
            return False
        limit = hello.limit if hello.limit is not None and hello.limit > 0 else None
        self._context.taps[domain] = Tap(hello.archive, hello.pages, limit)
        return True


def own_user(domain: str, text: str) -> Jid:
    """Read the JID of an event; a tap speaks of its own domain's users only.

    Raises MalformedStanza for anybody else.
    """
    user = address(text)
    if user.domain != domain or user.local is None:
        raise codec.MalformedStanza("an event about another domain's user")
    return user


def address(text: str) -> Jid:
    """Read any other JID of an event. Raises MalformedStanza if it is none."""
    try:
        return jid.parse(text)
    except ValueError as error:
        raise codec.MalformedStanza(str(error)) from None
