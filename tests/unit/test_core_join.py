"""Joining a channel (XEP-0405 §5.6): the straight way, and each way it can go wrong."""

import pytest
from driver import ANNA, CORE_0, CORE_1, COVEN, LAPTOP, MIX, OWN, PAM_0, PAM_1, PAM_2, PHONE, Play
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

from schemas.records import MembershipRecord


@pytest.fixture
def play() -> Play:
    made = Play()
    tap_is_up(made)
    return made


@pytest.mark.req("J1", "J2", "R1", "N1")
def test_a_join_goes_to_channel_roster_and_client_in_that_order(play: Play) -> None:
    asks_to_join(play)
    assert play.stored.journal
    play.says(channel_answers(granted()))
    roster_is_set(play)
    play.hears(joined())
    play.silence()
    assert play.members() == {COVEN: "123"}
    assert not play.stored.journal


@pytest.mark.req("J1", "J2", "N1", "N2", "N3")
@pytest.mark.parametrize("answered_in", [CORE_0, CORE_1])
@pytest.mark.parametrize(("pam", "core"), [(PAM_0, CORE_0), (PAM_1, CORE_0), (PAM_2, CORE_1)])
@pytest.mark.parametrize("id_", ["id='123'", f"jid='123#{COVEN}'"])
def test_each_client_is_answered_in_its_own_versions(
    play: Play, pam: str, core: str, answered_in: str, id_: str
) -> None:
    play.says(client_join(content="<subscribe node='a'/><x xmlns='u'>1</x>", pam=pam, core=core))
    service_is_asked(play)
    play.hears(
        f"<iq type='set' from='{ANNA}' to='{COVEN}' id='j1'><join xmlns='{core}'>"
        f"<subscribe node='a'/><x xmlns='u'>1</x></join></iq>"
    )
    play.says(
        channel_answers(
            f"<join xmlns='{answered_in}' {id_}><subscribe node='a'/><nick>N</nick>"
            f"<x xmlns='u'>2</x></join>"
        )
    )
    roster_is_set(play)
    play.hears(
        f"<iq type='result' from='{ANNA}' to='{PHONE}' id='j1'><client-join xmlns='{pam}'>"
        f"<join xmlns='{core}' id='123' jid='123#{COVEN}'><subscribe node='a'/><nick>N</nick>"
        f"<x xmlns='u'>2</x></join></client-join></iq>"
    )
    play.silence()


@pytest.mark.req("J3")
def test_what_the_channel_does_not_grant_is_not_promised(play: Play) -> None:
    play.says(client_join(content="<subscribe node='a'/><subscribe node='b'/><nick>N</nick>"))
    service_is_asked(play)
    play.hears(
        f"<iq type='set' from='{ANNA}' to='{COVEN}' id='j1'><join xmlns='{CORE_1}'>"
        f"<subscribe node='a'/><subscribe node='b'/><nick>N</nick></join></iq>"
    )
    play.says(channel_answers(granted(content="<subscribe node='b'/>")))
    roster_is_set(play)
    play.hears(
        f"<iq type='result' from='{ANNA}' to='{PHONE}' id='j1'><client-join xmlns='{PAM_2}'>"
        f"<join xmlns='{CORE_1}' id='123' jid='123#{COVEN}'><subscribe node='b'/></join>"
        f"</client-join></iq>"
    )
    (record,) = play.stored.memberships.values()
    assert (record.nodes, record.nick) == (["b"], None)


@pytest.mark.req("R1", "R6")
@pytest.mark.parametrize(
    ("asked", "answered", "subscription"),
    [
        ("", "", "from"),
        ("not share", "", "none"),
        ("share", "not share", "none"),
        ("not share", "share", "none"),
    ],
)
def test_the_roster_tells_whether_presence_is_shared(
    play: Play, asked: str, answered: str, subscription: str
) -> None:
    def preference(value: str) -> str:
        if not value:
            return "<x xmlns='u'/>"
        return (
            "<user-preference xmlns='urn:xmpp:mix:anon:0'><x xmlns='jabber:x:data'>"
            f"<field var='Presence'><value>{value}</value></field></x></user-preference>"
        )

    play.says(client_join(content=preference(asked)))
    service_is_asked(play)
    play.hears(
        f"<iq type='set' from='{ANNA}' to='{COVEN}' id='j1'>"
        f"<join xmlns='{CORE_1}'>{preference(asked)}</join></iq>"
    )
    play.says(channel_answers(granted(content=preference(answered))))
    roster_is_set(play, subscription)


@pytest.mark.req("J4")
def test_the_channels_error_reaches_the_client_as_it_is(play: Play) -> None:
    asks_to_join(play)
    why = error("registration-required", "auth", "members only, é&amp;")
    play.says(channel_answers(why, type_="error"))
    play.hears(f"<iq type='error' from='{ANNA}' to='{PHONE}' id='j1'>{why}</iq>")
    play.silence()
    assert not play.members()
    assert not play.stored.journal


@pytest.mark.req("J4")
def test_an_error_without_a_word_is_given_one(play: Play) -> None:
    asks_to_join(play)
    play.says(channel_answers("", type_="error"))
    play.hears(refused("undefined-condition", "cancel"))
    play.silence()


@pytest.mark.req("J5")
@pytest.mark.abuse(6)
def test_a_channel_that_does_not_answer_is_told_of_and_a_late_answer_undone(play: Play) -> None:
    asks_to_join(play)
    play.waits(29)
    play.silence()
    play.waits(2)
    play.hears(refused("remote-server-timeout", "wait", f"{MIX} did not answer"))
    play.silence()
    play.says(channel_answers(granted()))
    id_ = asked_to_leave(play)
    play.says(channel_answers(f"<leave xmlns='{CORE_1}'/>", id_=id_))
    roster_is_set(play, "remove")
    play.silence()
    assert not play.members()
    assert not play.stored.journal


@pytest.mark.req("J5")
@pytest.mark.parametrize("late", ["nothing", "error"])
def test_where_nothing_happened_nothing_is_undone(play: Play, late: str) -> None:
    asks_to_join(play)
    play.waits(31)
    play.hears(refused("remote-server-timeout", "wait", f"{MIX} did not answer"))
    assert play.stored.journal
    if late == "error":
        play.says(channel_answers(error("forbidden"), type_="error"))
    else:
        play.waits(601)
    play.silence()
    assert not play.stored.journal


@pytest.mark.req("J5")
def test_a_late_answer_is_nobodys_when_the_user_is_at_it_again(play: Play) -> None:
    asks_to_join(play)
    play.waits(31)
    play.hears(refused("remote-server-timeout", "wait", f"{MIX} did not answer"))
    play.says(client_join(id_="j2"))
    asked_to_join(play, id_="j2")
    play.says(channel_answers(granted("1"), id_="j1"))
    play.silence()
    play.says(channel_answers(granted("2"), id_="j2"))
    roster_is_set(play)
    play.hears(joined(id_="j2", participant_id="2"))
    assert play.members() == {COVEN: "2"}
    assert not play.stored.journal


@pytest.mark.req("J7")
def test_joining_again_updates_what_is_known() -> None:
    play = Play()
    in_the_coven(play)
    play.says(client_join(id_="j2"))
    asked_to_join(play, id_="j2")
    play.says(channel_answers(granted("456"), id_="j2"))
    roster_is_set(play)
    play.hears(joined(id_="j2", participant_id="456"))
    play.silence()
    assert play.members() == {COVEN: "456"}


@pytest.mark.req("J7")
@pytest.mark.parametrize("failure", ["error", "unusable", "silence"])
def test_joining_again_in_vain_changes_nothing(failure: str) -> None:
    play = Play()
    in_the_coven(play)
    play.says(client_join(id_="j2"))
    asked_to_join(play, id_="j2")
    if failure == "error":
        play.says(channel_answers(error("conflict"), type_="error", id_="j2"))
        play.hears(refused("conflict", "cancel", id_="j2"))
    elif failure == "unusable":
        play.says(channel_answers(granted("a/b"), id_="j2"))
        text = "the channel gave no usable participant id"
        play.hears(refused("undefined-condition", "cancel", text, id_="j2"))
    else:
        play.waits(31)
        play.hears(refused("remote-server-timeout", "wait", f"{MIX} did not answer", id_="j2"))
        play.waits(601)
    play.silence()
    assert play.members() == {COVEN: "123"}
    assert not play.stored.journal


@pytest.mark.req("J5", "J7")
def test_a_late_answer_to_joining_again_is_followed() -> None:
    play = Play()
    in_the_coven(play)
    play.says(client_join(id_="j2"))
    asked_to_join(play, id_="j2")
    play.waits(31)
    play.hears(refused("remote-server-timeout", "wait", f"{MIX} did not answer", id_="j2"))
    play.says(channel_answers(granted("456"), id_="j2"))
    roster_is_set(play)
    play.silence()
    assert play.members() == {COVEN: "456"}
    assert not play.stored.journal


@pytest.mark.req("J8")
def test_two_devices_join_at_once_and_both_are_answered(play: Play) -> None:
    asks_to_join(play)
    play.says(client_join(device=LAPTOP, id_="j2"))
    play.silence()
    play.says(channel_answers(granted()))
    roster_is_set(play)
    play.hears(joined())
    asked_to_join(play, id_="j2")
    play.says(channel_answers(granted(), id_="j2"))
    roster_is_set(play)
    play.hears(joined(device=LAPTOP, id_="j2"))
    play.silence()
    assert play.members() == {COVEN: "123"}


@pytest.mark.req("J8")
def test_what_is_asked_meanwhile_is_done_in_turn(play: Play) -> None:
    asks_to_join(play)
    play.says(client_leave())
    play.says(client_join(device=LAPTOP, id_="j2"))
    play.says(channel_answers(granted()))
    roster_is_set(play)
    play.hears(joined())
    play.hears(f"<iq type='set' from='{ANNA}' to='{COVEN}' id='l1'><leave xmlns='{CORE_1}'/></iq>")
    play.says(channel_answers(f"<leave xmlns='{CORE_1}'/>", id_="l1"))
    roster_is_set(play, "remove")
    play.hears(
        f"<iq type='result' from='{ANNA}' to='{PHONE}' id='l1'>"
        f"<client-leave xmlns='{PAM_2}'><leave xmlns='{CORE_1}'/></client-leave></iq>"
    )
    asked_to_join(play, id_="j2")
    play.says(channel_answers(granted("456"), id_="j2"))
    roster_is_set(play)
    play.hears(joined(device=LAPTOP, id_="j2", participant_id="456"))
    play.silence()
    assert play.members() == {COVEN: "456"}


@pytest.mark.req("J9")
@pytest.mark.abuse(6)
@pytest.mark.parametrize(
    "answer",
    [
        granted(""),
        granted("a#b"),
        granted("a@b"),
        granted("a/b"),
        granted("x" * 1024),
        f"<join xmlns='{CORE_1}'/>",
        f"<join xmlns='{CORE_1}' id='1'><subscribe/></join>",
        "<x xmlns='u'/>",
        "",
    ],
    ids=["empty", "hash", "at", "slash", "long", "none", "not a join", "other", "nothing"],
)
def test_an_unusable_answer_is_an_error_and_undone(play: Play, answer: str) -> None:
    asks_to_join(play)
    play.says(channel_answers(answer))
    text = "the channel gave no usable participant id"
    play.hears(refused("undefined-condition", "cancel", text))
    id_ = asked_to_leave(play)
    play.says(channel_answers("", id_=id_))
    roster_is_set(play, "remove")
    play.silence()
    assert not play.members()
    assert not play.stored.journal


@pytest.mark.abuse(5, 6)
@pytest.mark.parametrize(
    "answer",
    [
        channel_answers(granted(), channel=f"other@{MIX}"),
        channel_answers(granted(), channel=f"{COVEN}/123"),
        channel_answers(granted(), channel=MIX),
        channel_answers(granted(), user="ben@example.org"),
        channel_answers(granted(), id_="j2"),
        channel_answers(error("forbidden"), type_="error", channel="coven@evil.example"),
        f"<iq type='result' from='{COVEN}' to='{ANNA}'>{granted()}</iq>",
        f"<iq type='result' from='{COVEN}' to='{OWN}' id='j1'>{granted()}</iq>",
    ],
    ids=["channel", "full", "service", "user", "id", "elsewhere", "without id", "to us"],
)
def test_an_answer_counts_only_if_it_was_asked_for(play: Play, answer: str) -> None:
    asks_to_join(play)
    play.says(answer)
    play.silence()
    assert play.dropped("unasked-answer") == 1
    assert not play.members()
    play.says(channel_answers(granted()))
    roster_is_set(play)
    play.hears(joined())
    play.says(channel_answers(granted()))
    play.silence()
    assert play.dropped("unasked-answer") == 2


@pytest.mark.req("R1")
def test_a_roster_that_refuses_undoes_the_join(play: Play) -> None:
    asks_to_join(play)
    play.says(channel_answers(granted()))
    roster_is_set(play, answer=error("item-not-found"))
    play.hears(refused("item-not-found", "cancel"))
    id_ = asked_to_leave(play)
    play.says(channel_answers("", id_=id_))
    roster_is_set(play, "remove")
    play.silence()
    assert not play.members()
    assert not play.stored.journal


def test_a_roster_that_does_not_answer_undoes_the_join(play: Play) -> None:
    asks_to_join(play)
    play.says(channel_answers(granted()))
    play.hears(
        f"<iq type='set' from='{OWN}' to='{ANNA}' id='*'><query xmlns='jabber:iq:roster'>"
        f"<item jid='{COVEN}' subscription='from'/></query></iq>"
    )
    play.waits(31)
    play.hears(refused("internal-server-error", "wait", "the roster did not answer"))
    asked_to_leave(play)
    assert not play.members()


def test_a_roster_error_without_a_word_is_given_one(play: Play) -> None:
    asks_to_join(play)
    play.says(channel_answers(granted()))
    roster_is_set(play, answer="<x xmlns='u'/>")
    play.hears(refused("internal-server-error", "cancel"))
    asked_to_leave(play)


@pytest.mark.req("J7")
def test_a_roster_that_refuses_a_second_join_does_not_end_the_membership() -> None:
    play = Play()
    in_the_coven(play)
    play.says(client_join(id_="j2"))
    asked_to_join(play, id_="j2")
    play.says(channel_answers(granted("456"), id_="j2"))
    roster_is_set(play, answer=error("not-allowed"))
    play.hears(joined(id_="j2", participant_id="456"))
    play.silence()
    assert play.reported("roster-refused")
    assert play.members() == {COVEN: "456"}


@pytest.mark.abuse(14)
def test_ids_nicks_and_nodes_of_all_channels_are_bounded_together() -> None:
    play = Play()
    tap_is_up(play)
    nodes = [f"{number}{900 * 'x'}" for number in range(4)]
    for number in range(300):
        record = MembershipRecord(
            channel=f"c{number}@mix.example", participant_id="1", nick=900 * "n", nodes=nodes
        )
        play.core.load_memberships(ANNA, [record])
    play.says(client_join())
    assert play.hears_anything().get("type") == "error"
    play.silence()
