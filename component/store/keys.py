"""Names of keys in Redis.

All keys of one user have one hash tag, `{user@domain}`, so that they are on one node of a
cluster. Names are percent-encoded: `{}` and `:` are legal in JIDs.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, unquote

from schemas import jid

KINDS = frozenset({"channels", "journal", "shown"})
"""The kinds of hashes that a user has."""


CAPABILITY = "2 "
"""Prefix of the fields of capabilities. Fields without it are of an earlier version, which
stored one device's unverified answer for a hash; they are ignored. The version is in the
field's name and not in the record because an older process, which may be the standby, leaves
fields alone whose names it does not know."""


class Keys:
    """Makes and parses key names below one prefix, for the users of some domains.

    Without domains, for all users. Records of users of other domains are never touched.
    """

    def __init__(self, prefix: str, domains: Iterable[str] = (), owner: str = "") -> None:
        self._domains = frozenset(domains)
        # JID of the component that owns the records.
        self.owner = owner
        self.use(prefix)

    def use(self, prefix: str) -> None:
        """Switch to another prefix."""
        self.prefix = prefix
        self.capabilities = f"{prefix}:capabilities"
        self.changes = f"{prefix}:changes"
        self.mark = f"{prefix}:mark"
        self.set_aside = f"{prefix}:set-aside"
        self.all_users = f"{prefix}:{{*}}:*"

    def serves(self, user: str) -> bool:
        """Tell whether a user (bare JID, as in keys) is of a domain that is served."""
        return not self._domains or user.partition("@")[2] in self._domains

    def channels(self, user: str) -> str:
        """Name the hash of a user's memberships: channel -> record."""
        return f"{self.prefix}:{{{quote(user, safe='@')}}}:channels"

    def journal(self, user: str) -> str:
        """Name the hash of a user's unfinished changes: channel -> record."""
        return f"{self.prefix}:{{{quote(user, safe='@')}}}:journal"

    def shown(self, user: str) -> str:
        """Name the hash of a user's devices announced to channels: resource -> digest."""
        return f"{self.prefix}:{{{quote(user, safe='@')}}}:shown"

    def is_ours(self, key: str, user: str) -> bool:
        """Tell whether a key found in Redis is the one mixpam would write for that user."""
        try:
            parsed = jid.parse(user)
        except ValueError:
            return False
        written = f"{self.prefix}:{{{quote(user, safe='@')}}}:"
        return parsed.is_bare_user and str(parsed) == user and key.startswith(written)

    def read(self, key: str) -> tuple[str, str] | None:
        """Parse a user's key into (user, one of KINDS); None for any other key."""
        start = f"{self.prefix}:{{"
        user, brace, kind = key.removeprefix(start).partition("}:")
        if not key.startswith(start) or not brace or kind not in KINDS:
            return None
        return unquote(user), kind
