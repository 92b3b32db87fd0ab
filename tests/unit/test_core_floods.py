"""A channel whose crowd comes and goes: what is passed on at once, what later, what never."""

import pytest
from driver import ANNA, COVEN, PHONE, Play
from scenes import in_the_coven

from schemas import jid

RATE = 20


def crowded(**limits: float) -> Play:
    """Let anna be in a channel that may send 20 presences a second, with a MIX device."""
    play = Play(presence_rate=RATE, **limits)
    in_the_coven(play, PHONE)
    return play


def presence(person: int, to: str = ANNA, state: str = "") -> str:
    type_ = f" type='{state}'" if state else ""
    return f"<presence{type_} from='{person}#{COVEN}/x' to='{to}'/>"


@pytest.mark.abuse(8)
def test_what_comes_too_fast_waits_and_is_passed_on_in_portions() -> None:
    play = crowded()
    for person in range(RATE + 5):
        play.says(presence(person))
    for person in range(RATE):
        play.hears(presence(person, PHONE))
    play.silence()
    for person in range(RATE, RATE + 4, 2):
        play.waits(0.1)
        play.hears(presence(person, PHONE))
        play.hears(presence(person + 1, PHONE))
        play.silence()
    play.waits(0.1)
    play.hears(presence(RATE + 4, PHONE))
    play.waits(10)
    play.silence()
    play.says(presence(99))
    play.hears(presence(99, PHONE))


@pytest.mark.abuse(8)
def test_of_each_participant_only_the_last_presence_is_passed_on_later() -> None:
    play = crowded()
    for person in range(RATE):
        play.says(presence(person))
        play.hears(presence(person, PHONE))
    for _ in range(50):
        play.says(presence(7, state="unavailable"))
        play.says(presence(7))
    play.says(presence(8, state="unavailable"))
    play.waits(1)
    play.hears(presence(7, PHONE))
    play.hears(presence(8, PHONE, "unavailable"))
    play.silence()
    assert play.counts["presence-late", "replaced"] == 99


@pytest.mark.abuse(8)
def test_what_waits_is_bounded_and_messages_do_not_wait() -> None:
    play = crowded(late_presences=3)
    for person in range(RATE + 10):
        play.says(presence(person))
    for person in range(RATE):
        play.hears(presence(person, PHONE))
    play.says(f"<message type='groupchat' from='{COVEN}/1' to='{ANNA}'/>")
    play.hears(f"<message type='groupchat' from='{COVEN}/1' to='{PHONE}'/>")
    play.waits(10)
    for person in range(RATE, RATE + 3):
        play.hears(presence(person, PHONE))
    play.silence()
    assert play.dropped("presence-flood") == 7


@pytest.mark.abuse(8)
def test_what_waits_of_a_channel_goes_with_the_membership() -> None:
    play = crowded()
    for person in range(RATE + 5):
        play.says(presence(person))
    assert play.core.leave(jid.parse(ANNA), jid.parse(COVEN))
    for person in range(RATE):
        play.hears(presence(person, PHONE))
    play.waits(10)
    play.hears(f"<iq type='set' from='{ANNA}' to='{COVEN}' id='*'>*</iq>")
    play.silence()


@pytest.mark.abuse(8)
def test_many_channels_together_may_not_send_more_to_one_user_either() -> None:
    play = crowded(presence_user_rate=2 * RATE)
    row = play.core.mirror.find(jid.parse(ANNA))
    assert row is not None
    (coven,) = row.channels.values()
    for number in range(3):
        channel = jid.parse(f"c{number}@mix.example")
        play.core.mirror.join(row.jid, coven._replace(channel=channel))
    for number in range(3):
        for person in range(RATE):
            play.says(f"<presence from='{person}#c{number}@mix.example/x' to='{ANNA}'/>")
    for number in range(2):
        for person in range(RATE):
            play.hears(f"<presence from='{person}#c{number}@mix.example/x' to='{PHONE}'/>")
    play.silence()
    play.waits(2)
    for person in range(RATE):
        play.hears(f"<presence from='{person}#c2@mix.example/x' to='{PHONE}'/>")
    play.silence()
