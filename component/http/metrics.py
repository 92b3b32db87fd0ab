"""The Prometheus exposition, made from plain numbers at the moment of the scrape.

No label carries an address, and every label has few values: unknown reasons become "other".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from component.http.sources import Sources
from component.process.counters import FINE, Timings
from component.process.events import EVENTS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_COUNTS = {
    "dropped": ("mixpam_dropped", "Stanzas that were dropped without an answer.", "reason"),
    "refused": ("mixpam_refused", "Stanzas that were answered with an error.", "condition"),
    "outgoing-refused": (
        "mixpam_outgoing_refused",
        "Stanzas of ours that the outgoing rule kept back; each is a fault of ours.",
        "reason",
    ),
    "capability": (
        "mixpam_capability_answers",
        "Answers about what a device can do that could not be used for others.",
        "reason",
    ),
    "presence-memory": (
        "mixpam_presence_memory",
        "Channels too large for MIXPAM_PRESENCE_MEMORY, which are asked instead.",
        "reason",
    ),
}
"""Counters of the core: name, help text, and the label for the reason."""

_LOSSES = frozenset(
    {
        "closed",
        "conflict",
        "connection-timeout",
        "host-gone",
        "host-unknown",
        "internal-server-error",
        "invalid-from",
        "invalid-xml",
        "not-authorized",
        "not-well-formed",
        "policy-violation",
        "reset",
        "resource-constraint",
        "restricted-xml",
        "silent",
        "system-shutdown",
        "undefined-condition",
    }
)
"""Known reasons for the end of a link; the server could make up others."""

_GAUGES = {
    "users_known": "Users with a channel or a device.",
    "users_online": "Users with a device.",
    "devices_online": "Available sessions.",
    "mix_devices": "Available sessions that get the channels' traffic.",
    "undecided_devices": "Available sessions that have not said yet whether they speak MIX.",
    "hibernated_devices": "Sessions that lost their connection and may come back (XEP-0198).",
    "memberships": "Participations of users in channels.",
    "channels": "Channels that at least one user is in.",
    "services": "MIX services known to the taps.",
    "operations": "Joins and leaves under way.",
    "journal_entries": "Joins and leaves in the journal, under way or cut off.",
    "mirror_rows": "Users of whom anything is kept in memory.",
    "remembered_presences": "Participants' presences kept in memory.",
    "presence_bytes": "Bytes that they take, of MIXPAM_PRESENCE_BYTES.",
    "capabilities": "Capabilities hashes in the cache.",
    "open_questions": "Requests of ours whose answer is still waited for.",
}


class _Exposition(Collector):
    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterable[Metric]:
        sources, watch = self._sources, self._sources.watch
        build = GaugeMetricFamily(
            "mixpam_build_info", "Always 1; the labels tell.", labels=("version", "python")
        )
        build.add_metric((sources.version, sources.python), 1)
        yield build
        yield _gauge("mixpam_ready", "1 if all users are served in full.", not watch.not_ready())
        yield from self._link()
        yield from self._traffic()
        yield from _counts(sources)
        sums = sources.totals()
        for name, meaning in _GAUGES.items():
            yield _gauge(f"mixpam_{name}", meaning, getattr(sums, name))
        yield _gauge(
            "mixpam_control_waiting",
            "Stanzas, and answers of Redis, that wait for their turn in the control lane.",
            sum(sources.core.mirror.waiting.values()),
        )
        yield _gauge("mixpam_redis_up", "1 if Redis answers.", watch.redis.state == "up")
        troubles = CounterMetricFamily(
            "mixpam_redis_troubles",
            "Times that Redis failed us, by what was wrong.",
            labels=("kind",),
        )
        for kind, number in watch.troubles.items():
            troubles.add_metric((kind,), number)
        yield troubles
        yield _gauge(
            "mixpam_store_behind",
            "1 if Redis has less than memory and has yet to be written anew.",
            sources.store.needs_rewrite,
        )
        yield _gauge("mixpam_store_waiting", "Writes that wait for Redis.", sources.store.waiting)
        yield _histogram(
            "mixpam_redis_latency_seconds",
            "Time until Redis had done a batch of writes or answered a ping.",
            sources.store.latency,
        )
        yield _histogram(
            "mixpam_loop_lag_seconds", "By how much the event loop was late.", sources.lag
        )

    def _link(self) -> Iterator[Metric]:
        watch = self._sources.watch
        yield _gauge("mixpam_link_up", "1 if the server has let us in.", watch.link.state == "up")
        yield _gauge(
            "mixpam_link_standby",
            "1 if another process is connected as this component.",
            watch.link.state == "standby",
        )
        yield _counter("mixpam_link_connects", "Links that came up.", watch.events["link-up"])
        losses = CounterMetricFamily(
            "mixpam_link_losses", "Links that ended, by reason.", labels=("reason",)
        )
        summed: dict[str, int] = {}
        for reason, number in watch.losses.items():
            name = reason if reason in _LOSSES else "other"
            summed[name] = summed.get(name, 0) + number
        for name, number in summed.items():
            losses.add_metric((name,), number)
        yield losses
        yield _gauge("mixpam_domains", "Domains of users.", len(watch.taps))
        yield _gauge(
            "mixpam_domains_ready",
            "Domains whose tap has told of all sessions.",
            sum(tap.ready for tap in watch.taps.values()),
        )
        reported = CounterMetricFamily(
            "mixpam_events", "Events reported in the log.", labels=("event", "level")
        )
        for name, event in EVENTS.items():
            reported.add_metric((name, event.level), watch.events[name])
        yield reported

    def _traffic(self) -> Iterator[Metric]:
        tally = self._sources.tally
        received = CounterMetricFamily(
            "mixpam_stanzas_received",
            "Stanzas from the server; the hot lane is what joined channels sent.",
            labels=("kind", "lane"),
        )
        for lane, kinds in (("hot", tally.hot), ("control", tally.control)):
            for kind, number in kinds.items():
                received.add_metric((kind.decode(), lane), number)
        yield received
        yield _counter("mixpam_copies_sent", "Copies for devices.", tally.copies)


class Metrics:
    """The metrics of one component, with those of its process."""

    def __init__(self, sources: Sources) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Exposition(sources))
        ProcessCollector(registry=self._registry)

    def expose(self) -> bytes:
        """Write all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=float(value))


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(name, meaning, value=float(value))


def _counts(sources: Sources) -> Iterator[Metric]:
    families = {
        what: CounterMetricFamily(name, meaning, labels=(label,))
        for what, (name, meaning, label) in _COUNTS.items()
    }
    others = CounterMetricFamily(
        "mixpam_counted", "What has no metric of its own.", labels=("what", "reason")
    )
    for (what, reason), number in sources.counts.items():
        if what in families:
            families[what].add_metric((reason,), number)
        else:
            others.add_metric((what, reason), number)
    yield from families.values()
    yield others


def _histogram(name: str, meaning: str, timings: Timings) -> Metric:
    buckets, seen = [], 0
    for bound, number in zip((*map(str, FINE), "+Inf"), timings.counts, strict=True):
        seen += number
        buckets.append((bound, seen))
    family = HistogramMetricFamily(name, meaning)
    family.add_metric([], buckets, timings.total)
    return family
