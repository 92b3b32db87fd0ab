"""Leaving, being kicked, deleting the roster item, deleting the account (XEP-0405 §5.7)."""

from collections.abc import Callable

import pytest
from driver import ANNA, BEN, CORE_0, CORE_1, COVEN, LAPTOP, MIX, OWN, PAM_0, PAM_2, PHONE, Play
from scenes import (
    answers_disco,
    asked_to_join,
    asked_to_leave,
    asks_to_join,
    channel_answers,
    client_join,
    client_leave,
    error,
    granted,
    in_the_coven,
    joined,
    kick,
    refused,
    removed,
    roster_is_set,
    service_is_asked,
    service_question,
    tap_is_up,
)


@pytest.fixture
def play() -> Play:
    made = Play()
    in_the_coven(made, PHONE)
    return made


def hears_leave(play: Play, *, id_: str = "l1", core: str = CORE_1, channel: str = COVEN) -> None:
    play.hears(
        f"<iq type='set' from='{ANNA}' to='{channel}' id='{id_}'><leave xmlns='{core}'/></iq>"
    )


def left(*, id_: str = "l1", pam: str = PAM_2, core: str = CORE_1, device: str = PHONE) -> str:
    return (
        f"<iq type='result' from='{ANNA}' to='{device}' id='{id_}'>"
        f"<client-leave xmlns='{pam}'><leave xmlns='{core}'/></client-leave></iq>"
    )


@pytest.mark.req("L1", "N1", "N2")
@pytest.mark.parametrize("answer", [f"<leave xmlns='{CORE_1}'/>", f"<leave xmlns='{CORE_0}'/>", ""])
@pytest.mark.parametrize(("pam", "core"), [(PAM_2, CORE_1), (PAM_0, CORE_0)])
def test_a_leave_goes_to_channel_roster_and_client(
    play: Play, pam: str, core: str, answer: str
) -> None:
    play.says(client_leave(pam=pam, core=core))
    hears_leave(play, core=core)
    assert play.members() == {COVEN: "123"}
    play.says(channel_answers(answer, id_="l1"))
    roster_is_set(play, "remove")
    play.hears(left(pam=pam, core=core))
    play.silence()
    assert not play.members()
    assert not play.stored.journal


@pytest.mark.req("L2")
def test_the_channels_error_reaches_the_client_and_nothing_changes(play: Play) -> None:
    play.says(client_leave())
    hears_leave(play)
    why = error("not-allowed", "cancel", "stay")
    play.says(channel_answers(why, id_="l1", type_="error"))
    play.hears(f"<iq type='error' from='{ANNA}' to='{PHONE}' id='l1'>{why}</iq>")
    play.silence()
    assert play.members() == {COVEN: "123"}
    assert not play.stored.journal


@pytest.mark.req("L2")
def test_a_channel_that_does_not_answer_keeps_the_member(play: Play) -> None:
    play.says(client_leave())
    hears_leave(play)
    play.waits(31)
    play.hears(refused("remote-server-timeout", "wait", f"{MIX} did not answer", id_="l1"))
    play.silence()
    assert play.members() == {COVEN: "123"}
    # A late answer tells that it has happened after all.
    play.says(channel_answers("", id_="l1"))
    roster_is_set(play, "remove")
    play.silence()
    assert not play.members()
    assert not play.stored.journal


def roster_is_read(play: Play, items: str, type_: str = "result") -> None:
    request = play.hears(
        f"<iq type='get' from='{OWN}' to='{ANNA}' id='*'><query xmlns='jabber:iq:roster'/></iq>"
    )
    play.says(f"<iq type='{type_}' from='{ANNA}' to='{OWN}' id='{request.get('id')}'>{items}</iq>")


@pytest.mark.req("L3")
def test_leaving_what_one_is_not_in_is_an_error() -> None:
    play = Play()
    tap_is_up(play)
    play.says(client_leave())
    roster_is_read(
        play,
        f"<query xmlns='jabber:iq:roster'><item jid='{BEN}'/><item jid='@'/><item/></query>",
    )
    play.hears(refused("item-not-found", "cancel", "you are not in that channel", id_="l1"))
    play.silence()
    assert not play.stored.journal


@pytest.mark.req("L3")
@pytest.mark.parametrize(
    "answer",
    [
        "",
        error("item-not-found"),
    ],
    ids=["left", "not there"],
)
def test_a_roster_item_left_over_is_cleaned(answer: str) -> None:
    play = Play()
    tap_is_up(play)
    play.says(client_leave())
    roster_is_read(play, "<query xmlns='jabber:iq:roster'><item jid='Coven@mix.example'/></query>")
    hears_leave(play)
    play.says(channel_answers(answer, id_="l1", type_="error" if answer else "result"))
    roster_is_set(play, "remove")
    play.hears("<iq type='*' from='*' to='*' id='l1'>*</iq>" if answer else left())
    play.silence()
    assert not play.stored.journal


@pytest.mark.req("L3")
@pytest.mark.parametrize("failure", ["error", "empty", "silence"])
def test_a_roster_that_cannot_be_read_is_told_of(failure: str) -> None:
    play = Play()
    tap_is_up(play)
    play.says(client_leave())
    if failure == "silence":
        play.hears(
            f"<iq type='get' from='{OWN}' to='{ANNA}' id='*'><query xmlns='jabber:iq:roster'/></iq>"
        )
        play.waits(31)
    else:
        content = error("item-not-found") if failure == "error" else ""
        roster_is_read(play, content, "error" if failure == "error" else "result")
    text = "the roster cannot be read right now"
    play.hears(refused("internal-server-error", "wait", text, id_="l1"))
    play.silence()


def test_a_roster_that_refuses_does_not_keep_the_member(play: Play) -> None:
    play.says(client_leave())
    hears_leave(play)
    play.says(channel_answers("", id_="l1"))
    roster_is_set(play, "remove", answer=error("not-allowed"))
    play.hears(left())
    play.silence()
    assert play.reported("roster-refused")
    assert not play.members()


@pytest.mark.req("L4")
def test_a_kick_ends_the_membership_and_devices_are_told(play: Play) -> None:
    play.says(kick())
    play.hears(kick(to=PHONE))
    roster_is_set(play, "remove")
    play.silence()
    assert not play.members()
    assert not play.stored.journal
    assert play.reported("kicked")


@pytest.mark.req("L4")
@pytest.mark.abuse(7)
@pytest.mark.parametrize(
    "event",
    [
        kick("456"),
        kick(""),
        kick(node="messages"),
        kick(sender=f"123#{COVEN}"),
        kick(sender=f"{COVEN}/123"),
        kick().replace("<retract", "<item").replace("/></items>", "/><x>retract</x></items>"),
        kick().replace("<event", "<x").replace("</event", "</x"),
    ],
    ids=["somebody else", "nobody", "node", "participant", "full", "no retract", "no event"],
)
def test_what_looks_like_a_kick_is_only_passed_on(play: Play, event: str) -> None:
    play.says(event)
    play.hears(event.replace(f"to='{ANNA}'", f"to='{PHONE}'"))
    play.silence()
    assert play.members() == {COVEN: "123"}


@pytest.mark.abuse(7)
def test_a_kick_by_another_channel_is_refused(play: Play) -> None:
    play.says(kick(sender=f"other@{MIX}"))
    play.hears(
        f"<message type='error' from='{ANNA}' to='other@{MIX}'>"
        f"{error('service-unavailable')}</message>"
    )
    play.silence()
    assert play.members() == {COVEN: "123"}


def push(subscription: str, *, jid: str = COVEN, sender: str = ANNA) -> str:
    return (
        f"<iq type='set' from='{sender}' to='{OWN}' id='push'><query xmlns='jabber:iq:roster'>"
        f"<item jid='{jid}' subscription='{subscription}'/></query></iq>"
    )


@pytest.mark.req("L6")
@pytest.mark.parametrize("answer", ["", "error", "silence"])
def test_removing_the_roster_item_is_leaving(play: Play, answer: str) -> None:
    play.says(push("remove"))
    id_ = asked_to_leave(play)
    assert not play.members()
    if answer == "silence":
        play.waits(31)
    else:
        content = error("item-not-found") if answer else ""
        play.says(channel_answers(content, id_=id_, type_="error" if answer else "result"))
    roster_is_set(play, "remove")
    play.silence()
    assert not play.stored.journal


@pytest.mark.req("L6")
@pytest.mark.parametrize(
    "change",
    [
        push("remove", jid=BEN),
        push("remove", jid=f"other@{MIX}"),
        push("remove", jid="@"),
        push("remove", sender=BEN),
        push("from"),
        push("both"),
    ],
    ids=["friend", "other channel", "no address", "somebody else's", "as it is", "more"],
)
def test_other_changes_of_the_roster_are_none_of_ours(play: Play, change: str) -> None:
    play.says(change)
    play.silence()
    assert play.members() == {COVEN: "123"}


@pytest.mark.req("L1", "L6")
def test_the_pushes_of_our_own_changes_do_not_come_back_at_us(play: Play) -> None:
    play.says(client_leave())
    hears_leave(play)
    play.says(channel_answers("", id_="l1"))
    request = play.hears(
        f"<iq type='set' from='{OWN}' to='{ANNA}' id='*'><query xmlns='jabber:iq:roster'>"
        f"<item jid='{COVEN}' subscription='remove'/></query></iq>"
    )
    play.says(push("remove"))
    play.silence()
    play.says(f"<iq type='result' from='{ANNA}' to='{OWN}' id='{request.get('id')}'/>")
    play.hears(left())
    play.silence()


@pytest.mark.req("L5")
@pytest.mark.abuse(29)
def test_an_account_that_is_removed_leaves_everything(play: Play) -> None:
    play.says(removed())
    id_ = asked_to_leave(play)
    assert not play.members()
    play.says(channel_answers("", id_=id_))
    roster_is_set(play, "remove", answer=error("item-not-found"))
    play.silence()
    assert not play.stored.journal
    # Registered again, it is in no channel.
    play.says(f"<message type='groupchat' from='{COVEN}' to='{ANNA}' id='m'/>")
    play.hears(
        f"<message type='error' from='{ANNA}' to='{COVEN}' id='m'>"
        f"{error('service-unavailable')}</message>"
    )


@pytest.mark.abuse(10)
@pytest.mark.parametrize(
    "event",
    [
        removed(sender="evil.example"),
        removed(sender="anna@example.org"),
        removed(sender="example.org/x"),
        removed(sender="example.net"),
        removed("example.org"),
        removed("@"),
    ],
    ids=["stranger", "user", "full", "other domain", "no user", "no address"],
)
def test_only_the_tap_of_the_domain_removes_its_users(play: Play, event: str) -> None:
    play.says(event)
    assert play.members() == {COVEN: "123"}


@pytest.mark.req("L1")
def test_a_second_leave_waits_and_finds_nothing_to_leave(play: Play) -> None:
    play.says(client_leave())
    hears_leave(play)
    play.says(client_leave(device=LAPTOP, id_="l2"))
    play.says(channel_answers("", id_="l1"))
    roster_is_set(play, "remove")
    play.hears(left())
    roster_is_read(play, "<query xmlns='jabber:iq:roster'/>")
    text = "you are not in that channel"
    play.hears(refused("item-not-found", "cancel", text, device=LAPTOP, id_="l2"))
    play.silence()


def asks_again(play: Play) -> None:
    play.says(client_join(id_="j2"))
    asked_to_join(play, id_="j2")


@pytest.mark.req("L4")
def test_a_kick_counts_although_a_second_join_is_under_way(play: Play) -> None:
    asks_again(play)
    play.says(kick())
    play.hears(kick(to=PHONE))
    play.says(channel_answers(error("forbidden", "auth"), id_="j2", type_="error"))
    assert not play.members()


@pytest.mark.abuse(29)
def test_an_account_that_is_removed_while_joining_again_leaves_nothing(play: Play) -> None:
    asks_again(play)
    play.says(removed())
    id_ = asked_to_leave(play)
    assert not play.members()
    play.says(channel_answers(granted(), id_="j2"))
    play.silence()
    play.says(channel_answers("", id_=id_))
    roster_is_set(play, "remove", answer=error("item-not-found"))
    play.silence()
    assert not play.members()
    assert not play.stored.journal


def nothing_begun(play: Play) -> None:
    play.says(client_join())
    service_question(play)


def roster_not_read(play: Play) -> None:
    play.says(client_leave())
    play.hears(
        f"<iq type='get' from='{OWN}' to='{ANNA}' id='*'><query xmlns='jabber:iq:roster'/></iq>"
    )


def journal_not_written(play: Play) -> None:
    play.store = "sleeps"
    play.says(client_join())
    service_is_asked(play)


def waiting_for_its_turn(play: Play) -> None:
    for number in range(4):
        play.says(client_join(f"c{number}@{MIX}", id_=f"j{number}"))
    service_question(play)


def nothing_asked_of_the_channel(play: Play) -> None:
    play.says(client_join())
    id_ = service_question(play)
    play.says(removed())
    answers_disco(play, MIX, id_, CORE_1, to=ANNA)
    play.hears(f"<message from='{OWN}' to='example.org'>*</message>")


@pytest.mark.abuse(29)
@pytest.mark.parametrize(
    "reached",
    [
        nothing_begun,
        roster_not_read,
        journal_not_written,
        waiting_for_its_turn,
        nothing_asked_of_the_channel,
    ],
)
def test_what_an_account_asked_for_and_the_channel_has_not_heard_of_comes_to_nothing(
    reached: Callable[[Play], None],
) -> None:
    play = Play(max_pending=3)
    tap_is_up(play)
    reached(play)
    play.says(removed())
    play.store_wakes()
    play.waits(70)
    play.silence()
    assert not play.members()
    assert not play.stored.journal
    assert not play.core.mirror.rows


def in_time(play: Play) -> None:
    asks_to_join(play)


def late(play: Play) -> None:
    asks_to_join(play)
    play.waits(31)
    play.hears(refused("remote-server-timeout", "wait", f"{MIX} did not answer"))


def storing(play: Play) -> None:
    asks_to_join(play)
    play.store = "sleeps"
    play.says(channel_answers(granted()))


def entering(play: Play) -> None:
    asks_to_join(play)
    play.says(channel_answers(granted()))
    play.hears(f"<iq type='set' from='{OWN}' to='{ANNA}' id='*'>*</iq>")


@pytest.mark.abuse(29)
@pytest.mark.req("L5")
@pytest.mark.parametrize("reached", [in_time, late, storing, entering])
def test_the_heir_of_an_account_that_was_joining_is_in_nothing(
    reached: Callable[[Play], None],
) -> None:
    play = Play()
    tap_is_up(play)
    reached(play)
    play.says(removed())
    play.store_wakes()
    id_ = asked_to_leave(play)
    play.silence()
    # Registered anew, it asks for the same channel: that waits.
    play.says(client_join(id_="h1"))
    play.says(channel_answers(granted()))
    play.silence()
    assert not play.members()
    play.says(channel_answers("", id_=id_))
    roster_is_set(play, "remove")
    asked_to_join(play, id_="h1")
    play.says(channel_answers(granted("456"), id_="h1"))
    roster_is_set(play)
    play.hears(joined(id_="h1", participant_id="456"))
    play.silence()
    assert play.members() == {COVEN: "456"}
    assert not play.stored.journal


def test_a_leave_of_an_account_that_is_removed_before_it_is_stored(play: Play) -> None:
    play.store = "sleeps"
    play.says(
        f"<iq type='set' from='{ANNA}' to='{OWN}' id='r'><query xmlns='jabber:iq:roster'>"
        f"<item jid='{COVEN}' subscription='remove'/></query></iq>"
    )
    play.silence()
    play.says(
        f"<message from='example.org' to='{OWN}'><user-removed xmlns='mixpam:tap:1' jid='{ANNA}'/>"
        "</message>"
    )
    play.store_wakes()
    asked_to_leave(play)
    play.silence()
    assert not play.members()
