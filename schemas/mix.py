"""What travels between a participant's server and a channel: join and leave (XEP-0369 §7.1).

One class a namespace, because living peers speak `urn:xmpp:mix:core:0` or `:1`.
"""

from __future__ import annotations

from aioxmpp import xso

from schemas.namespaces import MIX_ANON, MIX_CORE

MAX_PARTICIPANT_ID = 1023
"""Bytes of a participant id; it must fit into a localpart beside the channel's."""


class Subscribe(xso.XSO):
    """A node the user wants, or was given."""

    node = xso.Attr("node")


class Subscribe0(Subscribe):
    """`<subscribe/>` of MIX core 0."""

    TAG = (MIX_CORE[0], "subscribe")


class Subscribe1(Subscribe):
    """`<subscribe/>` of MIX core 1."""

    TAG = (MIX_CORE[1], "subscribe")


class _Join(xso.XSO):
    """A join request, or the channel's answer to it, which carries the participant id.

    XEP-0369 gives the id as `id`, its older versions as `jid='X#channel'`.
    """

    UNKNOWN_CHILD_POLICY = xso.UnknownChildPolicy.DROP

    id_ = xso.Attr("id", default=None)
    jid = xso.Attr("jid", default=None)

    @property
    def participant_id(self) -> str | None:
        """The participant id, whichever way it was given; None if neither is usable."""
        given = self.id_ if self.id_ is not None else (self.jid or "").partition("#")[0]
        if not given or len(given.encode()) > MAX_PARTICIPANT_ID or set(given) & set("#/@"):
            return None
        return str(given)


class Join0(_Join):
    """`<join/>` of MIX core 0."""

    TAG = (MIX_CORE[0], "join")
    subscriptions = xso.ChildList([Subscribe0])
    nick = xso.ChildText((MIX_CORE[0], "nick"), default=None)


class Join1(_Join):
    """`<join/>` of MIX core 1."""

    TAG = (MIX_CORE[1], "join")
    subscriptions = xso.ChildList([Subscribe1])
    nick = xso.ChildText((MIX_CORE[1], "nick"), default=None)


class Leave0(xso.XSO):
    """`<leave/>` of MIX core 0."""

    TAG = (MIX_CORE[0], "leave")


class Leave1(xso.XSO):
    """`<leave/>` of MIX core 1."""

    TAG = (MIX_CORE[1], "leave")


JOIN = (Join0, Join1)
LEAVE = (Leave0, Leave1)

JOIN_TAGS = tuple(f"{{{namespace}}}join" for namespace in MIX_CORE)
LEAVE_TAGS = tuple(f"{{{namespace}}}leave" for namespace in MIX_CORE)
USER_PREFERENCE = f"{{{MIX_ANON}}}user-preference"
