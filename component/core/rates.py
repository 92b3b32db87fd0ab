"""The token bucket: how much may happen at once, and how fast it may go on."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

_FEW = 1_000


class TokenBucket:
    """Full at first; holds up to `burst` tokens and gains `rate` of them a second.

    Rate and burst are said each time: they are settings, and there are many buckets.
    """

    __slots__ = ("_since", "_tokens")

    def __init__(self) -> None:
        self._tokens = 0.0
        self._since = float("-inf")

    def has(self, now: float, rate: float, burst: float) -> bool:
        """Tell whether there is a token."""
        self._tokens = min(burst, self._tokens + (now - self._since) * rate)
        self._since = now
        return self._tokens >= 1

    def take(self, tokens: float = 1) -> None:
        """Take the token that there is, or more: then it takes longer until there is one."""
        self._tokens -= tokens

    def wait(self, rate: float) -> float:
        """Give the seconds until there is a token again."""
        return max(0.0, (1 - self._tokens) / rate)

    def is_full(self, now: float, rate: float, burst: float) -> bool:
        """Tell whether the bucket is as good as a new one."""
        return self._tokens + (now - self._since) * rate >= burst


K = TypeVar("K", bound=Hashable)


class Buckets(Generic[K]):
    """A bucket for each of many; those that are full again are forgotten."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: dict[K, TokenBucket] = {}
        self._many = _FEW

    def take(self, key: K, now: float, tokens: float = 1) -> float:
        """Take tokens if there is one; gives 0, or the seconds until there is one again."""
        bucket = self._buckets.get(key)
        if bucket is None:
            self._make_room(now)
            bucket = self._buckets[key] = TokenBucket()
        if bucket.has(now, self._rate, self._burst):
            bucket.take(tokens)
            return 0.0
        return bucket.wait(self._rate)

    def spend(self, key: K, tokens: float) -> None:
        """Take tokens more from a bucket of which there was one."""
        self._buckets[key].take(tokens)

    def __len__(self) -> int:
        return len(self._buckets)

    def _make_room(self, now: float) -> None:
        """Forget full buckets, but look for them only when there may be many."""
        if len(self._buckets) < self._many:
            return
        self._buckets = {
            key: bucket
            for key, bucket in self._buckets.items()
            if not bucket.is_full(now, self._rate, self._burst)
        }
        self._many = max(_FEW, 2 * len(self._buckets))
