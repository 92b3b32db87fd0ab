"""Requests that are wrong, too many, or about what is no MIX service: told in words."""

import pytest
from driver import (
    ANNA,
    BEN,
    CORE_0,
    CORE_1,
    COVEN,
    MIX,
    OWN,
    PAM_0,
    PAM_1,
    PAM_2,
    PHONE,
    STANZAS,
    Play,
)
from scenes import (
    answers_disco,
    asked_to_join,
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
    service_question,
    tap_is_up,
)


@pytest.fixture
def play() -> Play:
    made = Play()
    tap_is_up(made)
    return made


JOIN = f"<join xmlns='{CORE_1}'/>"
JOIN_0 = f"<join xmlns='{CORE_0}'/>"
LEAVE = f"<leave xmlns='{CORE_1}'/>"


def request(content: str, *, pam: str = PAM_2, channel: str = f"channel='{COVEN}'") -> str:
    return f"<client-join xmlns='{pam}' {channel}>{content}</client-join>"


WRONG = {
    "no channel": (request(JOIN, channel=""), "bad-request", "modify", "'channel' is missing"),
    "empty channel": (request(JOIN, channel="channel=''"), "bad-request", "modify", "is missing"),
    "two @": (request(JOIN, channel="channel='a@b@c'"), "jid-malformed", "modify", "one @"),
    "resource": (request(JOIN, channel="channel='a@b/c'"), "jid-malformed", "modify", "name@"),
    "no name": (request(JOIN, channel="channel='b'"), "jid-malformed", "modify", "name@service"),
    "own server": (
        request(JOIN, channel="channel='ben@example.org'"),
        "item-not-found",
        "cancel",
        "example.org is no MIX service",
    ),
    "own component": (
        request(JOIN, channel=f"channel='x@{OWN}'"),
        "item-not-found",
        "cancel",
        "no MIX service",
    ),
    "no join": (request(""), "bad-request", "modify", "exactly one"),
    "two joins": (request(JOIN * 2), "bad-request", "modify", "exactly one"),
    "leave in a join": (request(LEAVE), "bad-request", "modify", "exactly one"),
    "join of no namespace": (request("<join xmlns=''/>"), "bad-request", "modify", "exactly one"),
    "core 0 in pam 2": (request(JOIN_0), "bad-request", "modify", "goes with"),
    "core 1 in pam 0": (request(JOIN, pam=PAM_0), "bad-request", "modify", "goes with"),
    "core 1 in pam 1": (request(JOIN, pam=PAM_1), "bad-request", "modify", "goes with"),
    "other core inside": (
        request(f"<join xmlns='{CORE_1}'><subscribe xmlns='{CORE_0}' node='a'/></join>"),
        "bad-request",
        "modify",
        "mixes",
    ),
    "subscription to nothing": (
        request(f"<join xmlns='{CORE_1}'><subscribe/></join>"),
        "bad-request",
        "modify",
        "not as XEP-0369 says",
    ),
    "text in the request": (request("text"), "bad-request", "modify", ""),
    "something else": (f"<x xmlns='{PAM_2}'/>", "bad-request", "modify", "neither"),
}


@pytest.mark.req("J6")
@pytest.mark.abuse(13)
@pytest.mark.parametrize(("content", "condition", "type_", "text"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_told_what_is_wrong(
    play: Play, content: str, condition: str, type_: str, text: str
) -> None:
    play.says(f"<iq type='set' from='{PHONE}' to='{ANNA}' id='j1'>{content}</iq>")
    answer = play.hears(refused(condition, type_, "*"))
    said = answer.findtext(f".//{{{STANZAS}}}text")
    assert said
    assert text in said
    play.silence()
    assert not play.stored.journal


@pytest.mark.req("J6")
@pytest.mark.abuse(12)
def test_nobody_does_it_for_somebody_else(play: Play) -> None:
    for sender in (f"{BEN}/r", "anna@evil.example/r", "ben@example.net/phone"):
        play.says(f"<iq type='set' from='{sender}' to='{ANNA}' id='j1'>{request(JOIN)}</iq>")
        text = "only your own session may do this for you"
        play.hears(
            f"<iq type='error' from='{ANNA}' to='{sender}' id='j1'>"
            f"{error('forbidden', 'auth', text)}</iq>"
        )
    play.silence()


@pytest.mark.req("J6")
def test_reading_is_not_implemented(play: Play) -> None:
    play.says(f"<iq type='get' from='{PHONE}' to='{ANNA}' id='j1'>{request(JOIN)}</iq>")
    text = "joining and leaving take type='set'"
    play.hears(refused("feature-not-implemented", "cancel", text))


@pytest.mark.abuse(13)
@pytest.mark.parametrize("id_", ["", " id=''", f" id='{'x' * 1025}'"])
def test_a_request_needs_a_usable_id(play: Play, id_: str) -> None:
    play.says(f"<iq type='set' from='{PHONE}' to='{ANNA}'{id_}>{request(JOIN)}</iq>")
    answer = play.hears(
        f"<iq type='error' from='{ANNA}' to='{PHONE}'{id_}>"
        f"{error('bad-request', 'modify', 'the iq has no usable id')}</iq>"
    )
    assert answer.get("id") is None or id_
    play.silence()


TOO_MANY = "too many joins and leaves at the same time"


@pytest.mark.abuse(14)
@pytest.mark.parametrize("kind", ["different", "same"])
def test_requests_that_wait_for_their_turn_are_limited_in_number(kind: str) -> None:
    play = Play(max_pending=3, join_burst=6)
    tap_is_up(play, services="")
    for number in range(10):
        play.now += 2  # no more than the rate allows
        channel = f"c{number if kind == 'different' else ''}@{MIX}"
        play.says(client_join(channel, id_=f"j{number}"))
    service_question(play)
    for number in range(9 if kind == "different" else 7, 10):
        play.hears(refused("resource-constraint", "wait", TOO_MANY, id_=f"j{number}"))
    play.silence()


@pytest.mark.abuse(14)
def test_requests_that_wait_for_their_turn_are_limited_in_bytes() -> None:
    play = Play(max_pending=1, waiting_bytes=1_000)
    tap_is_up(play)
    play.says(client_join(f"c0@{MIX}", id_="j0"))
    service_question(play)
    play.says(client_join(f"c1@{MIX}", "<x xmlns='u'>" + "y" * 500 + "</x>", id_="j1"))
    play.silence()
    play.says(client_join(f"c2@{MIX}", "<x xmlns='u'>" + "y" * 500 + "</x>", id_="j2"))
    play.hears(refused("resource-constraint", "wait", TOO_MANY, id_="j2"))
    play.says(client_join(f"c3@{MIX}", id_="j3"))
    play.silence()


@pytest.mark.abuse(14)
def test_a_request_does_not_wait_for_ever() -> None:
    play = Play(max_pending=1, channel_timeout=300)
    tap_is_up(play)
    play.says(client_join(f"c0@{MIX}", id_="j0"))
    service_question(play)
    play.says(client_join(f"c1@{MIX}", id_="j1"))
    play.waits(59)
    play.silence()
    play.waits(2)
    play.hears(refused("resource-constraint", "wait", TOO_MANY, id_="j1"))
    play.silence()


def test_a_burst_of_joins_has_its_turn_in_order() -> None:
    play = Play(max_pending=3, join_burst=20)
    tap_is_up(play)
    for number in range(20):
        play.says(client_join(f"c{number}@{MIX}", id_=f"j{number}"))
    service_is_asked(play)
    for number in range(3):
        asked_to_join(play, channel=f"c{number}@{MIX}", id_=f"j{number}")
    for number in range(20):
        channel = f"c{number}@{MIX}"
        play.silence()
        play.says(channel_answers(granted(), channel=channel, id_=f"j{number}"))
        roster_is_set(play, channel=channel)
        play.hears(joined(channel=channel, id_=f"j{number}"))
        if number < 17:
            asked_to_join(play, channel=f"c{number + 3}@{MIX}", id_=f"j{number + 3}")
    play.silence()
    assert len(play.members()) == 20


def test_what_waits_for_one_channel_keeps_no_other_waiting() -> None:
    play = Play(max_pending=3)
    in_the_coven(play)
    play.says(client_leave())
    play.hears(f"<iq type='set' from='{ANNA}' to='{COVEN}' id='l1'><leave xmlns='{CORE_1}'/></iq>")
    play.says(client_join(id_="j2"))
    play.says(client_leave(id_="l2"))
    play.says(client_join(f"a@{MIX}", id_="j3"))
    asked_to_join(play, channel=f"a@{MIX}", id_="j3")
    play.silence()


def test_who_waits_is_forgotten_with_the_link() -> None:
    play = Play(max_pending=1)
    tap_is_up(play)
    for number in range(5):
        play.says(client_join(f"c{number}@{MIX}", id_=f"j{number}"))
    play.link_is_cut()
    assert play.core.next_deadline is None
    tap_is_up(play)
    play.silence()


TOO_MANY_NODES = "subscribe: more than 100 nodes, or 4096 bytes of them"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (f"<nick>{'é' * 512}</nick>", "nick: more than 1023 bytes"),
        (f"<subscribe node='n'/><subscribe node='{'é' * 2_048}'/>", TOO_MANY_NODES),
        ("<subscribe node='n'/>" * 101, TOO_MANY_NODES),
    ],
)
@pytest.mark.abuse(13)
def test_what_is_remembered_of_a_membership_is_bounded(play: Play, content: str, text: str) -> None:
    play.says(client_join(content=content))
    said = f"&lt;join/&gt; is not as XEP-0369 says: {text}"
    play.hears(refused("bad-request", "modify", said))
    play.silence()
    # From a channel it reaches the client as it is, and is not remembered.
    play.says(client_join())
    service_is_asked(play)
    asked_to_join(play)
    play.says(channel_answers(granted(content=content)))
    roster_is_set(play)
    play.hears(f"<iq type='result' from='{ANNA}' to='{PHONE}' id='j1'>*</iq>")
    (record,) = play.stored.memberships.values()
    assert record.nick is None
    assert len(record.nodes) <= 100
    assert all(node == "n" for node in record.nodes)


@pytest.mark.abuse(14)
def test_channels_of_a_user_are_limited() -> None:
    play = Play(max_channels=2)
    in_the_coven(play)
    play.says(client_join(f"a@{MIX}", id_="j2"))
    asked_to_join(play, channel=f"a@{MIX}", id_="j2")
    play.says(client_join(f"b@{MIX}", id_="j3"))
    play.hears(refused("policy-violation", "wait", "at most 2 channels", id_="j3"))
    # Those the user is in may be joined again, and left.
    play.says(client_join(id_="j4"))
    asked_to_join(play, id_="j4")
    play.silence()


@pytest.mark.abuse(14)
def test_one_that_waited_is_refused_when_its_turn_breaks_the_limit() -> None:
    play = Play(max_channels=1)
    in_the_coven(play)
    play.says(client_leave())
    play.hears(f"<iq type='set' from='{ANNA}' to='{COVEN}' id='l1'><leave xmlns='{CORE_1}'/></iq>")
    play.says(client_join(id_="j2"))
    play.says(client_join(id_="j3"))
    play.silence()
    play.says(channel_answers("", id_="l1"))
    removal = play.hears(
        f"<iq type='set' from='{OWN}' to='{ANNA}' id='*'><query xmlns='jabber:iq:roster'>"
        f"<item jid='{COVEN}' subscription='remove'/></query></iq>"
    )
    play.says(client_join(f"a@{MIX}", id_="j9"))
    asked_to_join(play, channel=f"a@{MIX}", id_="j9")
    play.says(f"<iq type='result' from='{ANNA}' to='{OWN}' id='{removal.get('id')}'/>")
    play.hears(
        f"<iq type='result' from='{ANNA}' to='{PHONE}' id='l1'>"
        f"<client-leave xmlns='{PAM_2}'><leave xmlns='{CORE_1}'/></client-leave></iq>"
    )
    play.hears(refused("policy-violation", "wait", "at most 1 channels", id_="j2"))
    play.hears(refused("policy-violation", "wait", "at most 1 channels", id_="j3"))
    play.silence()


# -- services ------------------------------------------------------------------------------


@pytest.mark.parametrize("feature", [CORE_0, CORE_1])
def test_a_domain_is_asked_once_whether_it_is_a_service(play: Play, feature: str) -> None:
    play.says(client_join())
    play.says(client_join(f"other@{MIX}", id_="j2"))
    id_ = service_question(play)
    play.silence()
    answers_disco(play, MIX, id_, "x", feature, to=ANNA)
    play.hears(
        f"<message from='{OWN}' to='example.org'>"
        f"<services xmlns='mixpam:tap:1'><service jid='{MIX}'/></services></message>"
    )
    asked_to_join(play)
    asked_to_join(play, channel=f"other@{MIX}", id_="j2")
    play.says(client_join(f"third@{MIX}", id_="j3"))
    asked_to_join(play, channel=f"third@{MIX}", id_="j3")
    play.silence()


def test_a_domain_that_is_no_service_is_refused_and_the_tap_hears_nothing(play: Play) -> None:
    play.says(client_join())
    service_is_asked(play, MIX, "http://jabber.org/protocol/muc")
    play.hears(refused("item-not-found", "cancel", f"{MIX} is no MIX service"))
    play.silence()
    play.says(client_join())
    play.says(f"<iq type='result' from='{MIX}' to='{ANNA}' id='{service_question(play)}'/>")
    play.hears(refused("item-not-found", "cancel", f"{MIX} is no MIX service"))
    play.silence()
    assert not play.stored.journal


def test_the_error_of_a_domain_is_passed_on(play: Play) -> None:
    play.says(client_join())
    why = error("remote-server-not-found", "cancel", "no such host")
    play.says(f"<iq type='error' from='{MIX}' to='{ANNA}' id='{service_question(play)}'>{why}</iq>")
    play.hears(f"<iq type='error' from='{ANNA}' to='{PHONE}' id='j1'>{why}</iq>")
    play.silence()


def test_a_domain_that_does_not_answer_is_told_of(play: Play) -> None:
    play.says(client_join())
    service_question(play)
    play.waits(31)
    play.hears(refused("remote-server-timeout", "wait", f"{MIX} did not answer"))
    play.silence()


def test_every_tap_gets_the_whole_list_when_it_comes(play: Play) -> None:
    asks_to_join(play)
    play.says(channel_answers(granted()))
    roster_is_set(play)
    play.hears(joined())
    play.says(
        f"<message from='example.net' to='{OWN}'>"
        f"<hello xmlns='mixpam:tap:1' version='1'/></message>"
    )
    play.hears(
        f"<message from='{OWN}' to='example.net'><services xmlns='mixpam:tap:1' complete='true'>"
        f"<service jid='{MIX}'/></services></message>"
    )
    play.silence()
    again = play.dies()
    tap_is_up(again, services=MIX)


def test_a_tap_of_another_version_is_reported_and_not_used() -> None:
    play = Play()
    play.says(
        f"<message from='example.org' to='{OWN}'>"
        f"<hello xmlns='mixpam:tap:1' version='2'/></message>"
    )
    play.silence()
    assert play.reported("tap-version")


@pytest.mark.abuse(14)
def test_joining_and_leaving_all_day_is_slowed_down() -> None:
    play = Play(join_rate=0.5, join_burst=3)
    tap_is_up(play)
    for number in range(3):
        play.says(client_leave(id_=f"l{number}"))
    play.says(client_join(id_="j3"))
    play.says(client_join(id_="j4"))
    play.hears(f"<iq type='get' from='{OWN}' to='{ANNA}' id='*'>*</iq>")
    text = "too many joins and leaves; try again in 2 s"
    play.hears(refused("policy-violation", "wait", text, id_="j3"))
    play.hears(refused("policy-violation", "wait", text, id_="j4"))
    # Others are not slowed down, and after a while neither is she.
    play.says(client_join(device=f"{BEN}/b", id_="j5"))
    service_question(play, user=BEN)
    play.waits(2)
    play.says(client_join(f"other@{MIX}", id_="j6"))
    play.silence()
    play.says(client_join(f"third@{MIX}", id_="j7"))
    play.hears(refused("policy-violation", "wait", text, id_="j7"))
