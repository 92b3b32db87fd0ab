"""Which domains are MIX services, and that the taps know them (tap protocol C5).

Naming a domain to the taps diverts its presence and its iq results from everybody on
the server. So nobody's word is taken for it, least of all that of a user who asks to
join `friend@big-provider.example`: a domain is asked first whether it is a MIX service
(XEP-0369 §6.1), and a lying one harms only its own traffic. It is asked in the name of the
user who wants to join: the component's own domain need not be known to the world.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator

from component.core.context import Context
from component.core.errors import Refusal, wait
from component.core.users.mirror import Mirror
from schemas import codec, disco, tap
from schemas import stanza as stanzas
from schemas.jid import Jid
from schemas.namespaces import MIX_CORE
from schemas.stanza import Stanza, is_blocked

Verdict = Callable[[Refusal | ET.Element | None], None]
"""Gets None if the domain is a MIX service, else why not: our refusal or its error."""


PORTION_BYTES = 65_536
"""Bytes of the domains in one stanza."""

_SERVICE_BYTES = len("<service jid=''/>")

MANY = 2_000
"""Domains that may be known before those are forgotten that nobody is in."""

_WORTH_IT = 0.9
"""If a larger part of the domains stays, a new complete list is not worth sending."""

ID_PREFIX = "mixpam:"
"""How ids begin whose answers the tap hands over, whoever they are from (tap protocol T3)."""


class Services:
    """Asks domains what they are, and keeps every tap's list complete."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._asked: dict[str, list[tuple[Jid, Verdict]]] = {}
        # Domains that were added on this link, and when; the batch address that each tap has.
        self._added: dict[str, float] = {}
        self._multicast: dict[str, str | None] = {}

    def announce(self, domain: str, multicast: str | None) -> None:
        """Give one tap the whole list: from now on it takes the users' requests.

        `multicast` is where it may send what it gathers, if that is wanted.
        """
        if not self._multicast:
            # The first tap of a link: nobody waits for a domain that nobody is in any more.
            self._context.mirror.services &= _in_use(self._context.mirror)
        first, *more = self._portions()
        self._tell(domain, tap.Services(first, complete=True, multicast=multicast))
        self._multicast[domain] = multicast
        for some in more:
            self._tell(domain, tap.Services(some, complete=False))

    def _portions(self) -> Iterator[list[str]]:
        """Give all domains in portions, each fit for one stanza; at least one of those."""
        most = min(PORTION_BYTES, self._context.largest.stanza // 2)
        portion: list[str] = []
        room = most
        # Until it comes, the tap does not know a domain: long names, of which few fit into a
        # stanza, hold up no others.
        for domain in sorted(self._context.mirror.services, key=lambda each: (len(each), each)):
            size = _SERVICE_BYTES + len(codec.escape(domain).encode())
            if portion and size > room:
                yield portion
                portion, room = [], most
            portion.append(domain)
            room -= size
        yield portion

    def knows(self, domain: str) -> bool:
        """Tell whether a domain is known to be a MIX service."""
        return domain in self._context.mirror.services

    def check(self, domain: str, user: Jid, verdict: Verdict) -> None:
        """Find out for a user whether a domain is a MIX service, at once if that is known."""
        if self.knows(domain):
            verdict(None)
            return
        waiting = self._asked.setdefault(domain, [])
        waiting.append((user, verdict))
        if len(waiting) == 1:
            self._ask(domain, user)

    def _ask(self, domain: str, user: Jid) -> None:
        context = self._context
        context.mirror.asked_domains.add(domain)
        request = stanzas.make(
            stanzas.IQ,
            "get",
            user,
            Jid(None, domain, None),
            # By this id the tap passes the answer on: the domain is not on its list yet.
            f"{ID_PREFIX}{context.new_id()}",
            ET.Element(disco.QUERY_TAG),
        )
        context.ask(
            request,
            context.limits.channel_timeout,
            lambda reply: self._answered(domain, user, reply),
        )

    def blocked(self, user: Jid, domain: str) -> None:
        """Go on without a user who has just blocked a domain that is being asked.

        If it was asked in that user's name, its answer does not get through any more: it is
        asked in another's.
        """
        waiting = self._asked.get(domain, [])
        others = [each for each in waiting if each[0] != user]
        if len(others) == len(waiting):
            return
        if others:
            self._asked[domain] = others
            if waiting[0][0] == user:
                self._ask(domain, others[0][0])
        else:
            del self._asked[domain]
            self._context.mirror.asked_domains.discard(domain)
        for asker, verdict in waiting:
            if asker == user:
                verdict(stanzas.blocked())

    def forget_asked(self) -> None:
        """Forget the open questions: the link is gone."""
        self._asked.clear()
        self._added.clear()
        self._multicast.clear()
        self._context.mirror.asked_domains.clear()

    def _answered(self, domain: str, asker: Jid, reply: Stanza | None) -> None:
        waiting = self._asked.get(domain, [])
        if reply is None and not any(user == asker for user, _ in waiting):
            return  # another has been asked since
        self._context.mirror.asked_domains.discard(domain)
        result = self._judge(domain, reply)
        if result is None:
            self._make_room()
            self._context.mirror.services.add(domain)
            self._added[domain] = self._context.now
            for own_domain in self._context.taps:
                self._tell(own_domain, tap.Services([domain], complete=False))
        waiting = self._asked.pop(domain, [])
        if reply is not None and is_blocked(reply):
            # The asker has blocked it; for the others one of them asks.
            others = [each for each in waiting if each[0] != asker]
            waiting = [each for each in waiting if each[0] == asker]
            if others:
                self._asked[domain] = others
                self._ask(domain, others[0][0])
        for _, verdict in waiting:
            verdict(result)

    def _make_room(self) -> None:
        """Forget the domains that nobody is in, if there are many: users can make up more.

        A join may be under way at those that were added a little while ago.
        """
        context = self._context
        known = context.mirror.services
        if len(known) < MANY:
            return
        young = {
            domain
            for domain, moment in self._added.items()
            if moment > context.now - context.limits.late_window
        }
        stay = known & (_in_use(self._context.mirror) | young)
        if len(stay) > len(known) * _WORTH_IT:
            return
        known &= stay
        self._added = {each: moment for each, moment in self._added.items() if each in young}
        for own_domain in context.taps:
            self.announce(own_domain, self._multicast.get(own_domain))

    def _judge(self, domain: str, reply: Stanza | None) -> Refusal | ET.Element | None:
        if reply is None:
            return wait("remote-server-timeout", f"{domain} did not answer")
        if reply.type == "error" and reply.error is not None:
            return reply.error
        if reply.unread:
            return wait("resource-constraint", f"no usable answer of {domain}: {reply.unread}")
        query = reply.element.find(disco.QUERY_TAG)
        features = frozenset() if query is None else disco.features_of(query)
        if features.isdisjoint(MIX_CORE):
            return Refusal("cancel", "item-not-found", f"{domain} is no MIX service")
        return None

    def _tell(self, domain: str, services: tap.Services) -> None:
        context = self._context
        context.send(
            stanzas.make(
                stanzas.MESSAGE,
                None,
                context.own,
                Jid(None, domain, None),
                None,
                codec.from_xso(services),
            )
        )


def _in_use(mirror: Mirror) -> set[str]:
    """Give the domains of the channels that somebody is in."""
    return {channel.rpartition(b"@")[2].decode() for channel in mirror.common.channels.codes}
