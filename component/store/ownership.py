"""The owner of the records in Redis: chosen before anything is read, checked before each write.

The owner is a component's JID, in the hash of the epoch (`component.store.epoch`). Records of
another owner are neither read nor written nor removed. Those of an earlier version have no
owner: the first component that has users there becomes it.

Without MIXPAM_REDIS_PREFIX the first component on a Redis has the prefix `mixpam`, any other
`mixpam:` and its own JID. A component that finds another owner at `mixpam` copies the records of
its own domains' users from there. So two components that shared the prefix in an earlier version,
or one that was renamed, lose nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from redis.exceptions import ResponseError

from component.store.epoch import OWNER
from component.store.keys import Keys
from component.store.reading import SCAN_COUNT, read_hashes, user_hashes
from component.store.trouble import Foreign
from schemas.settings import Settings

FIRST = "mixpam"
"""The default prefix, of the first component on a Redis."""


def own_prefix(settings: Settings) -> str:
    """Give the default prefix of a component that is not the first on its Redis."""
    return f"{FIRST}:{quote(settings.component_jid, safe='')}"


def make_keys(settings: Settings) -> Keys:
    """Make the keys of a component; `Ownership.settle` chooses their prefix."""
    prefix = settings.redis_prefix or FIRST
    return Keys(prefix, settings.domains, settings.component_jid)


class Ownership:
    """Chooses the prefix of a component's keys, and checks that the records stay its own."""

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
        """Choose the prefix; at a new one, copy own records from `FIRST` if `bring_along`.

        Raises Foreign if the operator has chosen a prefix with another owner.
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
        """Raise Foreign if the records below the prefix have another owner."""
        try:
            # One command before each transaction needs no pipeline.
            fields: dict[str, str] = await self._redis.hgetall(self._keys.mark)
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            return  # the reader reports it
        owner = fields.get(OWNER, "")
        if owner not in {"", self._us}:
            raise Foreign(self._keys.prefix, owner)

    def may_move(self) -> bool:
        """Switch to the own prefix; False if it is in use, or the operator chose the prefix."""
        if self._fixed is not None or self._keys.prefix == self._own:
            return False
        self._keys.use(self._own)
        return True

    async def _choose(self) -> tuple[str, bool]:
        """Choose the prefix to use; tell whether it is the component's own and was never used."""
        own = await self._epoch_hash(self._own)
        if own:
            if own.get(OWNER, "") not in {"", self._us}:
                raise Foreign(self._own, own[OWNER])
            return self._own, False
        owner = (await self._epoch_hash(FIRST)).get(OWNER, "")
        if owner == self._us or (not owner and await self._may_adopt()):
            return FIRST, False
        return self._own, True

    async def _may_adopt(self) -> bool:
        """Tell whether records without an owner may be taken: of served users, or none at all."""
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
        """Copy the records of served users from `FIRST`. Its owner keeps them."""
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

    async def _epoch_hash(self, prefix: str) -> dict[str, str]:
        """Read the hash of epoch and owner; empty for another type, which the reader reports."""
        (fields,) = await read_hashes(self._redis, [Keys(prefix).mark])
        return fields or {}
