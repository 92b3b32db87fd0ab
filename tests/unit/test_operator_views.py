"""What operators see of a device: whether it speaks MIX, and what that rests on."""

from driver import ANNA, OWN, PHONE, Play
from scenes import answers_disco, comes_online, tap_is_up

from component.operator.views import describe_user, totals
from schemas import jid


def evidence(play: Play) -> str:
    (device,) = describe_user(play.core, jid.parse(ANNA)).devices
    return device.evidence


def test_a_device_without_a_hash_is_believed_by_its_answer() -> None:
    play = Play()
    tap_is_up(play)
    comes_online(play, PHONE, "urn:example:x")
    assert evidence(play) == "no-hash"
    assert totals(play.core).capabilities == 0


def test_a_device_that_does_not_answer_is_silent() -> None:
    play = Play()
    tap_is_up(play)
    caps = "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='dmVy'/>"
    play.says(f"<presence from='{PHONE}' to='{OWN}'>{caps}</presence>")
    query = play.hears_anything()
    assert evidence(play) == "open"
    assert totals(play.core).open_questions == 1
    play.waits(31)
    assert evidence(play) == "silent"
    answers_disco(play, PHONE, query.get("id", ""), "urn:example:x", node="n#dmVy")
    assert evidence(play) == "unverified"
