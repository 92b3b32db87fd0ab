"""The status page's templates: every value is escaped, and both ways to ask give the same parts."""

import re
from collections import Counter
from html import unescape
from types import SimpleNamespace
from typing import Any, cast

from driver import Play

from component.core.lane_counts import LaneCounts
from component.http import page
from component.http.sources import Sample, Sources
from component.http.watch import Watch
from component.process.counters import Timings
from schemas import jid
from schemas.settings import load

PARTS = ["state", "chain", "numbers", "charts", "person", "problems"]
HOSTILE = "<img src=x onerror='evil()' alt=\"&\">"


def sources(*, waiting: int = 0) -> Sources:
    """Give the sources of a component that has just started."""
    settings = load(
        {
            "MIXPAM_COMPONENT_JID": "mixpam.example.org",
            "MIXPAM_SECRET": "s",
            "MIXPAM_DOMAINS": "example.org",
        }
    )
    store = cast("Any", SimpleNamespace(latency=Timings(), waiting=waiting, behind=False))
    watch = Watch(("example.org",))
    return Sources(settings, Play().core, watch, LaneCounts(), Counter(), store)


def parts(html: str) -> list[str]:
    return [found for found in re.findall(r'<div id="(\w+)"', html) if found in PARTS]


def test_the_page_and_the_live_answer_have_the_same_parts() -> None:
    made = sources()
    assert parts(page.whole(made, "").html) == PARTS
    assert parts(page.live(made, "")) == PARTS


def test_every_value_is_escaped() -> None:
    made = sources()
    user = jid.parse("romeo@example.org")
    made.core.mirror.row(user).devices.come(HOSTILE)
    watch = made.watch
    watch.saw("link-up", "info", {})
    watch.saw("tap", "info", {"domain": HOSTILE, "software": HOSTILE, "tap": HOSTILE, "archive": 1})
    watch.saw("redis-away", "error", {"kind": "x", "reason": HOSTILE, "remedy": HOSTILE})
    watch.saw(HOSTILE, HOSTILE, {HOSTILE: HOSTILE})
    for asked in (str(user), HOSTILE, "nobody@elsewhere.example", "nobody@example.org"):
        for html in (page.whole(made, asked).html, page.live(made, asked)):
            assert "<img" not in html
            assert f"{HOSTILE}, tap {HOSTILE}" in unescape(html)
            assert not asked or HOSTILE in unescape(html)


def test_a_search_says_why_it_finds_nothing() -> None:
    made = sources()
    for asked, words in (
        ("nonsense", "“nonsense” is no user's address"),
        ("a@b@c", "“a@b@c” is no user's address"),
        ("nobody@elsewhere.example", "is not on a domain that mixpam serves"),
        ("nobody@example.org", "is offline and in no channel, or does not exist"),
    ):
        assert words in unescape(page.live(made, asked))


def test_charts_end_at_the_right_edge() -> None:
    made = sources(waiting=2)
    for number in (0.0, 1.0, 2_000.0):
        made.samples.append(Sample(number, number * 2, number / 1000))
    html = page.live(made, "")
    line = re.search(r'class="line" points="([^"]+)"', html)
    assert line is not None
    assert line[1].split()[-1] == "300.0,6.0"
    assert "at most 4\N{NARROW NO-BREAK SPACE}000" in html
    assert "2 writes wait" in html


def test_the_policy_allows_what_the_document_has() -> None:
    made = page.whole(sources(), "")
    assert "unsafe" not in made.policy
    for kind in ("style", "script"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", made.html, re.DOTALL)
        assert page._hash(content) in made.policy
