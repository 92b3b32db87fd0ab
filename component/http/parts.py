"""The parts of the status page that change: each is made anew for every look at them."""

from __future__ import annotations

from component.http.charts import chart
from component.http.sources import SAMPLES, Sources
from component.http.watch import Problem, Tap, utc_now
from component.http.words import duration, milliseconds, moment, number, plural, rate, text

_SLOW = 0.05
_TONES = {"up": "ok", "down": "bad", "away": "bad"}
_LINK = {"up": "up", "down": "down", "standby": "standing by", "connecting": "connecting"}


def state(sources: Sources) -> str:
    """Say in one sentence whether all is well, and if not, what to do."""
    watch = sources.watch
    reasons = watch.not_ready()
    if not reasons:
        return (
            '<div class="state ok"><span class="dot"></span>'
            "<p><b>All is well.</b> Every user of every domain is served.</p></div>"
        )
    kind = "bad" if watch.link.state == "down" or watch.redis.state == "away" else "wait"
    title = "Something is wrong." if kind == "bad" else "Not ready yet."
    if watch.link.state == "standby":
        title = "Standing by."
    items = "".join(f"<li>{text(f'{each[:1].upper()}{each[1:]}.')}</li>" for each in reasons)
    remedies = "".join(
        f'<p class="remedy">{text(_sentence(remedy))}</p>'
        for remedy in (watch.redis.remedy, watch.link.remedy)
        if remedy
    )
    return (
        f'<div class="state {kind}"><span class="dot"></span><div><b>{title}</b><ul>{items}</ul>'
        f"{remedies}</div></div>"
    )


def chain(sources: Sources) -> str:
    """Show server, component and Redis, and what joins them."""
    watch = sources.watch
    now = utc_now()
    latency = sources.store.latency
    redis = {
        "up": milliseconds(latency.last) if latency.last else "up",
        "away": "away",
        "connecting": "connecting",
    }[watch.redis.state]
    waiting = sources.store.waiting
    link = _TONES.get(watch.link.state, "wait")
    silent = "no tap has said hello" if watch.link.state == "up" else "not heard of"
    taps = "".join(
        f'<li><span class="{"ok" if tap.ready else "wait"}">'
        f"<b>{text(domain)}</b></span> {text(_tap(tap) or silent)}"
        f"{', archives' if tap.archive else ''}</li>"
        for domain, tap in watch.taps.items()
    )
    uptime = duration((now - watch.started).total_seconds())
    since = duration((now - watch.link.since).total_seconds())
    return (
        '<ol class="chain">'
        f'<li class="card"><span class="name">Server</span><ul class="taps">{taps}</ul></li>'
        f'<li class="joint {link}"><span>link {_LINK[watch.link.state]}</span></li>'
        f'<li class="card"><span class="name">Component</span>'
        f"<b>mixpam {text(sources.version)}</b>"
        f'<span class="quiet">running for {uptime}</span>'
        f'<span class="quiet">link {_LINK[watch.link.state]} for {since}</span></li>'
        f'<li class="joint {_TONES.get(watch.redis.state, "wait")}">'
        f"<span>{redis}</span></li>"
        '<li class="card"><span class="name">Redis</span>'
        f"<b>{'answers' if watch.redis.state == 'up' else text(redis)}</b>"
        f'<span class="quiet">{_waiting(waiting)}</span></li></ol>'
    )


def numbers(sources: Sources) -> str:
    """Show how much there is of what."""
    sums = sources.totals()
    tiles = (
        ("Users online", number(sums.users_online), f"of {number(sums.users_known)} known"),
        (
            "MIX devices",
            number(sums.mix_devices),
            f"of {plural(sums.devices_online, 'device')} online",
        ),
        (
            "Channels joined",
            number(sums.channels),
            f"by {plural(sums.memberships, 'membership')}",
        ),
        (
            "Under way",
            number(sums.operations),
            f"joins and leaves; {number(sums.journal_entries)} in the journal",
        ),
    )
    return (
        '<dl class="tiles">'
        + "".join(
            f'<div class="card"><dt class="name">{name}</dt>'
            f'<dd><b class="now">{value}</b> <span class="quiet">{more}</span></dd></div>'
            for name, value, more in tiles
        )
        + "</dl>"
    )


def charts(sources: Sources) -> str:
    """Draw the last five minutes."""
    samples = list(sources.samples)
    return (
        '<div class="charts">'
        + chart("Messages per second", [each.messages for each in samples], SAMPLES, rate, 1)
        + chart("Deliveries per second", [each.deliveries for each in samples], SAMPLES, rate, 1)
        + chart("Event loop late by", [each.lag for each in samples], SAMPLES, milliseconds, _SLOW)
        + "</div>"
    )


def problems(sources: Sources) -> str:
    """List the last warnings and errors, each with its remedy."""
    found = sources.watch.problems
    if not found:
        return '<p class="card quiet">None since the start.</p>'
    return '<ol class="problems">' + "".join(_problem(each) for each in found) + "</ol>"


def _problem(problem: Problem) -> str:
    now = utc_now()
    times = "" if problem.count == 1 else f"{number(problem.count)} times, last "
    facts = "".join(
        f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in problem.facts.items()
    )
    remedy = f'<p class="remedy">{text(_sentence(problem.remedy))}</p>' if problem.remedy else ""
    return (
        f'<li class="card {"bad" if problem.level == "error" else "wait"}">'
        f'<p><span class="dot"></span><b>{text(problem.meaning or problem.event)}</b></p>'
        f'<p class="quiet">{problem.level} <code>{text(problem.event)}</code>,'
        f" {times}{moment(problem.last, now)}</p>"
        f"{remedy}{f'<dl>{facts}</dl>' if facts else ''}</li>"
    )


def _tap(tap: Tap) -> str:
    return f"{tap.software or 'server'}, tap {tap.version}" if tap.version else ""


def _waiting(writes: int) -> str:
    if not writes:
        return "nothing waits to be written"
    return f"{number(writes)} {'write waits' if writes == 1 else 'writes wait'}"


def _sentence(remark: str) -> str:
    remark = remark[:1].upper() + remark[1:]
    return remark if remark.endswith((".", "?", "!")) else f"{remark}."
