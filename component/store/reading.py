"""Reads records from Redis into a replica; records that do not validate are set aside.

Everything is read at the start. A standby then applies single changes
(`component.store.following`), which are validated in the same way.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError
from redis.exceptions import ResponseError

from component.core.effects import (
    Drop,
    DropCapability,
    DropJournal,
    DropMembership,
    DropShown,
)
from component.store.epoch import NO_EPOCH, Epoch
from component.store.keys import CAPABILITY, Keys
from schemas import jid
from schemas.records import CapabilityRecord, JournalRecord, MembershipRecord

SCAN_COUNT = 200
"""Keys read at a time; other tasks run in between."""

PROGRESS_EVERY = 5.0
"""Seconds between two reports of a load that takes long."""

DOMAINS_TOLD = 5
"""Domains named in one log entry."""

LONGEST_NAME = 3_200
"""Characters of a key or field in the log: a JID of 3,071 bytes (RFC 6122), and its key."""

R = TypeVar("R", bound=BaseModel)


class Replica(Protocol):
    """The copy in memory of the records in Redis; they come in any order.

    Users are canonical bare JIDs.
    """

    def start_over(self) -> None:
        """Forget all records, because they are read again."""

    def load_memberships(self, user: str, records: Iterable[MembershipRecord]) -> None:
        """Take memberships of a user."""

    def load_journal(self, user: str, record: JournalRecord) -> None:
        """Take an unfinished change."""

    def load_capability(self, key: str, record: CapabilityRecord) -> None:
        """Take a verified capabilities hash."""

    def load_shown(self, user: str, resource: str, digest: str) -> None:
        """Take the digest of a device's presence as sent to channels."""

    def forget(self, gone: Drop) -> None:
        """Forget a record that was removed, if there is one."""


@dataclass(slots=True)
class Loaded:
    """The numbers of records read."""

    memberships: int = 0
    unfinished: int = 0
    capabilities: int = 0
    epoch: Epoch = NO_EPOCH
    set_aside: int = 0
    # Ignored records of users of other domains, and some of those domains.
    elsewhere: int = 0
    domains: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class UserHash:
    """One key of a user: its name, the user, one of `keys.KINDS`; no `fields` if it is no hash."""

    name: str
    user: str
    kind: str
    fields: dict[str, str] | None


async def user_hashes(
    redis: Any,  # noqa: ANN401 - see `component.store.client`
    keys: Keys,
) -> AsyncIterator[list[UserHash]]:
    """Read all users' keys, some at a time."""
    cursor = 0
    while True:
        cursor, names = await redis.scan(cursor, match=keys.all_users, count=SCAN_COUNT)
        known = [(name, *read) for name in names if (read := keys.read(name))]
        contents = await read_hashes(redis, [name for name, _, _ in known])
        yield [UserHash(*each, fields) for each, fields in zip(known, contents, strict=True)]
        if not cursor:
            return


async def read_hashes(redis: Any, names: list[str]) -> list[dict[str, str] | None]:  # noqa: ANN401
    """Read many hashes at once; None for a key of another type."""
    async with redis.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.hgetall(name)
        answers = await pipeline.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, Exception) and "WRONGTYPE" not in str(answer):
            raise answer
    return [answer if isinstance(answer, dict) else None for answer in answers]


class Reader:
    """Reads from one Redis."""

    def __init__(self, redis: Any, keys: Keys, report: Callable[..., None]) -> None:  # noqa: ANN401
        self._redis = redis
        self._keys = keys
        self._report = report

    async def load(self, replica: Replica) -> Loaded:
        """Read everything into a replica, some users at a time.

        A record that does not validate is set aside, counted and reported.

        Raises one of `component.store.trouble.FAILURES` if Redis fails meanwhile.
        """
        loaded, said = Loaded(), perf_counter()
        async for found in user_hashes(self._redis, self._keys):
            for each in found:
                await self._load_user(replica, loaded, each)
            if perf_counter() - said > PROGRESS_EVERY:
                said = perf_counter()
                self._report("loading", memberships=loaded.memberships)
        capabilities = self._keys.capabilities
        fields, epoch = await read_hashes(self._redis, [capabilities, self._keys.mark])
        if fields is None:
            self._not_ours(loaded, capabilities, "not a hash")
        else:
            await self._load_capabilities(replica, loaded, fields)
        if epoch is None:
            self._not_ours(loaded, self._keys.mark, "not a hash")
        loaded.epoch = Epoch.read(epoch or {})
        if loaded.elsewhere:
            some = ", ".join(sorted(loaded.domains)[:DOMAINS_TOLD])
            self._report("users-not-served", "warning", records=loaded.elsewhere, domains=some)
        return loaded

    async def memberships(self, user: str) -> dict[str, MembershipRecord]:
        """Read one user's memberships, by channel.

        A record that does not validate is left out; the next start sets it aside.
        """
        fields = await self._redis.hgetall(self._keys.channels(user))
        found: dict[str, MembershipRecord] = {}
        for channel, text in fields.items():
            with contextlib.suppress(ValidationError):
                found[channel] = MembershipRecord.model_validate_json(text)
        return found

    async def apply(self, replica: Replica, key: str, field: str, value: str | None) -> None:
        """Apply one change: None removes the record, an invalid value is set aside."""
        if value is not None and key == self._keys.capabilities:
            await self._load_capabilities(replica, Loaded(), {field: value})
        elif value is not None and (read := self._keys.read(key)) is not None:
            await self._load_user(replica, Loaded(), UserHash(key, *read, {field: value}))
        elif (gone := self._gone(key, field)) is not None:
            # A record with another name than mixpam writes was never loaded.
            with contextlib.suppress(ValueError):
                replica.forget(gone)

    def _gone(self, key: str, field: str) -> Drop | None:
        """Identify the record of a removed field; None if it was none of this component's."""
        if key == self._keys.capabilities:
            return DropCapability(field.removeprefix(CAPABILITY))
        user, kind = self._keys.read(key) or ("", "")
        if not self._keys.is_ours(key, user) or not self._keys.serves(user):
            return None
        if kind == "shown":
            return DropShown(user, field)
        return DropMembership(user, field) if kind == "channels" else DropJournal(user, field)

    async def _load_capabilities(
        self, replica: Replica, loaded: Loaded, fields: dict[str, str]
    ) -> None:
        fields = {name: text for name, text in fields.items() if name.startswith(CAPABILITY)}
        records = await self._read_records(
            loaded, self._keys.capabilities, fields, CapabilityRecord
        )
        loaded.capabilities += len(records)
        for name, record in records:
            replica.load_capability(name.removeprefix(CAPABILITY), record)

    async def _load_user(self, replica: Replica, loaded: Loaded, found: UserHash) -> None:
        name, user, fields = found.name, found.user, found.fields
        if fields is None:
            self._not_ours(loaded, name, "not a hash")
        elif not self._keys.is_ours(name, user):
            self._not_ours(loaded, name, "not the address of a user")
        elif not self._keys.serves(user):
            # Kept: it may be another component's, or the domain may be served again.
            loaded.elsewhere += 1
            if len(loaded.domains) < DOMAINS_TOLD:
                loaded.domains.add(user.partition("@")[2])
        elif found.kind == "shown":
            for resource, digest in fields.items():
                if _is_resource(user, resource):
                    replica.load_shown(user, resource, digest)
                else:
                    await self._set_aside(loaded, name, (resource, digest), "not a resource")
        elif found.kind == "channels":
            members = await self._read_records(loaded, name, fields, MembershipRecord)
            replica.load_memberships(user, [record for _, record in members])
            loaded.memberships += len(members)
        else:
            entries = await self._read_records(loaded, name, fields, JournalRecord)
            loaded.unfinished += len(entries)
            for _, entry in entries:
                replica.load_journal(user, entry)

    def _not_ours(self, loaded: Loaded, key: str, reason: str) -> None:
        """Report a key below the prefix that mixpam would not write, and leave it in place."""
        loaded.set_aside += 1
        self._report("record-unusable", "error", key=_printable(key), reason=reason)

    async def _read_records(
        self, loaded: Loaded, key: str, fields: dict[str, str], kind: type[R]
    ) -> list[tuple[str, R]]:
        found: list[tuple[str, R]] = []
        for name, text in fields.items():
            try:
                record = kind.model_validate_json(text)
                if getattr(record, "channel", name) != name:
                    raise ValueError("the record is of another channel")  # noqa: TRY301
            except ValueError as error:
                reason = "not a record" if isinstance(error, ValidationError) else str(error)
                await self._set_aside(loaded, key, (name, text), reason)
            else:
                found.append((name, record))
        return found

    async def _set_aside(
        self, loaded: Loaded, key: str, item: tuple[str, str], reason: str
    ) -> None:
        """Move a field that cannot be used into the hash `set-aside`."""
        name, text = item
        loaded.set_aside += 1
        field = _printable(name)
        self._report("record-unusable", "error", key=_printable(key), field=field, reason=reason)
        # A Redis that refuses writes keeps the record, and the next start reports it again.
        with contextlib.suppress(ResponseError):
            await self._redis.hset(self._keys.set_aside, f"{key} {name}", text)
            await self._redis.hdel(key, name)


def _is_resource(user: str, text: str) -> bool:
    try:
        return jid.parse(f"{user}/{text}").resource == text
    except ValueError:
        return False


def _printable(name: str) -> str:
    """Show bytes that are not UTF-8 as escapes, and cut very long text."""
    return name[:LONGEST_NAME].encode(errors="backslashreplace").decode()
