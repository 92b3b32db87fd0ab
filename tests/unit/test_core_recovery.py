"""Stores that fail, links that are cut, processes that die: between any two steps."""

from collections.abc import Callable

import pytest
from driver import ANNA, COVEN, MIX, PHONE, Play
from scenes import (
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
    refused,
    roster_is_set,
    service_is_asked,
    tap_is_up,
)

AWAY = "memberships cannot be changed right now; try again later"


@pytest.fixture
def play() -> Play:
    made = Play()
    tap_is_up(made)
    return made


def store_error(id_: str = "j1") -> str:
    return refused("internal-server-error", "wait", AWAY, id_=id_)


# -- a store that fails ----------------------------------------------------------------------


@pytest.mark.abuse(22)
def test_without_a_store_no_join_begins(play: Play) -> None:
    play.store = "fails"
    play.says(client_join())
    service_is_asked(play)
    play.hears(store_error())
    play.silence()
    play.store = "works"
    play.says(client_join(id_="j2"))
    asked_to_join(play, id_="j2")


@pytest.mark.abuse(22)
def test_without_a_store_no_leave_begins() -> None:
    play = Play()
    in_the_coven(play)
    play.store = "fails"
    play.says(client_leave())
    play.hears(store_error("l1"))
    play.silence()
    assert play.members() == {COVEN: "123"}
    assert not play.stored.journal


@pytest.mark.abuse(22)
def test_a_join_that_cannot_be_stored_is_undone(play: Play) -> None:
    asks_to_join(play)
    play.store = "fails"
    play.says(channel_answers(granted()))
    play.hears(store_error())
    id_ = asked_to_leave(play)
    play.store = "works"
    play.says(channel_answers("", id_=id_))
    roster_is_set(play, "remove")
    play.silence()
    assert not play.members()
    assert not play.stored.journal


@pytest.mark.abuse(22)
def test_joining_again_that_cannot_be_stored_leaves_what_was() -> None:
    play = Play()
    in_the_coven(play)
    play.says(client_join(id_="j2"))
    asked_to_join(play, id_="j2")
    play.store = "fails"
    play.says(channel_answers(granted("456"), id_="j2"))
    play.hears(store_error("j2"))
    play.silence()
    assert play.members() == {COVEN: "123"}
    assert not play.stored.journal


@pytest.mark.abuse(22)
def test_a_leave_goes_on_when_the_store_fails_half_way() -> None:
    play = Play()
    in_the_coven(play)
    play.says(client_leave())
    play.hears(f"<iq type='set' from='{ANNA}' to='{COVEN}' id='l1'>*</iq>")
    play.store = "fails"
    play.says(channel_answers("", id_="l1"))
    roster_is_set(play, "remove")
    play.hears(f"<iq type='result' from='{ANNA}' to='{PHONE}' id='l1'>*</iq>")
    play.silence()
    assert not play.members()
    assert not play.stored.journal


@pytest.mark.abuse(22)
def test_nothing_is_asked_before_the_journal_has_it(play: Play) -> None:
    play.store = "sleeps"
    play.says(client_join())
    service_is_asked(play)
    play.silence()
    play.store_wakes()
    asked_to_join(play)
    play.store = "sleeps"
    play.says(channel_answers(granted()))
    play.silence()
    play.store_wakes()
    roster_is_set(play)
    play.hears(joined())


# -- a process that dies -----------------------------------------------------------------------


def no_more(play: Play) -> None:
    """Check that everything is settled, and that a third process finds nothing to do."""
    play.silence()
    assert not play.stored.journal
    again = play.dies()
    tap_is_up(again, services=MIX if again.stored.memberships else "")
    again.silence()


def after_asking(play: Play) -> None:
    asks_to_join(play)


def after_storing(play: Play) -> None:
    after_asking(play)
    play.says(channel_answers(granted()))


def while_storing(play: Play) -> None:
    after_asking(play)
    play.store = "sleeps"
    play.says(channel_answers(granted()))
    play.store_wakes()


ENDS: dict[str, Callable[[Play], Play]] = {
    "process": lambda play: play.dies(),
    "link": lambda play: play.link_is_cut() or play,  # type: ignore[func-returns-value]
}


@pytest.mark.abuse(24)
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("answer", ["", error("item-not-found")], ids=["left", "was not there"])
def test_a_join_cut_off_before_its_answer_is_undone(
    play: Play, end: Callable[[Play], Play], answer: str
) -> None:
    after_asking(play)
    play = end(play)
    # Nobody is in a channel of the service: it is on no list, and the answer's id must do.
    tap_is_up(play)
    id_ = asked_to_leave(play)
    assert id_.startswith("mixpam:")
    play.says(channel_answers(answer, id_=id_, type_="error" if answer else "result"))
    roster_is_set(play, "remove")
    assert not play.members()
    assert play.reported("journal-recovered")
    no_more(play)


@pytest.mark.abuse(24, 25)
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("reached", [after_storing, while_storing])
def test_a_join_cut_off_before_its_roster_is_finished(
    play: Play, reached: Callable[[Play], None], end: Callable[[Play], Play]
) -> None:
    reached(play)
    play = end(play)
    tap_is_up(play, services=MIX)
    roster_is_set(play)
    assert play.members() == {COVEN: "123"}
    no_more(play)


@pytest.mark.abuse(24)
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_joining_again_cut_off_before_its_answer_leaves_what_was(
    end: Callable[[Play], Play],
) -> None:
    play = Play()
    in_the_coven(play)
    play.says(client_join(id_="j2"))
    asked_to_join(play, id_="j2")
    play = end(play)
    tap_is_up(play, services=MIX)
    assert play.members() == {COVEN: "123"}
    no_more(play)


@pytest.mark.abuse(24)
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_leave_cut_off_before_its_answer_is_asked_again(end: Callable[[Play], Play]) -> None:
    play = Play()
    in_the_coven(play)
    play.says(client_leave())
    play.hears(f"<iq type='set' from='{ANNA}' to='{COVEN}' id='l1'>*</iq>")
    play = end(play)
    tap_is_up(play, services=MIX)
    id_ = asked_to_leave(play)
    play.says(channel_answers("", id_=id_))
    roster_is_set(play, "remove")
    assert not play.members()
    no_more(play)


@pytest.mark.abuse(24)
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_leave_cut_off_before_its_roster_is_finished(end: Callable[[Play], Play]) -> None:
    play = Play()
    in_the_coven(play)
    play.says(client_leave())
    play.hears(f"<iq type='set' from='{ANNA}' to='{COVEN}' id='l1'>*</iq>")
    play.says(channel_answers("", id_="l1"))
    play = end(play)
    tap_is_up(play)
    roster_is_set(play, "remove")
    assert not play.members()
    no_more(play)


@pytest.mark.abuse(24)
def test_what_fails_in_recovery_is_kept_for_the_next_time(play: Play) -> None:
    after_asking(play)
    play = play.dies()
    tap_is_up(play)
    asked_to_leave(play)
    play.waits(31)
    play.silence()
    assert play.stored.journal
    again = play.dies()
    tap_is_up(again)
    id_ = asked_to_leave(again)
    again.says(channel_answers(error("internal-server-error", "wait"), id_=id_, type_="error"))
    again.silence()


def test_only_the_taps_own_users_are_recovered(play: Play) -> None:
    after_asking(play)
    play = play.dies()
    play.says(
        "<message from='example.net' to='mixpam.example.org'>"
        "<hello xmlns='mixpam:tap:1' version='1'/></message>"
    )
    play.hears("<message from='mixpam.example.org' to='example.net'>*</message>")
    play.silence()
    tap_is_up(play)
    asked_to_leave(play)


def test_a_second_hello_does_not_start_recovery_twice(play: Play) -> None:
    after_asking(play)
    play = play.dies()
    tap_is_up(play)
    asked_to_leave(play)
    tap_is_up(play)
    play.silence()


@pytest.mark.abuse(25)
def test_answers_do_not_outlive_the_link(play: Play) -> None:
    after_asking(play)
    play.link_is_cut()
    play.says(channel_answers(granted()))
    play.silence()
    assert play.dropped("unasked-answer") == 1
    assert play.core.next_deadline is None


@pytest.mark.abuse(22, 24)
def test_a_slow_store_does_not_revive_what_the_link_took_along(play: Play) -> None:
    play.store = "sleeps"
    play.says(client_join())
    service_is_asked(play)
    play.link_is_cut()
    tap_is_up(play)
    asked_to_leave(play)
    play.store_wakes()
    # The tap has told the client that the join has failed, and the leave is on its way.
    play.silence()


@pytest.mark.abuse(24)
def test_many_cuts_leave_nothing_behind(play: Play) -> None:
    for number in range(50):
        play.says(client_join(id_=f"j{number}"))
        play.link_is_cut()
    assert not play.core.mirror.rows
    assert play.core.next_deadline is None


def test_a_store_that_has_lost_all_gets_all_back() -> None:
    play = Play()
    in_the_coven(play, PHONE)
    play.says(client_join(channel=f"other@{MIX}", id_="j2"))
    held = play.core.remembered
    users = held.users()
    assert users == [ANNA]
    kinds = {type(each).__name__ for user in users for each in held.of_user(user)}
    assert kinds == {"PutMembership", "PutJournal", "PutShown"}
    assert held.of_user("nobody@example.org") == []
