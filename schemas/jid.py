"""JIDs, canonicalised once at the edge.

Keys and comparisons everywhere else use only what `parse` returned, so that case,
Unicode forms, IDN spellings and a trailing dot of one address are one address
(RFC 7622; the servers still prepare by RFC 3920's stringprep profiles, and so does mixpam, through
aioxmpp). aioxmpp alone accepts `a@b@c`, spaces and a trailing dot in the domain, which servers
refuse or strip: those cases are handled here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Generic, NamedTuple, TypeVar

from aioxmpp.structs import JID as PREPARED_JID

MAX_LENGTH = 3071
"""The longest legal JID in bytes: three parts of 1023 and two separators."""

MAX_DOMAIN = 1023
"""The longest legal domain in bytes."""

# Already prepared: stringprep would change nothing. Most JIDs match, and this costs a hundredth of
# the full preparation.
_PLAIN = re.compile(
    r"(?:(?P<local>[a-z0-9.+_#!$%^*()=?~{}|\[\]\\-]{1,1023})@)?"
    r"(?P<domain>[a-z0-9](?:[a-z0-9-]{0,62})(?:\.[a-z0-9](?:[a-z0-9-]{0,62}))*)"
    r"(?:/(?P<resource>[A-Za-z0-9.+_#@:/=-]{1,1023}))?",
)
_FORBIDDEN_IN_DOMAIN = re.compile(r"[\s@\"&'<>/:\\]|\.\.|^\.|\.$|^$")
# Full stops of other scripts (RFC 7622 §3.2.1).
_DOTS: Mapping[int, int] = str.maketrans("\u3002\uff0e\uff61", "...")


class _Parts(NamedTuple):
    local: str | None
    domain: str
    resource: str | None


T = TypeVar("T")


class _Once(Generic[T]):
    """Computes an attribute of a JID at its first use, and keeps it.

    functools.cached_property does that too, under a lock, which takes longer than computing it.
    """

    def __init__(self, make: Callable[[Jid], T]) -> None:
        self._make = make
        self._name = make.__name__
        self.__doc__ = make.__doc__

    def __get__(self, jid: Jid, _: type[Jid]) -> T:
        made = jid.__dict__[self._name] = self._make(jid)
        return made


class Jid(_Parts):
    """A canonical JID; `str()` gives its canonical spelling."""

    @_Once
    def text(self) -> str:
        """Give the canonical spelling."""
        text = self.domain if self.local is None else f"{self.local}@{self.domain}"
        return text if self.resource is None else f"{text}/{self.resource}"

    @_Once
    def key(self) -> bytes:
        """Give the canonical spelling in bytes, the key of rows and channels."""
        return self.text.encode()

    @property
    def bare(self) -> Jid:
        """The same JID without its resource."""
        return self if self.resource is None else Jid(self.local, self.domain, None)

    @property
    def is_bare_user(self) -> bool:
        """Whether this is `local@domain`, the form of an account or a channel."""
        return self.local is not None and self.resource is None

    def with_resource(self, resource: str) -> Jid:
        """Give the full JID of one resource of this bare JID."""
        return Jid(self.local, self.domain, resource)

    def __str__(self) -> str:
        return self.text


_LONG = 100
"""Characters above which a JID is not cached: strangers could fill memory with long ones."""

_MANY = 2_000
"""JIDs that are cached, before the cache is emptied."""


class _Parsed(dict[str, Jid]):
    """A cache of parsed JIDs, at the cost of a dictionary look-up."""

    def __missing__(self, text: str) -> Jid:
        found = _parsed(text)
        if len(text) <= _LONG:
            if len(self) >= _MANY:
                self.clear()
            self[text] = found
        return found


parse: Callable[[str], Jid] = _Parsed().__getitem__
"""Canonicalise a JID as written by a server, a client or an operator.

Raises ValueError, with a text fit for the sender, if no server would accept it.
"""


def _parsed(text: str) -> Jid:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_LENGTH:
        raise ValueError("the JID is too long")
    plain = _PLAIN.fullmatch(text)
    if plain is not None and "xn--" not in plain["domain"] and len(plain["domain"]) <= MAX_DOMAIN:
        return Jid(plain["local"], plain["domain"], plain["resource"])
    return _prepare(text)


def is_plain(text: str) -> bool:
    """Tell quickly whether a JID is canonical; False means only that it may not be."""
    return _PLAIN.fullmatch(text) is not None and "xn--" not in text


def _prepare(text: str) -> Jid:
    address, slash, resource = text.partition("/")
    local, at, domain = address.rpartition("@")
    if slash and not resource:
        raise ValueError("the resource is empty")
    if at and not local:
        raise ValueError("the localpart is empty")
    if "@" in local:
        raise ValueError("more than one @ before the resource")
    domain = domain.translate(_DOTS).removesuffix(".")
    _check_domain(domain)
    try:
        # Servers accept code points newer than Unicode 3.2: the names of some phones have them.
        prepared = PREPARED_JID(local or None, _unicode(domain), resource or None, strict=False)
    except ValueError as error:
        raise ValueError(f"not a JID: {error}") from None
    # Preparation may produce forbidden characters, as a slash from a full-width one.
    _check_domain(prepared.domain)
    return Jid(prepared.localpart, prepared.domain, prepared.resource)


def _check_domain(domain: str) -> None:
    if _FORBIDDEN_IN_DOMAIN.search(domain):
        raise ValueError("the domain is not a domain")


def _unicode(domain: str) -> str:
    """Give a domain's Unicode spelling if it is written with `xn--`.

    Names that only the newer IDNA has (`xn--strae-oqa` is straße) have no other spelling that
    stringprep would distinguish, and stay as they are.
    """
    if "xn--" not in domain.lower():
        return domain
    try:
        return domain.lower().encode("ascii").decode("idna")
    except ValueError:
        return domain


def split_encoded(jid: Jid) -> tuple[str | None, Jid]:
    """Split a participant's encoded JID into participant id and channel.

    `X#coven@mix.example` is ("X", coven@mix.example); a plain channel's id is None.
    The channel comes back bare (XEP-0403, "Encoding of participants' JIDs").
    """
    if jid.local is None or "#" not in jid.local:
        return None, jid.bare
    participant_id, _, channel = jid.local.partition("#")
    return participant_id, Jid(channel or None, jid.domain, None)
