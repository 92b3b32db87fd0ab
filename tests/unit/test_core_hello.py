"""What a tap says of itself in `hello`, and of what its users block (tap protocol T7)."""

import pytest
from driver import OWN, SERVER, Play

from component.core.context import NO_TAP, Tap
from component.core.taps import PATIENCE, REMINDER, STRANGE_DOMAINS
from schemas import codec, tap
from schemas.namespaces import TAP


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ("", Tap()),
        ("archive='true' pages='true' limit='524288'", Tap(True, True, 524_288)),
        ("limit='none'", Tap()),
        ("limit='0' more='later'", Tap()),
        ("limit='-7'", Tap()),
    ],
)
def test_what_a_tap_can_do_is_known_as_it_said(said: str, known: Tap) -> None:
    play = Play()
    assert play.core.context.tap(SERVER) == NO_TAP
    play.says(
        f"<message from='{SERVER}' to='{OWN}'>"
        f"<hello xmlns='mixpam:tap:1' version='1' {said}/></message>"
    )
    assert play.core.context.tap(SERVER) == known
    play.link_is_cut()
    assert play.core.context.tap(SERVER) == NO_TAP


@pytest.mark.parametrize(
    ("xml", "kind", "address"),
    [
        ("<blocked xmlns='mixpam:tap:1' jid='a@b' address='c@d'/>", tap.Blocked, "c@d"),
        ("<unblocked xmlns='mixpam:tap:1' jid='a@b' address='c@d'/>", tap.Unblocked, "c@d"),
        ("<unblocked xmlns='mixpam:tap:1' jid='a@b'/>", tap.Unblocked, None),
    ],
)
def test_what_is_blocked_is_read(xml: str, kind: type, address: str | None) -> None:
    element = codec.read(xml.encode())
    assert tap.EVENTS[element.tag] is kind
    event = codec.to_xso(element, kind)
    assert (event.jid, event.address) == ("a@b", address)
    assert TAP in element.tag


# -- a tap that is not there, and one that should not be ----------------------------------------


def hello(play: Play, domain: str, version: str = "1") -> None:
    play.says(
        f"<message from='{domain}' to='{OWN}'>"
        f"<hello xmlns='mixpam:tap:1' version='{version}'/></message>"
    )


def missing(play: Play) -> list[object]:
    """Give the domains whose tap was said to be missing, and forget them."""
    said = [each.facts["domain"] for each in play.reports if each.event == "tap-missing"]
    play.reports.clear()
    return said


def test_a_domain_whose_tap_says_nothing_is_told_of_and_again_after_long() -> None:
    play = Play()
    play.core.link_up(play.now)
    play.waits(5)
    hello(play, SERVER)
    play.waits(PATIENCE)
    assert missing(play) == ["example.net"]
    play.waits(REMINDER / 2)
    assert missing(play) == []
    play.waits(REMINDER / 2)
    assert missing(play) == ["example.net"]
    hello(play, "example.net")
    play.waits(2 * REMINDER)
    assert missing(play) == []


def test_a_tap_of_another_version_is_not_missing() -> None:
    play = Play()
    play.core.link_up(play.now)
    hello(play, SERVER)
    hello(play, "example.net", "7")
    play.waits(2 * REMINDER)
    assert missing(play) == []
    assert "example.net" not in play.core.context.taps


def test_nobody_is_missed_on_a_link_that_is_gone() -> None:
    play = Play()
    play.core.link_up(play.now)
    play.waits(5)
    play.link_is_cut()
    play.core.link_up(play.now)
    play.waits(6)
    assert missing(play) == []
    play.waits(5)
    assert missing(play) == ["example.net", SERVER]


def test_the_tap_of_a_domain_that_is_not_ours_is_told_of_once() -> None:
    play = Play()
    play.core.link_up(play.now)
    for _ in range(3):
        for number in range(2 * STRANGE_DOMAINS):
            hello(play, f"other{number}.example")
    said = [each.facts["domain"] for each in play.reports if each.event == "tap-of-other-domain"]
    assert said == [f"other{number}.example" for number in range(STRANGE_DOMAINS)]
    assert not play.core.context.taps
    play.silence()
