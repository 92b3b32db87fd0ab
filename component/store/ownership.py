"""Whose the records in Redis are: settled before anything is read, seen to before each write.

The component's JID stands beside the mark (`component.store.mark`). What has another's is
neither written to nor read nor removed. A mark of an earlier version has no owner: it goes
to the first component that has users there.

Without MIXPAM_REDIS_PREFIX the first component on a Redis has `mixpam`, any other `mixpam:`
and its own JID. One that comes to find `mixpam` another's brings along what is there of the
users of its domains: two that shared it in an earlier version, or one that was renamed, lose
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from redis.exceptions import ResponseError

from component.store.keys import Keys
from component.store.mark import OWNER
from component.store.reading import SCAN_COUNT, read_hashes, user_hashes
from component.store.trouble import Foreign
from schemas.settings import Settings

FIRST = "mixpam"
"""The prefix of the first component on a Redis."""


def own_prefix(settings: Settings) -> str:
    """Give the prefix that no other component takes by itself."""
    return f"{FIRST}:{quote(settings.component_jid, safe='')}"


def make_keys(settings: Settings) -> Keys:
    """Make the keys of a component, of which the prefix is still to be settled."""
    prefix = settings.redis_prefix or FIRST
    return Keys(prefix, settings.domains, settings.component_jid)


class Ownership:
    """Settles below which prefix the keys of a component are, and sees that they stay so."""

    def __init__(
        self,
        redis: Any,  # noqa: ANN401 - see `component.store.client`
        keys: Keys,
        settings: Settings,
        report: Callable[..., None],
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._fixed = settings.redis_prefix
        self._own = own_prefix(settings)
        self._us = settings.component_jid
        self._report = report

    async def settle(self, *, bring_along: bool = True) -> None:
        """Choose the prefix, and bring along what we left below `FIRST` when we go on.

        Raises Foreign if what was chosen by the operator is another's.
        """
        if self._fixed is not None:
            self._keys.use(self._fixed)
            await self.confirm()
            return
        chosen, is_new = await self._choose()
        self._keys.use(chosen)
        if is_new and bring_along:
            await self._bring_along()

    async def confirm(self) -> None:
        """Raise Foreign if what is below the prefix is another component's by now."""
        try:
            # Before each transaction: no pipeline for one command.
            fields: dict[str, str] = await self._redis.hgetall(self._keys.mark)
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            return  # the reader tells of it
        owner = fields.get(OWNER, "")
        if owner not in {"", self._us}:
            raise Foreign(self._keys.prefix, owner)

    def may_move(self) -> bool:
        """Go on below the prefix of our own, if the one that is another's was not chosen."""
        if self._fixed is not None or self._keys.prefix == self._own:
            return False
        self._keys.use(self._own)
        return True

    async def _choose(self) -> tuple[str, bool]:
        """Give the prefix to use, and whether it is our own and never was used."""
        own = await self._mark(self._own)
        if own:
            if own.get(OWNER, "") not in {"", self._us}:
                raise Foreign(self._own, own[OWNER])
            return self._own, False
        owner = (await self._mark(FIRST)).get(OWNER, "")
        if owner == self._us or (not owner and await self._may_adopt()):
            return FIRST, False
        return self._own, True

    async def _may_adopt(self) -> bool:
        """Tell whether what has no owner is for us: it has users of ours, or none at all."""
        first = Keys(FIRST)
        others, cursor = False, 0
        while True:
            cursor, names = await self._redis.scan(cursor, match=first.all_users, count=SCAN_COUNT)
            for name in names:
                user, _ = first.read(name) or ("", "")
                if first.is_ours(name, user):
                    if self._keys.serves(user):
                        return True
                    others = True
            if not cursor:
                return not others

    async def _bring_along(self) -> None:
        """Copy what `FIRST` has of our users. Its owner keeps what it has."""
        users: set[str] = set()
        first = Keys(FIRST)
        async for found in user_hashes(self._redis, first):
            async with self._redis.pipeline(transaction=True) as pipeline:
                for each in found:
                    ours = first.is_ours(each.name, each.user) and self._keys.serves(each.user)
                    if each.fields and ours:
                        users.add(each.user)
                        name = self._keys.prefix + each.name.removeprefix(FIRST)
                        pipeline.hset(name, mapping=each.fields)
                await pipeline.execute()
        self._report("prefix-taken", prefix=self._keys.prefix, users=len(users))

    async def _mark(self, prefix: str) -> dict[str, str]:
        """Read a mark's fields; none of what is no hash, which the reader tells of."""
        (fields,) = await read_hashes(self._redis, [Keys(prefix).mark])
        return fields or {}
