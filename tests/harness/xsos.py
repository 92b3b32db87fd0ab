"""Joins as aioxmpp's XSOs: the oracle for `schemas.mix.read_join`, and a benchmark's payload."""

from aioxmpp import xso

from schemas.namespaces import MIX_CORE


class Subscribe0(xso.XSO):  # type: ignore[misc]
    """`<subscribe/>` of MIX core 0."""

    TAG = (MIX_CORE[0], "subscribe")
    node = xso.Attr("node")


class Subscribe1(xso.XSO):  # type: ignore[misc]
    """`<subscribe/>` of MIX core 1."""

    TAG = (MIX_CORE[1], "subscribe")
    node = xso.Attr("node")


class _Join(xso.XSO):  # type: ignore[misc]
    UNKNOWN_CHILD_POLICY = xso.UnknownChildPolicy.DROP
    UNKNOWN_ATTR_POLICY = xso.UnknownAttrPolicy.DROP

    id_ = xso.Attr("id", default=None)
    jid = xso.Attr("jid", default=None)


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


JOIN = (Join0, Join1)
