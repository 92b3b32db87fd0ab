"""What a client asks of its own server: client-join and client-leave (XEP-0405 §5).

Three namespaces are alive: 0 (the XEP's first version), 1 and 2 (the current one); all
mean the same. The wrapped `<join/>` and `<leave/>` pass through as trees, so that
children unknown to us reach the channel.
"""

from __future__ import annotations

from aioxmpp import xso

from schemas.namespaces import MIX_PAM


class _Request(xso.XSO):
    UNKNOWN_CHILD_POLICY = xso.UnknownChildPolicy.DROP
    UNKNOWN_ATTR_POLICY = xso.UnknownAttrPolicy.DROP

    channel = xso.Attr("channel", default=None)


class ClientJoin0(_Request):
    """`<client-join/>` of MIX-PAM 0."""

    TAG = (MIX_PAM[0], "client-join")


class ClientJoin1(_Request):
    """`<client-join/>` of MIX-PAM 1."""

    TAG = (MIX_PAM[1], "client-join")


class ClientJoin2(_Request):
    """`<client-join/>` of MIX-PAM 2."""

    TAG = (MIX_PAM[2], "client-join")


class ClientLeave0(_Request):
    """`<client-leave/>` of MIX-PAM 0."""

    TAG = (MIX_PAM[0], "client-leave")


class ClientLeave1(_Request):
    """`<client-leave/>` of MIX-PAM 1."""

    TAG = (MIX_PAM[1], "client-leave")


class ClientLeave2(_Request):
    """`<client-leave/>` of MIX-PAM 2."""

    TAG = (MIX_PAM[2], "client-leave")


def _by_tag(*classes: type[_Request]) -> dict[str, type[_Request]]:
    return {f"{{{cls.TAG[0]}}}{cls.TAG[1]}": cls for cls in classes}


CLIENT_JOIN = _by_tag(ClientJoin0, ClientJoin1, ClientJoin2)
CLIENT_LEAVE = _by_tag(ClientLeave0, ClientLeave1, ClientLeave2)
