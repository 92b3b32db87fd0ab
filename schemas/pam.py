"""The requests of a client to its own server: client-join and client-leave (XEP-0405 §5).

Three namespaces are in use: 0 (the XEP's first version), 1 and 2 (the current one); all mean the
same. The wrapped `<join/>` and `<leave/>` pass through as trees, so that children unknown to mixpam
reach the channel.
"""

from __future__ import annotations

from schemas.namespaces import MIX_PAM

CLIENT_JOIN = frozenset(f"{{{namespace}}}client-join" for namespace in MIX_PAM)
CLIENT_LEAVE = frozenset(f"{{{namespace}}}client-leave" for namespace in MIX_PAM)
