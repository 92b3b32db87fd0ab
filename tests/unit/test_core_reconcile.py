"""Three views of a membership, and which of them gives way: every combination once."""

import xml.etree.ElementTree as ET

import pytest
from driver import ANNA, BEN, CORE_0, CORE_1, COVEN, MIX, OWN, PHONE, SERVER, Play, Stored
from scenes import (
    answers_disco,
    asked_to_leave,
    client_join,
    client_leave,
    comes_online,
    error,
    service_question,
    tap_is_up,
)

from component.core.checks import reconcile
from component.core.checks.findings import Finding, UserFindings
from component.core.checks.reconcile import AT_ONCE
from schemas import jid
from schemas.records import MembershipRecord

PUBSUB = "http://jabber.org/protocol/pubsub"
NODE = "urn:xmpp:mix:nodes:participants"


class Looking:
    """A play in which the operator has users looked at."""

    def __init__(self, *members: str, stored: dict[str, MembershipRecord] | None = None) -> None:
        store = Stored()
        for channel in members:
            store.memberships[ANNA, channel] = MembershipRecord(
                channel=channel, participant_id="123"
            )
        self.play = Play(store)
        tap_is_up(self.play, services=MIX if members else "")
        self.stored = stored
        self.outcome: UserFindings | None = None

    def begin(self, user: str = ANNA, *, repair: bool = True) -> None:
        """Begin to look at a user."""

        def then(outcome: UserFindings) -> None:
            assert self.outcome is None, "told twice"
            self.outcome = outcome

        core = self.play.core
        self.play._carry_out(
            core.operate(
                lambda: core.reconcile.user(
                    jid.parse(user), then, repair=repair, stored=self.stored
                ),
                self.play.now,
            )
        )

    def roster(self, *items: str) -> None:
        """Let the server give the roster."""
        asked = self.play.hears(
            f"<iq type='get' from='{OWN}' to='{ANNA}' id='*'><query xmlns='jabber:iq:roster'/></iq>"
        )
        self.play.says(
            f"<iq type='result' from='{ANNA}' to='{OWN}' id='{asked.get('id')}'>"
            f"<query xmlns='jabber:iq:roster'>{''.join(items)}</query></iq>"
        )

    def no_roster(self, condition: str) -> None:
        """Let the server refuse to give the roster."""
        asked = self.play.hears_anything()
        self.play.says(
            f"<iq type='error' from='{ANNA}' to='{OWN}' id='{asked.get('id')}'>"
            f"{error(condition)}</iq>"
        )

    def is_mix(self) -> None:
        """Let the domain say that it is a MIX service, and the tap learn of it."""
        answers_disco(self.play, MIX, service_question(self.play), CORE_1, to=ANNA)
        self.play.hears(
            f"<message from='{OWN}' to='{SERVER}'><services xmlns='mixpam:tap:1'>"
            f"<service jid='{MIX}'/></services></message>"
        )

    def question(self, channel: str = COVEN) -> ET.Element:
        """Hear the channel being asked for its participants."""
        return self.play.hears(
            f"<iq type='get' from='{ANNA}' to='{channel}' id='*'><pubsub xmlns='{PUBSUB}'>"
            f"<items node='{NODE}'/></pubsub></iq>"
        )

    def channel(self, *entries: str, channel: str = COVEN, page: str = "") -> None:
        """Let the channel tell its participants."""
        self.tells(self.question(channel), *entries, channel=channel, page=page)

    def tells(self, asked: ET.Element, *entries: str, channel: str = COVEN, page: str = "") -> None:
        """Let the channel answer a question that was heard."""
        self.play.says(
            f"<iq type='result' from='{channel}' to='{ANNA}' id='{asked.get('id')}'>"
            f"<pubsub xmlns='{PUBSUB}'><items node='{NODE}'>{''.join(entries)}</items>{page}"
            "</pubsub></iq>"
        )

    def refuses(self, condition: str) -> None:
        """Let the channel refuse."""
        asked = self.question()
        self.play.says(
            f"<iq type='error' from='{COVEN}' to='{ANNA}' id='{asked.get('id')}'>"
            f"{error(condition)}</iq>"
        )

    def rostered(self, subscription: str, user: str = ANNA) -> None:
        """Hear the roster being changed, and let that be done."""
        asked = self.play.hears(
            f"<iq type='set' from='{OWN}' to='{user}' id='*'><query xmlns='jabber:iq:roster'>"
            f"<item jid='{COVEN}' subscription='{subscription}'/></query></iq>"
        )
        self.play.says(f"<iq type='result' from='{user}' to='{OWN}' id='{asked.get('id')}'/>")

    def finding(self) -> Finding:
        """Give the one finding, when all is over."""
        self.play.silence()
        assert self.outcome is not None
        assert len(self.outcome.findings) == 1, self.outcome
        return self.outcome.findings[0]


def item(channel: str = COVEN, subscription: str = "from") -> str:
    return f"<item jid='{channel}' subscription='{subscription}'/>"


def entry(id_: str = "123", user: str | None = ANNA, core: str = CORE_1) -> str:
    told = "" if user is None else f"<jid>{user}</jid>"
    return f"<item id='{id_}'><participant xmlns='{core}'><nick>n</nick>{told}</participant></item>"


def test_all_agree() -> None:
    looking = Looking(COVEN)
    looking.begin()
    looking.roster(item())
    looking.channel(entry("9", BEN), entry())
    finding = looking.finding()
    assert (finding.verdict, finding.repairs) == ("agree", ())
    assert (finding.memory, finding.roster, finding.participant) == ("123", "from", "123")


@pytest.mark.parametrize("repair", [False, True])
def test_memory_lacks_it(repair: bool) -> None:
    looking = Looking()
    looking.begin(repair=repair)
    looking.roster(item(subscription="none"))
    looking.is_mix()
    looking.channel(entry(core=CORE_0))
    if repair:
        # The item is there, but of a member the tap learns by a set alone.
        looking.rostered("none")
    assert looking.finding().repairs == ("restore the membership",)
    assert looking.play.members() == ({COVEN: "123"} if repair else {})
    if repair:
        record = looking.play.stored.memberships[ANNA, COVEN]
        assert (record.core, record.nick, record.shares_presence) == (0, "n", False)


@pytest.mark.req("R6")
@pytest.mark.parametrize(
    ("subscription", "known", "shares"),
    [
        ("from", None, True),
        ("both", None, True),
        ("to", None, False),
        ("none", None, False),
        # Without an item, as Redis has it; the roster's word is the user's.
        ("", False, False),
        ("", True, True),
        ("none", True, False),
        ("from", False, True),
    ],
)
def test_what_is_restored_shares_no_more_than_was_agreed_to(
    subscription: str, known: bool | None, shares: bool
) -> None:
    record = MembershipRecord(channel=COVEN, participant_id="1", shares_presence=known is True)
    looking = Looking(stored={} if known is None else {COVEN: record})
    looking.begin()
    looking.roster(*([item(subscription=subscription)] if subscription else []))
    looking.is_mix()
    looking.channel(entry())
    looking.rostered("from" if shares else "none")
    looking.finding()
    assert looking.play.stored.memberships[ANNA, COVEN].shares_presence is shares


@pytest.mark.parametrize("repair", [False, True])
def test_the_participant_id_is_another(repair: bool) -> None:
    looking = Looking(COVEN)
    looking.begin(repair=repair)
    looking.roster(item())
    looking.channel(entry("456"))
    assert looking.finding().repairs == ("correct the participant id",)
    assert looking.play.members() == {COVEN: "456" if repair else "123"}


@pytest.mark.parametrize("repair", [False, True])
def test_the_roster_lacks_it(repair: bool) -> None:
    looking = Looking(COVEN)
    looking.begin(repair=repair)
    looking.roster()
    looking.channel(entry())
    if repair:
        looking.rostered("from")
    assert looking.finding().repairs == ("put the channel into the roster",)
    assert looking.play.members() == {COVEN: "123"}


@pytest.mark.parametrize("repair", [False, True])
def test_the_channel_lacks_it(repair: bool) -> None:
    looking = Looking(COVEN)
    looking.begin(repair=repair)
    looking.roster(item())
    looking.channel(entry("9", BEN))
    if repair:
        looking.rostered("remove")
    assert len(looking.finding().repairs) == 2
    assert looking.play.members() == ({} if repair else {COVEN: "123"})


def test_only_the_roster_has_it() -> None:
    looking = Looking()
    looking.begin()
    looking.roster(item())
    looking.is_mix()
    looking.channel()
    looking.rostered("remove")
    assert looking.finding().repairs == ("remove the channel from the roster",)


@pytest.mark.parametrize("repair", [False, True])
def test_redis_has_what_nobody_else_has(repair: bool) -> None:
    record = MembershipRecord(channel=COVEN, participant_id="123")
    looking = Looking(stored={COVEN: record})
    looking.play.stored.memberships[ANNA, COVEN] = record
    looking.begin(repair=repair)
    looking.roster()
    looking.is_mix()
    looking.channel()
    assert "from Redis" in looking.finding().repairs[0]
    assert ((ANNA, COVEN) in looking.play.stored.memberships) is not repair


def test_redis_alone_lacks_it() -> None:
    looking = Looking(COVEN, stored={})
    looking.play.stored.memberships.clear()
    looking.begin()
    looking.roster(item())
    looking.channel(entry())
    assert looking.finding().repairs == ("write the membership to Redis",)
    assert looking.play.members() == {COVEN: "123"}


def test_the_roster_says_what_is_shared() -> None:
    looking = Looking(COVEN)
    looking.begin()
    looking.roster(item(subscription="none"))
    looking.channel(entry())
    assert looking.finding().repairs == ("follow the roster: presence is not shared",)
    assert not looking.play.stored.memberships[ANNA, COVEN].shares_presence


def test_a_channel_that_says_twice_that_it_is_gone() -> None:
    looking = Looking(COVEN)
    looking.begin()
    looking.roster(item())
    looking.refuses("item-not-found")
    asked = looking.play.hears(
        f"<iq type='get' from='{ANNA}' to='{COVEN}' id='*'>"
        "<query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
    )
    looking.play.says(
        f"<iq type='error' from='{COVEN}' to='{ANNA}' id='{asked.get('id')}'>"
        f"{error('item-not-found')}</iq>"
    )
    looking.rostered("remove")
    assert looking.finding().verdict == "differ"
    assert looking.play.members() == {}


@pytest.mark.parametrize(
    ("entries", "page", "member"),
    [
        ((entry("9", None),), "", False),
        ((entry("9", BEN),), "<set xmlns='http://jabber.org/protocol/rsm'/>", False),
        ((entry("9", BEN),), "<set xmlns='http://jabber.org/protocol/rsm'/>", True),
    ],
    ids=["hidden", "one page, stranger", "one page, member"],
)
def test_a_list_that_proves_nothing(entries: tuple[str, ...], page: str, member: bool) -> None:
    looking = Looking(*([COVEN] if member else []))
    looking.begin()
    looking.roster(item())
    if not member:
        looking.is_mix()
    looking.channel(*entries, page=page)
    assert looking.finding().verdict == "unknown"
    assert looking.play.members() == ({COVEN: "123"} if member else {})


def test_a_hidden_id_in_use_is_proof_and_one_of_another_is_not() -> None:
    looking = Looking(COVEN)
    looking.begin()
    looking.roster(item())
    looking.channel(entry("123", None))
    assert looking.finding().verdict == "agree"
    # That very id belongs to somebody else by now.
    looking.outcome = None
    looking.begin()
    looking.roster(item())
    looking.channel(entry("123", BEN))
    looking.rostered("remove")
    assert looking.finding().verdict == "differ"


def test_a_channel_that_refuses_or_is_silent() -> None:
    looking = Looking(COVEN)
    looking.begin()
    looking.roster(item())
    looking.refuses("forbidden")
    assert "refuses" in looking.finding().why
    looking.outcome = None
    looking.begin()
    looking.roster(item())
    looking.question()
    looking.play.waits(60)
    assert "did not answer" in looking.finding().why
    assert looking.play.members() == {COVEN: "123"}


@pytest.mark.parametrize("repair", [False, True])
def test_an_account_that_is_gone(repair: bool) -> None:
    looking = Looking(COVEN)
    looking.begin(repair=repair)
    looking.no_roster("item-not-found")
    if repair:
        asked_to_leave(looking.play)
    assert "account is gone" in looking.finding().repairs[0]
    assert looking.play.members() == ({} if repair else {COVEN: "123"})


def test_a_roster_that_the_server_does_not_give() -> None:
    looking = Looking(COVEN)
    looking.begin()
    looking.no_roster("internal-server-error")
    looking.play.silence()
    assert looking.outcome is not None
    assert "does not give the roster" in looking.outcome.why
    assert looking.play.members() == {COVEN: "123"}


@pytest.mark.parametrize(
    ("condition", "info", "why"),
    [
        ("internal-server-error", "", "does not tell its participants"),
        ("item-not-found", "forbidden", "has no participants node"),
    ],
)
def test_a_channel_that_says_nothing_of_its_participants(
    condition: str, info: str, why: str
) -> None:
    looking = Looking(COVEN)
    looking.begin()
    looking.roster(item())
    looking.refuses(condition)
    if info:
        asked = looking.play.hears_anything()
        looking.play.says(
            f"<iq type='error' from='{COVEN}' to='{ANNA}' id='{asked.get('id')}'>{error(info)}</iq>"
        )
    assert why in looking.finding().why
    assert looking.play.members() == {COVEN: "123"}


def test_a_roster_that_refuses_the_channel_is_told_of() -> None:
    looking = Looking(COVEN)
    looking.begin()
    looking.roster()
    looking.channel(entry())
    asked = looking.play.hears_anything()
    looking.play.says(
        f"<iq type='error' from='{ANNA}' to='{OWN}' id='{asked.get('id')}'>"
        f"{error('not-allowed')}</iq>"
    )
    looking.play.silence()
    assert looking.play.reported("roster-refused")


def test_services_that_are_silent_are_named_and_the_others_looked_at() -> None:
    looking = Looking(COVEN)
    looking.begin()
    looking.roster(item(), item("c@a.example"), item("c@z.example"))
    for domain in ("a.example", "z.example"):
        id_ = service_question(looking.play, domain)
        why = error("remote-server-not-found")
        looking.play.says(f"<iq type='error' from='{domain}' to='{ANNA}' id='{id_}'>{why}</iq>")
    looking.channel(entry())
    assert looking.finding().verdict == "agree"
    assert looking.outcome is not None
    assert looking.outcome.silent == ("a.example", "z.example")


def test_only_so_many_domains_are_remembered_to_be_no_services(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconcile, "MOST_NO_SERVICE", 1)
    looking = Looking()
    for asked in (["a.example", "b.example"], ["b.example"]):
        looking.outcome = None
        looking.begin()
        looking.roster(item("x@a.example"), item("x@b.example"))
        for domain in asked:
            id_ = service_question(looking.play, domain)
            answers_disco(looking.play, domain, id_, "urn:example:other", to=ANNA)
        looking.play.silence()
    looking.play.waits(reconcile.NO_SERVICE_FOR)
    looking.outcome = None
    looking.begin()
    looking.roster(item("x@a.example"))
    service_question(looking.play, "a.example")


def test_a_change_under_way_is_left_alone() -> None:
    looking = Looking(COVEN)
    looking.play.says(client_join(device=PHONE))
    looking.play.hears_anything()
    looking.begin()
    looking.roster(item())
    assert looking.finding().verdict == "busy"


def test_a_change_that_begins_while_the_channel_is_asked_is_left_alone() -> None:
    looking = Looking(COVEN)
    looking.begin()
    looking.roster(item())
    asked = looking.question()
    looking.play.says(client_leave())
    looking.play.hears_anything()
    looking.tells(asked)
    assert looking.finding().verdict == "busy"
    assert looking.play.members() == {COVEN: "123"}


def test_only_what_may_be_a_channel_is_asked() -> None:
    looking = Looking()
    looking.begin()
    looking.roster(
        item(BEN), item(MIX), item(f"9#{COVEN}"), item("friend@chat.example"), item("a@b@c")
    )
    id_ = service_question(looking.play, "chat.example")
    answers_disco(looking.play, "chat.example", id_, "urn:example:other", to=ANNA)
    looking.play.silence()
    assert looking.outcome == UserFindings(ANNA, repaired=True)
    # And not again soon.
    looking.outcome = None
    looking.begin()
    looking.roster(item("friend@chat.example"))
    looking.play.silence()
    assert looking.outcome is not None


def test_a_few_channels_at_a_time_and_all_in_the_end() -> None:
    channels = [f"c{number:02}@{MIX}" for number in range(AT_ONCE + 3)]
    looking = Looking(*channels)
    looking.begin()
    looking.roster(*map(item, channels))
    first = [looking.question(channel) for channel in channels[:AT_ONCE]]
    looking.play.silence()
    for asked, channel in zip(first, channels, strict=False):
        looking.play.says(
            f"<iq type='error' from='{channel}' to='{ANNA}' id='{asked.get('id')}'>"
            f"{error('forbidden')}</iq>"
        )
    assert looking.outcome is None
    looking.play.waits(60)
    assert looking.outcome is not None
    assert [each.channel for each in looking.outcome.findings] == channels


def test_the_link_is_lost_meanwhile() -> None:
    looking = Looking()
    looking.begin()
    looking.roster(item())
    looking.is_mix()
    looking.question()
    looking.play.link_is_cut()
    assert looking.outcome is not None
    assert "lost" in looking.outcome.why
    assert looking.play.core.mirror.find(jid.parse(ANNA)) is None
    looking.outcome = None
    looking.begin()
    assert looking.outcome is not None
    assert "not connected" in looking.outcome.why


@pytest.mark.parametrize("user", ["x@else.example", SERVER, PHONE])
def test_whom_we_do_not_serve(user: str) -> None:
    looking = Looking()
    looking.begin(user)
    assert looking.outcome is not None
    assert looking.outcome.why
    looking.play.silence()


@pytest.mark.parametrize("online", [False, True])
def test_who_was_kicked_while_the_channel_was_asked_stays_out(online: bool) -> None:
    looking = Looking(COVEN)
    play = looking.play
    if online:
        comes_online(play)
        play.hears(f"<presence from='{PHONE}' to='{COVEN}'/>")
    looking.begin()
    looking.roster(item())
    asked = looking.question()
    play.says(
        f"<message from='{COVEN}' to='{ANNA}'><event xmlns='{PUBSUB}#event'>"
        f"<items node='{NODE}'><retract id='123'/></items></event></message>"
    )
    while play.has_written:
        heard = play.hears_anything()
        if heard.get("type") == "set":
            play.says(f"<iq type='result' from='{ANNA}' to='{OWN}' id='{heard.get('id')}'/>")
    assert play.members() == {}
    looking.tells(asked, entry())
    assert looking.finding().verdict == "busy"
    assert play.members() == {}
