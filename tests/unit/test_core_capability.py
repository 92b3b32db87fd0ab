"""Which devices speak MIX: verified, remembered, asked once, believed for one only (C1-C5).

Somebody else's device must not decide, nor delay, what is known of an honest one. That is
tried by answers that give the right hash and another meaning, by silence, by lies, by ever-new
hashes, by many sessions of one user, and by sizes.
"""

import base64
import hashlib

import pytest
from driver import ANNA, BEN, CORE_0, CORE_1, COVEN, DISCO, LAPTOP, OWN, PHONE, Play, Stored
from scenes import comes_online, in_the_coven, tap_is_up

from component.core.limits import Limits
from component.core.presence.capability import PATIENCE
from schemas.disco import MOST_PARTS
from schemas.jid import parse
from schemas.records import CapabilityRecord


def sha_1(features: tuple[str, ...]) -> str:
    """Give the XEP-0115 hash of a client/pc without a name."""
    text = "client/pc//<" + "".join(f"{feature}<" for feature in sorted(features))
    return base64.b64encode(hashlib.sha1(text.encode(), usedforsecurity=False).digest()).decode()


FEATURES = (CORE_1, DISCO)
HASH = sha_1(FEATURES)
NODE = f"http://client.example#{HASH}"
CAPS = (
    "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1'"
    f" node='http://client.example' ver='{HASH}'/>"
)
CAPS_2 = "<c xmlns='urn:xmpp:caps'><hash xmlns='urn:xmpp:hashes:2' algo='sha-256'>eA==</hash></c>"


@pytest.fixture
def play() -> Play:
    made = Play()
    in_the_coven(made)
    return made


def presence(device: str = PHONE, content: str = CAPS) -> str:
    return f"<presence from='{device}' to='{OWN}'>{content}</presence>"


def is_asked(play: Play, device: str = PHONE, node: str = NODE) -> str:
    at = f" node='{node}'" if node else ""
    return play.hears(
        f"<iq type='get' from='{OWN}' to='{device}' id='*'><query xmlns='{DISCO}'{at}/></iq>"
    ).get("id", "")


def answers(play: Play, id_: str, device: str = PHONE, *features: str) -> None:
    listed = "".join(f"<feature var='{feature}'/>" for feature in features or FEATURES)
    play.says(
        f"<iq type='result' from='{device}' to='{OWN}' id='{id_}'><query xmlns='{DISCO}'>"
        f"<identity category='client' type='pc'/>{listed}</query></iq>"
    )


def is_mix(play: Play, *devices: str) -> None:
    """Check that these devices, and no others, get what the channel sends."""
    play.says(f"<message from='{COVEN}' to='{ANNA}'/>")
    for device in devices:
        play.hears(f"<message from='{COVEN}' to='{device}'/>")
    play.silence()


def is_shown(play: Play, device: str = PHONE, content: str = CAPS) -> None:
    play.hears(f"<presence from='{device}' to='{COVEN}'>{content}</presence>")


@pytest.mark.req("C1")
def test_a_hash_is_asked_for_and_believed_when_it_is_right(play: Play) -> None:
    play.says(presence())
    id_ = is_asked(play)
    is_mix(play)
    answers(play, id_)
    is_shown(play)
    is_mix(play, PHONE)
    assert list(play.stored.capabilities) == [f"115:sha-1:{HASH}"]


@pytest.mark.req("C1")
def test_a_hash_once_verified_is_not_asked_for_again_by_nobody(play: Play) -> None:
    play.says(presence())
    answers(play, is_asked(play))
    is_shown(play)
    play.says(presence(LAPTOP))
    is_shown(play, LAPTOP)
    play.says(presence(f"{BEN}/x"))
    play.silence()
    again = play.dies()
    tap_is_up(again, services="mix.example")
    again.says(presence())
    again.silence()
    is_mix(again, PHONE)


@pytest.mark.req("C1")
def test_devices_of_one_hash_wait_for_one_answer(play: Play) -> None:
    few = [f"{BEN}/{number}" for number in range(Limits().hash_devices)]
    for device in (*few, PHONE, LAPTOP):
        play.says(presence(device))
    asked = {device: is_asked(play, device) for device in few}
    play.silence()
    # One that is silent keeps nobody waiting.
    answers(play, asked[few[1]], few[1])
    is_shown(play)
    is_shown(play, LAPTOP)
    is_mix(play, PHONE, LAPTOP)


@pytest.mark.req("C3")
@pytest.mark.abuse(16)
def test_the_next_devices_are_asked_when_the_first_have_lied(play: Play) -> None:
    few = [f"{BEN}/{number}" for number in range(Limits().hash_devices)]
    for device in (*few, PHONE):
        play.says(presence(device))
    for device in few:
        answers(play, is_asked(play, device), device, "urn:example:lie")
    answers(play, is_asked(play))
    is_shown(play)
    is_mix(play, PHONE)


@pytest.mark.req("C2")
def test_a_device_without_a_hash_is_asked_and_nothing_is_remembered(play: Play) -> None:
    comes_online(play)
    is_shown(play, content="")
    is_mix(play, PHONE)
    assert not play.stored.capabilities
    # Its next presence is no reason to ask again.
    play.says(presence(content="<show>away</show>"))
    is_shown(play, content="<show>away</show>")
    play.silence()


@pytest.mark.req("C2")
def test_a_presence_without_the_hash_says_nothing_new(play: Play) -> None:
    play.says(presence())
    answers(play, is_asked(play))
    is_shown(play)
    play.says(presence(content="<show>away</show>"))
    is_shown(play, content="<show>away</show>")
    is_mix(play, PHONE)


@pytest.mark.req("C3")
@pytest.mark.abuse(16)
def test_a_false_hash_is_good_for_that_device_alone(play: Play) -> None:
    play.says(presence())
    play.says(presence(LAPTOP))
    answers(play, is_asked(play), PHONE, CORE_1, "false")
    id_ = is_asked(play, LAPTOP)
    is_shown(play)
    play.silence()
    assert not play.stored.capabilities
    answers(play, id_, LAPTOP)
    is_shown(play, LAPTOP)
    is_mix(play, PHONE, LAPTOP)
    assert play.stored.capabilities
    assert play.counts["capability", "false-hash"] == 1


@pytest.mark.abuse(16)
def test_a_false_hash_gives_nobody_else_mix(play: Play) -> None:
    play.says(presence(f"{BEN}/evil"))
    play.says(presence())
    answers(play, is_asked(play, f"{BEN}/evil"), f"{BEN}/evil", CORE_0, "false")
    id_ = is_asked(play)
    is_mix(play)
    answers(play, id_)
    is_shown(play)


@pytest.mark.req("C4")
@pytest.mark.abuse(17)
@pytest.mark.parametrize("answer", ["silence", "error", "empty"])
def test_a_device_that_does_not_answer_does_not_speak_mix(play: Play, answer: str) -> None:
    play.says(presence())
    play.says(presence(LAPTOP))
    id_ = is_asked(play)
    other = is_asked(play, LAPTOP)
    if answer == "silence":
        play.waits(29)
        answers(play, other, LAPTOP, "urn:example:lie")
        play.waits(2)
    else:
        type_ = "error" if answer == "error" else "result"
        play.says(f"<iq type='{type_}' from='{PHONE}' to='{OWN}' id='{id_}'/>")
        is_mix(play)
        answers(play, other, LAPTOP)
        is_shown(play, LAPTOP)
    is_mix(play, *([] if answer == "silence" else [LAPTOP]))
    assert play.counts["capability", "no-answer"] == 1


@pytest.mark.req("C4", "F8")
def test_a_device_that_slept_may_answer_late_for_itself(play: Play) -> None:
    play.says(presence())
    id_ = is_asked(play)
    play.waits(31)
    answers(play, id_)
    is_shown(play)
    is_mix(play, PHONE)
    assert not play.stored.capabilities


@pytest.mark.req("P5")
def test_a_device_that_stops_speaking_mix_is_hidden(play: Play) -> None:
    play.says(presence())
    answers(play, is_asked(play))
    is_shown(play)
    other = CAPS.replace(HASH, "other=")
    play.says(presence(content=other))
    id_ = is_asked(play, node="http://client.example#other=")
    # Until it is known better, it is as it was.
    while play.has_written:
        play.hears(f"<presence from='{PHONE}' to='{COVEN}'>*</presence>")
    answers(play, id_, PHONE, "nothing")
    play.hears(f"<presence type='unavailable' from='{PHONE}' to='{COVEN}'/>")
    is_mix(play)


@pytest.mark.abuse(16)
@pytest.mark.parametrize("gone", ["offline", "other hash"])
def test_an_answer_that_comes_too_late_is_for_nobody(play: Play, gone: str) -> None:
    play.says(presence())
    id_ = is_asked(play)
    if gone == "offline":
        play.says(f"<presence type='unavailable' from='{PHONE}' to='{OWN}'/>")
    else:
        play.says(presence(content=CAPS.replace(HASH, "other=")))
        is_asked(play, node="http://client.example#other=")
    answers(play, id_, PHONE, CORE_1, "false")
    is_mix(play)


@pytest.mark.abuse(16)
def test_ever_new_hashes_make_room_for_each_other() -> None:
    play = Play(caps_cache=3)
    tap_is_up(play)
    for number in range(10):
        features = (*FEATURES, f"urn:x:{number}")
        digest = sha_1(features)
        play.says(presence(content=CAPS.replace(HASH, digest)))
        answers(play, is_asked(play, node=f"http://client.example#{digest}"), PHONE, *features)
    assert len(play.stored.capabilities) == 3
    assert f"115:sha-1:{sha_1((*FEATURES, 'urn:x:9'))}" in play.stored.capabilities


@pytest.mark.req("C5")
def test_hashes_of_the_second_version_are_asked_for_by_their_own_node(play: Play) -> None:
    caps = CAPS_2
    play.says(presence(content=caps))
    id_ = is_asked(play, node="urn:xmpp:caps#sha-256.eA==")
    answers(play, id_)
    is_shown(play, content=caps)
    is_mix(play, PHONE)
    assert not play.stored.capabilities


@pytest.mark.abuse(25)
def test_after_a_cut_everything_is_asked_anew(play: Play) -> None:
    play.says(presence())
    id_ = is_asked(play)
    play.link_is_cut()
    tap_is_up(play, services="mix.example")
    play.says(presence())
    assert is_asked(play) != id_


@pytest.mark.abuse(10)
@pytest.mark.parametrize(
    "stranger",
    [
        "<presence from='eve@evil.example/x' to='{own}'/>",
        "<presence from='anna@example.org' to='{own}'/>",
        "<presence from='example.org' to='{own}'/>",
        "<presence type='probe' from='anna@example.org/x' to='{own}'/>",
        "<presence type='unavailable' from='anna@example.org/unknown' to='{own}'/>",
        "<presence type='unavailable' from='carl@example.org/unknown' to='{own}'/>",
    ],
)
def test_presence_of_anybody_else_makes_no_device(play: Play, stranger: str) -> None:
    play.says(stranger.format(own=OWN))
    is_mix(play)


# -- somebody else pays -------------------------------------------------------------------

CUTS = {
    "all features in a form": "<identity category='client' type='pc'/>"
    "<x xmlns='jabber:x:data' type='result'>"
    f"<field var='FORM_TYPE' type='hidden'><value>{DISCO}</value></field>"
    f"<field var='{CORE_1}'/></x>",
    "the first feature alone": "<identity category='client' type='pc'/>"
    f"<feature var='{DISCO}'/><x xmlns='jabber:x:data' type='result'>"
    f"<field var='FORM_TYPE' type='hidden'><value>{CORE_1}</value></field></x>",
    "identities": "<identity category='client' type='pc'/>"
    f"<x xmlns='jabber:x:data'><field var='FORM_TYPE'><value>{DISCO}</value></field>"
    f"<field var='{CORE_1}'/></x>",
}


@pytest.mark.req("C3")
@pytest.mark.abuse(16)
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_the_same_bytes_cut_otherwise_mean_the_same(play: Play, cut: str) -> None:
    play.says(presence(f"{BEN}/evil"))
    id_ = is_asked(play, f"{BEN}/evil")
    play.says(
        f"<iq type='result' from='{BEN}/evil' to='{OWN}' id='{id_}'><query xmlns='{DISCO}'>"
        f"{cut}</query></iq>"
    )
    play.says(presence())
    while play.has_written:
        answer = play.hears_anything()
        if answer.tag.endswith("iq"):  # it was no answer to be believed
            answers(play, answer.get("id", ""))
    is_mix(play, PHONE)
    assert all(record.features == [CORE_1] for record in play.stored.capabilities.values())


@pytest.mark.abuse(17)
@pytest.mark.parametrize("silent", [6, 50])
@pytest.mark.parametrize("users", ["many users", "one user"])
def test_silence_costs_only_the_silent(play: Play, silent: int, users: str) -> None:
    for number in range(silent):
        user = BEN if users == "one user" else f"u{number}@example.org"
        play.says(presence(f"{user}/{number}"))
    play.waits(10)
    while play.has_written:
        play.hears_anything()
    play.says(presence())
    play.waits(2 * PATIENCE)
    answers(play, is_asked(play))
    is_shown(play)
    is_mix(play, PHONE)


@pytest.mark.abuse(17)
def test_an_honest_one_among_many_silent_sessions_is_asked_within_seconds(play: Play) -> None:
    for number in range(50):
        play.says(presence(f"{BEN}/{number}"))
    play.says(presence())
    play.waits(2 * PATIENCE)
    asked = [play.hears_anything() for _ in range(3 + 3 + 6)]
    assert PHONE in [each.get("to") for each in asked]


@pytest.mark.abuse(16)
@pytest.mark.parametrize("kind", ["ever-new hashes", "no hash", "one hash", "both in turn"])
def test_one_user_is_asked_only_so_often(kind: str) -> None:
    play = Play(disco_burst=5, disco_rate=0.1)
    in_the_coven(play)
    for number in range(100):
        other = CAPS.replace(HASH, f"hash{number if kind == 'ever-new hashes' else number % 2}=")
        if kind in {"ever-new hashes", "both in turn"}:
            play.says(presence(f"{BEN}/x", other))
        else:
            play.says(presence(f"{BEN}/{number}", CAPS if kind == "one hash" else ""))
    play.waits(20)
    asked = play.hears_all()
    assert 2 <= len(asked) <= 5 + 2
    assert all(f"to='{BEN}/".encode() in each for each in asked)
    # Nobody else has less.
    play.says(presence())
    play.waits(PATIENCE)
    assert any(f"to='{PHONE}'".encode() in each for each in play.hears_all())


@pytest.mark.abuse(16)
@pytest.mark.parametrize("content", [
    CAPS.replace(HASH, "x" * 200),
    CAPS.replace("http://client.example", "x" * 2_000),
    CAPS_2.replace("eA==", "x" * 200),
])  # fmt: skip
def test_what_is_no_hash_by_its_length_is_none(play: Play, content: str) -> None:
    play.says(presence(content=content))
    answers(play, is_asked(play, node=""))
    is_shown(play, content=content)
    is_mix(play, PHONE)
    assert not play.stored.capabilities


@pytest.mark.abuse(16)
def test_an_answer_with_too_many_features_vouches_for_nothing(play: Play) -> None:
    features = (*FEATURES, *(f"urn:x:{number}" for number in range(MOST_PARTS)))
    digest = sha_1(features)
    play.says(presence(content=CAPS.replace(HASH, digest)))
    answers(play, is_asked(play, node=f"http://client.example#{digest}"), PHONE, *features)
    assert not play.stored.capabilities


def test_many_who_wait_for_one_answer_are_all_told(play: Play) -> None:
    devices = [f"{BEN}/{number}" for number in range(150)]
    for device in devices:
        play.says(presence(device))
    answers(play, is_asked(play, devices[0]), devices[0])
    play.waits(1)
    row = play.core.mirror.find(parse(BEN))
    assert row is not None
    assert len(row.mix_devices) == len(devices)


@pytest.mark.abuse(17, 25)
def test_the_next_link_has_questions_of_its_own(play: Play) -> None:
    few = [f"{BEN}/{number}" for number in range(Limits().hash_devices)]
    for _ in range(2):
        for device in few:
            play.says(presence(device))
        for device in few:
            is_asked(play, device)
        play.link_is_cut()
        tap_is_up(play, services="mix.example")


def test_a_start_takes_over_no_more_than_there_is_room_for() -> None:
    stored = Stored()
    for number in range(4):
        stored.capabilities[f"sha-1 {number}="] = CapabilityRecord(features=[CORE_1])
    assert len(Play(stored, caps_cache=3).core.remembered.of_all()) == 3


def test_one_of_two_who_wait_changes_its_hash(play: Play) -> None:
    few = [f"{BEN}/{number}" for number in range(Limits().hash_devices)]
    for device in (*few, PHONE, LAPTOP):
        play.says(presence(device))
    asked = [is_asked(play, device) for device in few]
    play.says(presence(content=CAPS.replace(HASH, "other=")))
    is_asked(play, node="http://client.example#other=")
    answers(play, asked[0], few[0])
    is_shown(play, LAPTOP)
    play.silence()


@pytest.mark.abuse(17)
def test_who_went_while_waiting_is_not_asked(play: Play) -> None:
    few = [f"{BEN}/{number}" for number in range(Limits().hash_devices)]
    for device in (*few, PHONE, LAPTOP):
        play.says(presence(device))
    for device in few:
        is_asked(play, device)
    play.says(f"<presence type='unavailable' from='{PHONE}' to='{OWN}'/>")
    play.waits(PATIENCE)
    is_asked(play, LAPTOP)
    play.silence()


def test_answers_behind_the_right_one_are_for_one_device_each(play: Play) -> None:
    few = [f"{BEN}/{number}" for number in range(Limits().hash_devices)]
    for device in few:
        play.says(presence(device))
    first, second, third = ((device, is_asked(play, device)) for device in few)
    answers(play, first[1], first[0])
    answers(play, second[1], second[0])
    answers(play, third[1], third[0], "urn:example:lie")
    row = play.core.mirror.find(parse(BEN))
    assert row is not None
    assert [device.jid.resource for device in row.mix_devices] == ["0", "1"]


def test_another_links_patience_asks_nobody(play: Play) -> None:
    for number in range(Limits().hash_devices + 1):
        play.says(presence(f"{BEN}/{number}"))
    play.link_is_cut()
    play.waits(2 * PATIENCE)
    play.silence()


@pytest.mark.req("C4")
def test_who_never_answers_is_not_waited_for_for_ever(play: Play) -> None:
    play.says(presence())
    is_asked(play)
    play.waits(Limits().disco_timeout + Limits().late_window + 1)
    play.silence()
    assert play.core.next_deadline is None
