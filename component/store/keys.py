"""Names of keys in Redis.

Everything of one user carries one hash tag, `{user@domain}`, so that it lives on one node
of a cluster. Names are percent-encoded: `{}` and `:` are legal in JIDs.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, unquote

from schemas import jid

KINDS = frozenset({"channels", "journal", "shown"})
"""What is kept of each user."""


CAPABILITY = "2 "
"""How the fields of capabilities begin. Those that were written before there was such a
beginning say what one answer made of a hash, and are not believed. It stands in the name, not
in the record: an older process, which may be the standby, leaves alone what it does not know."""


class Keys:
    """Makes and reads key names below one prefix, for the users of some domains.

    Without domains, of all. Records of users of other domains are never ours to touch.
    """

    def __init__(self, prefix: str, domains: Iterable[str] = (), owner: str = "") -> None:
        self._domains = frozenset(domains)
        # JID of the component whose records they are.
        self.owner = owner
        self.use(prefix)

    def use(self, prefix: str) -> None:
        """Go on below another prefix."""
        self.prefix = prefix
        self.capabilities = f"{prefix}:capabilities"
        self.changes = f"{prefix}:changes"
        self.mark = f"{prefix}:mark"
        self.set_aside = f"{prefix}:set-aside"
        self.all_users = f"{prefix}:{{*}}:*"

    def serves(self, user: str) -> bool:
        """Tell whether a user, as keys name it, is of a domain that is served."""
        return not self._domains or user.partition("@")[2] in self._domains

    def channels(self, user: str) -> str:
        """Name the hash of a user's memberships: channel -> record."""
        return f"{self.prefix}:{{{quote(user, safe='@')}}}:channels"

    def journal(self, user: str) -> str:
        """Name the hash of a user's changes under way: channel -> record."""
        return f"{self.prefix}:{{{quote(user, safe='@')}}}:journal"

    def shown(self, user: str) -> str:
        """Name the hash of a user's devices that channels were shown: resource -> digest."""
        return f"{self.prefix}:{{{quote(user, safe='@')}}}:shown"

    def is_ours(self, key: str, user: str) -> bool:
        """Tell whether a key that was read is the one we would write for that user."""
        try:
            parsed = jid.parse(user)
        except ValueError:
            return False
        written = f"{self.prefix}:{{{quote(user, safe='@')}}}:"
        return parsed.is_bare_user and str(parsed) == user and key.startswith(written)

    def read(self, key: str) -> tuple[str, str] | None:
        """Give (user, one of KINDS) of a user's key; None for any other."""
        start = f"{self.prefix}:{{"
        user, brace, kind = key.removeprefix(start).partition("}:")
        if not key.startswith(start) or not brace or kind not in KINDS:
            return None
        return unquote(user), kind
