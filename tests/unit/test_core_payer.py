"""Whose turn a stanza takes: nobody but who sends it, or whose own it is.

The kind: a stranger makes up addresses of its own, names others', and writes to whom it likes; by
none of that may it take the turns or the room of a user, or more than its domain has.
"""

import pytest
from driver import ANNA, COVEN, Play
from scenes import in_the_coven

from component.core.delivery.payer import NOBODY, is_alone, is_strange, payer
from component.wire.framing import Frame, LeftOut

OWN = "mixpam.example.org"
DOMAINS = frozenset({b"example.org"})


USER, CHANNEL = ANNA, COVEN


@pytest.fixture
def play() -> Play:
    """Give a core to which nothing has happened yet."""
    return Play()


def whose(play: Play, stanza: str) -> str:
    mirror = play.core.mirror
    frame = Frame(stanza.encode())
    found = payer(mirror, DOMAINS, frame)
    if frame.name != b"message":
        assert payer(mirror, DOMAINS, LeftOut.of(frame, "")) == found
    return found.decode()


@pytest.mark.parametrize("kind", ["message", "presence", "iq"])
@pytest.mark.parametrize(
    ("to", "sender", "user"),
    [
        (USER, CHANNEL, USER),
        (USER, f"pid#{CHANNEL}/x", USER),
        (f"{USER}/a@b/c", USER, USER),
        (USER, f"{USER}/phone", USER),
        (f"{USER}/phone", CHANNEL, USER),
        (CHANNEL, f"{USER}/phone", USER),
        (OWN, f"{USER}/phone@evil.example", USER),
        (OWN, USER, USER),
        (f"{OWN}/x", "example.org", ""),
        (OWN, "evil.example/x", "evil.example"),
        (OWN, "a@evil.example", "evil.example"),
        (OWN, "b@evil.example/c@d", "evil.example"),
        (f"{OWN}/x", f"a@evil.example/{USER}", "evil.example"),
        (USER, "a@evil.example", "evil.example"),
        (f"{USER}/phone", "a@evil.example/x", "evil.example"),
        (USER, f"other@{CHANNEL.partition('@')[2]}", CHANNEL.partition("@")[2]),
        ("nobody@example.org", CHANNEL, CHANNEL.partition("@")[2]),
        (f"c@{OWN}", "d@evil.example", "evil.example"),
    ],
)
def test_whose_turn_it_is(play: Play, kind: str, to: str, sender: str, user: str) -> None:
    in_the_coven(play)
    found = whose(play, f"<{kind} to='{to}' from='{sender}'/>")
    assert found == user
    assert is_strange(found.encode()) is ("@" not in user and user != "")


@pytest.mark.parametrize(
    ("event", "user", "alone"),
    [
        ("<hello xmlns='mixpam:tap:1'/>", NOBODY.decode(), True),
        ("<replayed xmlns='mixpam:tap:1'/>", NOBODY.decode(), True),
        ("<user-removed xmlns='mixpam:tap:1' jid='anna@example.org'/>", "anna@example.org", False),
        (
            "<hibernated xmlns='mixpam:tap:1' jid=\"anna@example.org/a@b\"/>",
            "anna@example.org",
            False,
        ),
        ("<s2s xmlns='mixpam:tap:1' domain='a.example'/>", NOBODY.decode(), False),
    ],
)
def test_an_event_is_of_the_user_of_whom_it_tells(
    play: Play, event: str, user: str, alone: bool
) -> None:
    stanza = f"<message from='example.org' to='{OWN}'>{event}</message>"
    assert whose(play, stanza) == user
    assert is_alone(user.encode(), Frame(stanza.encode())) is alone
    # Whoever else says so is a stranger.
    assert whose(play, stanza.replace("'example.org'", "'evil.example'")) == "evil.example"
