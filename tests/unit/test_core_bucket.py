"""Token buckets: how much at once, how fast afterwards, and no memory of the idle."""

import pytest

from component.core.rates import Buckets, TokenBucket


def taken(bucket: TokenBucket, now: float, tries: int) -> int:
    number = 0
    for _ in range(tries):
        if bucket.has(now, 2, 5):
            bucket.take()
            number += 1
    return number


@pytest.mark.abuse(14)
def test_a_burst_at_once_and_the_rate_from_then_on() -> None:
    bucket = TokenBucket()
    assert taken(bucket, 100.0, 9) == 5
    assert bucket.wait(2) == 0.5
    assert taken(bucket, 100.4, 9) == 0
    assert taken(bucket, 101.0, 9) == 2
    # However long nothing happens, it holds no more than a burst.
    assert taken(bucket, 10_000.0, 9) == 5


@pytest.mark.abuse(14)
def test_each_has_its_own_and_is_told_how_long_to_wait() -> None:
    buckets: Buckets[str] = Buckets(rate=0.5, burst=1)
    assert buckets.take("anna", 0.0) == 0
    assert buckets.take("anna", 0.0) == 2
    assert buckets.take("ben", 0.0) == 0
    assert buckets.take("anna", 2.0) == 0


@pytest.mark.abuse(8)
def test_those_that_are_full_again_are_forgotten() -> None:
    buckets: Buckets[int] = Buckets(rate=1, burst=10)
    for number in range(100_000):
        # A hundred a second, each of which is full again a second later.
        assert buckets.take(number, number / 100) == 0
    assert len(buckets) <= 1_000
    late = Buckets[int](rate=0.001, burst=1)
    for number in range(3_000):
        late.take(number, 0.0)
    assert all(late.take(number, 1.0) for number in range(3_000)), "nobody gains by the crowd"
