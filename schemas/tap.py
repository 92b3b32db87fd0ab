"""Payloads between tap and component (`mixpam:tap:1`, deploy/tap-protocol.md)."""

from __future__ import annotations

from collections.abc import Mapping

from aioxmpp import xso

from schemas.namespaces import TAP


class Hello(xso.XSO):
    """The tap of one domain introduces itself.

    `limit` is the size in bytes of the largest stanza that the server accepts, None for any.
    """

    TAG = (TAP, "hello")
    UNKNOWN_ATTR_POLICY = xso.UnknownAttrPolicy.DROP

    version = xso.Attr("version")
    tap = xso.Attr("tap", default="?")
    software = xso.Attr("software", default="?")
    archive = xso.Attr("archive", type_=xso.Bool(), default=False)
    multicast = xso.Attr("multicast", type_=xso.Bool(), default=False)
    pages = xso.Attr("pages", type_=xso.Bool(), default=False)
    limit = xso.Attr("limit", type_=xso.Integer(), default=None, erroneous_as_absent=True)


class Replayed(xso.XSO):
    """All current sessions have been reported."""

    TAG = (TAP, "replayed")


class _AboutUser(xso.XSO):
    jid = xso.Attr("jid")


class UserRemoved(_AboutUser):
    """An account was deleted; `jid` is bare."""

    TAG = (TAP, "user-removed")


class Hibernated(_AboutUser):
    """An XEP-0198 session lost its connection and waits; `jid` is full."""

    TAG = (TAP, "hibernated")


class Resumed(_AboutUser):
    """An XEP-0198 session came back; `jid` is full."""

    TAG = (TAP, "resumed")


class Blocked(_AboutUser):
    """A user has put an address in a MIX domain on the blocking list; `jid` is bare."""

    TAG = (TAP, "blocked")

    address = xso.Attr("address")


BLOCKED_TAG = f"{{{TAP}}}blocked"
"""Marks the unavailable presence that may still go to a blocked address."""


class Unblocked(_AboutUser):
    """A user has taken an address from the blocking list, or all (None); `jid` is bare."""

    TAG = (TAP, "unblocked")

    address = xso.Attr("address", default=None)


class S2S(xso.XSO):
    """The connection to a remote domain came up or went down."""

    TAG = (TAP, "s2s")

    domain = xso.Attr("domain")
    state = xso.Attr("state", validator=xso.RestrictToSet({"up", "down"}))


class Service(xso.XSO):
    """One MIX domain."""

    TAG = (TAP, "service")

    jid = xso.Attr("jid")

    def __init__(self, jid: str) -> None:
        super().__init__()
        self.jid = jid


class Services(xso.XSO):
    """The MIX domains in use: all of them (`complete`) or additions.

    `multicast` is the address to which the tap may send batches (T10).
    """

    TAG = (TAP, "services")

    complete = xso.Attr("complete", type_=xso.Bool(), default=False)
    multicast = xso.Attr("multicast", default=None)
    services = xso.ChildList([Service])

    def __init__(self, domains: list[str], *, complete: bool, multicast: str | None = None) -> None:
        super().__init__()
        self.complete = complete
        self.multicast = multicast
        self.services.extend(Service(domain) for domain in domains)


Event = Hello | Replayed | UserRemoved | Hibernated | Resumed | Blocked | Unblocked | S2S

EVENTS: Mapping[str, type[Event]] = {
    f"{{{TAP}}}{cls.TAG[1]}": cls
    for cls in (Hello, Replayed, UserRemoved, Hibernated, Resumed, Blocked, Unblocked, S2S)
}
