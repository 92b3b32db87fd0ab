"""What a channel sends while a join is under way: kept, archived, released in order (J10)."""

import pytest
from driver import ANNA, CORE_1, COVEN, LAPTOP, MIX, PHONE, Play
from scenes import (
    answers_disco,
    asked_to_join,
    asks_to_join,
    channel_answers,
    client_join,
    comes_online,
    error,
    granted,
    refused,
    roster_is_set,
    tap_is_up,
)

ARCHIVED = f"<stanza-id xmlns='urn:xmpp:sid:0' by='{ANNA}' id='a1'/>"


def groupchat(id_: str, content: str = "", *, to: str = ANNA, sender: str = f"{COVEN}/9") -> str:
    return (
        f"<message type='groupchat' from='{sender}' to='{to}' id='{id_}'>"
        f"<body>x</body>{content}</message>"
    )


def event(number: int = 1, *, to: str = ANNA) -> str:
    return f"<message from='{COVEN}' to='{to}'><event number='{number}'/></message>"


def begins(*, archive: bool, **limits: float) -> Play:
    """Come as far as the channel's having heard of the join, with a MIX device online."""
    play = Play(**limits)
    tap_is_up(play, archive=archive)
    comes_online(play)
    asks_to_join(play)
    return play


# Without presence to show there is less to hear.
GRANTED = granted(
    content="<user-preference xmlns='urn:xmpp:mix:anon:0'><x xmlns='jabber:x:data'>"
    "<field var='Presence'><value>not share</value></field></x></user-preference>"
)


def ends(play: Play) -> None:
    """Let the join succeed."""
    play.says(channel_answers(GRANTED))
    result_comes(play)


def result_comes(play: Play) -> None:
    roster_is_set(play, "none")
    play.hears(f"<iq type='result' from='{ANNA}' to='{PHONE}' id='j1'>*</iq>")


@pytest.mark.req("J10")
def test_everything_waits_for_the_result_and_keeps_its_order() -> None:
    play = begins(archive=False)
    play.says(event(1))
    play.says(groupchat("m1"))
    play.says(f"<presence from='9#{COVEN}/x' to='{ANNA}'/>")
    play.silence()
    play.says(channel_answers(GRANTED))
    play.says(event(2))
    result_comes(play)
    play.hears(event(1, to=PHONE))
    play.hears(groupchat("m1", to=PHONE))
    play.hears(f"<presence from='9#{COVEN}/x' to='{PHONE}'/>")
    play.hears(event(2, to=PHONE))
    play.silence()
    play.says(event(3))
    play.hears(event(3, to=PHONE))


@pytest.mark.req("J10", "A1")
def test_messages_that_came_too_early_are_archived_and_the_order_holds() -> None:
    play = begins(archive=True)
    play.says(event(1))
    play.says(groupchat("m1"))
    play.says(groupchat("m2"))
    play.says(event(2))
    play.says(groupchat("m3"))
    ends(play)
    play.hears(event(1, to=PHONE))
    play.hears(groupchat("m1"))
    play.hears(groupchat("m2"))
    play.silence()
    play.says(groupchat("m1", ARCHIVED))
    play.hears(groupchat("m1", ARCHIVED, to=PHONE))
    play.says(event(3))
    play.silence()
    play.says(groupchat("m2", ARCHIVED))
    play.hears(groupchat("m2", ARCHIVED, to=PHONE))
    play.hears(event(2, to=PHONE))
    play.hears(groupchat("m3"))
    play.silence()
    play.says(groupchat("m3", ARCHIVED))
    play.hears(groupchat("m3", ARCHIVED, to=PHONE))
    play.hears(event(3, to=PHONE))
    play.silence()
    # From here on nothing waits any more.
    play.says(groupchat("m4", ARCHIVED))
    play.hears(groupchat("m4", ARCHIVED, to=PHONE))


@pytest.mark.req("J10", "A1")
def test_the_archive_has_what_came_too_early_later() -> None:
    play = begins(archive=True)
    play.says(groupchat("m1"))  # the tap does not archive it: no member yet
    play.says(channel_answers(GRANTED))
    play.says(groupchat("m2", ARCHIVED))  # but this, before the other goes back for that
    result_comes(play)
    play.hears(groupchat("m1"))
    play.silence()
    play.says(groupchat("m1", ARCHIVED))
    play.hears(groupchat("m1", ARCHIVED, to=PHONE))
    play.hears(groupchat("m2", ARCHIVED, to=PHONE))
    play.silence()


@pytest.mark.req("A1", "J10")
def test_what_is_archived_already_is_not_archived_again() -> None:
    play = begins(archive=True)
    play.says(groupchat("m1", ARCHIVED))
    ends(play)
    play.hears(groupchat("m1", ARCHIVED, to=PHONE))
    play.silence()


@pytest.mark.req("A1", "J10")
@pytest.mark.parametrize(
    "content",
    [
        f"<stanza-id xmlns='urn:xmpp:sid:0' by='{COVEN}' id='1'/>",
        "<stanza-id xmlns='urn:xmpp:sid:0' id='1'/>",
        "<stanza-idle by='anna@example.org'/>",
        "<a by='anna@example.org'/>",
    ],
    ids=["the channel's", "nobody's", "longer name", "other"],
)
def test_only_the_own_archive_counts(content: str) -> None:
    play = begins(archive=True)
    play.says(groupchat("m1", content))
    ends(play)
    play.hears(groupchat("m1", content))
    play.silence()


@pytest.mark.abuse(4)
def test_an_archive_id_in_what_is_forwarded_does_not_count() -> None:
    play = begins(archive=True)
    forwarded = f"<forwarded xmlns='urn:xmpp:forward:0'><message>{ARCHIVED}</message></forwarded>"
    play.says(groupchat("m1", forwarded))
    ends(play)
    play.hears(groupchat("m1", forwarded))


@pytest.mark.abuse(11)
def test_an_archive_id_with_odd_attributes_is_no_fault() -> None:
    play = begins(archive=True)
    odd = "<stanza-id xmlns='urn:xmpp:sid:0' by='a>b' id='1'/>"
    play.says(groupchat("m1", odd))
    ends(play)
    play.hears(groupchat("m1", odd))


@pytest.mark.req("J10")
def test_what_the_server_does_not_give_back_is_not_waited_for_long() -> None:
    play = begins(archive=True)
    play.says(groupchat("m1"))
    play.says(event(1))
    ends(play)
    play.hears(groupchat("m1"))
    play.waits(4)
    play.silence()
    play.waits(2)
    play.hears(event(1, to=PHONE))
    play.silence()
    play.says(groupchat("m2"))
    play.hears(groupchat("m2", to=PHONE))


@pytest.mark.req("J10")
def test_another_message_of_the_same_id_is_not_the_one_that_returns() -> None:
    play = begins(archive=True)
    play.says(groupchat("m1"))
    ends(play)
    play.hears(groupchat("m1"))
    play.says(event(1))
    play.says(f"<message from='{COVEN}' to='{ANNA}' id='m1'/>")
    play.silence()
    play.says(groupchat("m1", ARCHIVED))
    play.hears(groupchat("m1", ARCHIVED, to=PHONE))
    play.hears(event(1, to=PHONE))
    play.hears(f"<message from='{COVEN}' to='{PHONE}' id='m1'/>")


@pytest.mark.abuse(8)
@pytest.mark.parametrize("limits", [{"held_stanzas": 3}, {"held_bytes": 300}])
def test_what_waits_is_bounded(limits: dict[str, float]) -> None:
    play = begins(archive=False, **limits)
    for number in range(100):
        play.says(event(number))
    ends(play)
    kept = 0
    while play.dropped("held-too-much") + kept < 100:
        play.hears(event(kept, to=PHONE))
        kept += 1
    play.silence()
    assert kept == 3


@pytest.mark.req("J10", "J4")
def test_a_join_that_fails_lets_nothing_through() -> None:
    play = begins(archive=True)
    play.says(event(1))
    play.says(groupchat("m1"))
    play.says(channel_answers(error("forbidden", "auth"), type_="error"))
    play.hears(refused("forbidden", "auth"))
    play.silence()
    play.says(event(2))
    play.hears(f"<message type='error' from='{ANNA}' to='{COVEN}'>*</message>")
    play.silence()


@pytest.mark.req("J10", "J9")
def test_a_join_that_is_undone_lets_nothing_through() -> None:
    play = begins(archive=True)
    play.says(groupchat("m1"))
    play.says(channel_answers(granted("a/b")))
    play.hears(refused("undefined-condition", "cancel", "*"))
    undo = play.hears(f"<iq type='set' from='{ANNA}' to='{COVEN}' id='*'>*</iq>")
    play.says(event(1))
    play.says(channel_answers("", id_=undo.get("id", "")))
    roster_is_set(play, "remove")
    play.silence()


@pytest.mark.req("J7", "J10")
def test_joining_again_keeps_nothing_back() -> None:
    play = begins(archive=True)
    ends(play)
    play.says(client_join(id_="j2"))
    asked_to_join(play, id_="j2")
    play.says(groupchat("m1", ARCHIVED))
    play.hears(groupchat("m1", ARCHIVED, to=PHONE))
    play.silence()


@pytest.mark.req("F1", "J10")
def test_a_device_that_turns_out_to_speak_mix_meanwhile_gets_what_waited() -> None:
    play = begins(archive=False)
    play.says(f"<presence from='{LAPTOP}' to='mixpam.example.org'/>")
    query = play.hears(f"<iq type='get' from='*' to='{LAPTOP}' id='*'>*</iq>")
    play.says(event(1))
    answers_disco(play, LAPTOP, query.get("id", ""), CORE_1)
    ends(play)
    for device in (PHONE, LAPTOP):
        play.hears(event(1, to=device))
    play.silence()


@pytest.mark.req("J10")
def test_other_channels_do_not_wait() -> None:
    play = begins(archive=False)
    ends(play)
    other = f"other@{MIX}"
    play.says(client_join(other, id_="j2"))
    asked_to_join(play, id_="j2", channel=other)
    play.says(event(1))
    play.hears(event(1, to=PHONE))
    play.says(event(2).replace(COVEN, other))
    play.silence()


def test_what_came_back_in_time_is_given_up_by_nobody() -> None:
    play = begins(archive=True, archive_timeout=5)
    play.says(groupchat("m1"))
    ends(play)
    play.hears(groupchat("m1"))
    play.says(groupchat("m1", ARCHIVED))
    play.hears(groupchat("m1", ARCHIVED, to=PHONE))
    play.waits(60)
    play.silence()
