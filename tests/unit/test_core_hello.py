"""What a tap says of itself in `hello`, and of what its users block (tap protocol T7)."""

import pytest
from driver import OWN, SERVER, Play

from component.core.context import NO_TAP, Tap
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
