"""Memberships against a model of the channel: every order of questions, answers and accidents.

The kind: whatever is asked of a channel, and however late, out of order, or on whichever link
its answers come, in the end the channel's participants, memory, roster and store agree, and
nothing is left open. The channel works in the order it is asked, and answers within the ten
minutes in which a late answer is waited for; everything else may happen at any moment: clients
ask again (with the same id, too), time runs out, links are cut with or without what was on
them, processes die, users are kicked, items and accounts removed and registered anew.

`MIXPAM_MODEL` is the number of plays; a few hundred take seconds, an hour a million.
"""

import os
from collections.abc import Callable
from itertools import count

import pytest
from driver import ANNA, CORE_1, COVEN, DISCO, MIX, OWN, SERVER, Play
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import client_join, client_leave, error

from schemas import stanza as stanzas

PLAYS = int(os.environ.get("MIXPAM_MODEL", "500"))

Stanza = tuple[str, str]
"""Kind (`answer`, `event`) and text of what is on its way from the channel."""


class World:
    """One user, one channel, the server between them, and what is on its way."""

    def __init__(self, *, idempotent: bool) -> None:
        self.play = Play()
        self.idempotent = idempotent
        self.participants: dict[str, str] = {}
        self.roster: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.coming: list[Stanza] = []
        self.refuses = False
        self.numbers = count(1)
        self._begin()

    def _begin(self) -> None:
        # Ids of two processes are never the same.
        self.play.core.context.new_id = lambda: f"own-{next(self.numbers)}"
        self.play.says(
            f"<message from='{SERVER}' to='{OWN}'><hello xmlns='mixpam:tap:1' version='1'/>"
            "</message>"
        )
        self.listen()

    # -- the server ----------------------------------------------------------------------

    def listen(self) -> None:
        """Have everything that the component wrote take its way."""
        while heard := self.play.hears_all():
            for data in heard:
                self._route(data)

    def _route(self, data: bytes) -> None:
        stanza = stanzas.parse(data)
        to, id_ = str(stanza.to), stanza.id or ""
        if stanza.kind != stanzas.IQ or stanza.type not in {"get", "set"}:
            return
        if to == COVEN:
            payload = stanza.payload
            assert payload is not None
            assert (payload.tag, id_) not in self.asked, "an id is asked with once at a time"
            self.asked.append((payload.tag.partition("}")[2], id_))
        elif to == MIX:
            self.play.says(
                f"<iq type='result' from='{MIX}' to='{ANNA}' id='{id_}'>"
                f"<query xmlns='{DISCO}'><feature var='{CORE_1}'/></query></iq>"
            )
        elif to == ANNA:
            item = stanza.element.find("*/*")
            if item is not None:
                self._enter(item.get("subscription", ""))
            items = "".join(f"<item jid='{each}'/>" for each in self.roster)
            self.play.says(
                f"<iq type='result' from='{ANNA}' to='{OWN}' id='{id_}'>"
                f"<query xmlns='jabber:iq:roster'>{items}</query></iq>"
            )

    def _enter(self, subscription: str) -> None:
        was_there = COVEN in self.roster
        if subscription == "remove":
            self.roster.discard(COVEN)
        else:
            self.roster.add(COVEN)
        if subscription != "remove" or was_there:
            self.play.says(
                f"<iq type='set' from='{ANNA}' to='{OWN}' id='x'><query xmlns='jabber:iq:roster'>"
                f"<item jid='{COVEN}' subscription='{subscription}'/></query></iq>"
            )

    # -- the channel ---------------------------------------------------------------------

    def works(self) -> None:
        """Have the channel do what it was asked first of what is not done."""
        if not self.asked:
            return
        kind, id_ = self.asked.pop(0)
        content, type_ = "", "result"
        if self.refuses and not id_.startswith("own-"):
            self.refuses = False
            content, type_ = error("not-allowed"), "error"
        elif kind == "join" and ANNA in self.participants and not self.idempotent:
            content, type_ = error("conflict"), "error"
        elif kind == "join":
            given_id = self.participants.setdefault(ANNA, f"p{next(self.numbers)}")
            content = f"<join xmlns='{CORE_1}' id='{given_id}'/>"
        elif self.participants.pop(ANNA, None) is None:
            content, type_ = error("item-not-found"), "error"
        self.coming.append(
            (
                "answer",
                f"<iq type='{type_}' from='{COVEN}' to='{ANNA}' id='{id_}'>{content}</iq>",
            )
        )

    def does_all(self) -> None:
        """Have the channel do one thing, and what it said first arrive."""
        self.works()
        self.answers()

    def kicks(self) -> None:
        """Have the channel end the participation, and say so.

        Not while it has a join to work off: a kick that crosses one that a cut has made us
        forget leaves the user in the channel.
        """
        if any(kind == "join" for kind, _ in self.asked):
            return
        gone = self.participants.pop(ANNA, None)
        if gone is not None:
            event = (
                f"<message from='{COVEN}' to='{ANNA}'>"
                "<event xmlns='http://jabber.org/protocol/pubsub#event'>"
                "<items node='urn:xmpp:mix:nodes:participants'>"
                f"<retract id='{gone}'/></items></event></message>"
            )
            self.coming.append(("event", event))

    def answers(self, *, last: bool = False) -> None:
        """Deliver what the channel said first, or the last of its answers before an event."""
        if not self.coming:
            return
        at = 0
        if last and self.coming[0][0] == "answer":
            while at + 1 < len(self.coming) and self.coming[at + 1][0] == "answer":
                at += 1
        self.play.says(self.coming.pop(at)[1])

    # -- clients and accidents -------------------------------------------------------------

    def client(self, request: str) -> None:
        """Have a client ask."""
        self.play.says(request)

    def cut(self, *, loses: bool, dies: bool) -> None:
        """End the link, or the process, with the answers that were on their way, or without.

        No kick crosses a cut: after it nobody knows of a join that may come behind the kick.
        """
        while any(kind == "event" for kind, _ in self.coming):
            self.answers()
            self.listen()
        if loses:
            self.coming = [each for each in self.coming if each[0] != "answer"]
        if dies:
            self.play = self.play.dies()
        else:
            self.play.link_is_cut()
        self._begin()

    def account_ends(self) -> None:
        """Remove the account; whatever comes is of another, of that name."""
        self.roster.clear()
        self.play.says(
            f"<message from='{SERVER}' to='{OWN}'>"
            f"<user-removed xmlns='mixpam:tap:1' jid='{ANNA}'/></message>"
        )

    def item_is_removed(self) -> None:
        """Have the user remove the channel from the roster."""
        if COVEN in self.roster:
            self._enter("remove")

    # -- the end ---------------------------------------------------------------------------

    def calms_down(self) -> None:
        """Let everything that is open come to its end."""
        for seconds in (0, 31, 31, 700, 700):
            while self.asked or self.coming:
                self.works()
                self.answers()
                self.listen()
            self.play.waits(seconds)
            self.listen()
        assert not self.asked
        assert not self.coming

    def agrees(self) -> None:
        """Check that all who know of the membership know the same, and nothing is open."""
        of_channel = {COVEN: self.participants[ANNA]} if self.participants else {}
        assert self.play.members() == of_channel
        assert self.roster == set(of_channel)
        assert not self.play.stored.journal
        assert not self.play.core.parts.memberships._ledger
        assert self.play.core.next_deadline is None


ACTIONS: dict[str, Callable[[World], None]] = {
    "join": lambda world: world.client(client_join(id_=f"j{next(world.numbers)}")),
    "join, same id": lambda world: world.client(client_join(id_="j")),
    "leave": lambda world: world.client(client_leave(id_=f"l{next(world.numbers)}")),
    "works": World.works,
    "answers": World.answers,
    "answers the last": lambda world: world.answers(last=True),
    "does all": World.does_all,
    "time": lambda world: world.play.waits(31),
    "refuses": lambda world: setattr(world, "refuses", True),
    "kicks": World.kicks,
    "link": lambda world: world.cut(loses=False, dies=False),
    "link and answers": lambda world: world.cut(loses=True, dies=False),
    "process": lambda world: world.cut(loses=False, dies=True),
    "process and answers": lambda world: world.cut(loses=True, dies=True),
    "item": World.item_is_removed,
    "account": World.account_ends,
}


def run(actions: list[str], *, idempotent: bool) -> World:
    world = World(idempotent=idempotent)
    for action in actions:
        ACTIONS[action](world)
        world.listen()
    world.calms_down()
    world.agrees()
    return world


@pytest.mark.req("J5", "J7", "L1", "L4", "L5", "L6")
@pytest.mark.abuse(24, 29)
@pytest.mark.timeout(60 + PLAYS / 20)
@settings(max_examples=PLAYS, deadline=None, derandomize=PLAYS <= 1_000, database=None)
@given(st.lists(st.sampled_from(sorted(ACTIONS)), max_size=14), st.booleans())
def test_in_the_end_all_agree(actions: list[str], idempotent: bool) -> None:
    run(actions, idempotent=idempotent)


KNOWN = {
    "late result of the first join while the second is open": (
        "join works time join answers works answers"
    ),
    "leave and join, both answered late": (
        "join works answers leave works time join works time answers answers"
    ),
    "the same, in the other order": (
        "join works answers leave works time join works time answers-the-last answers"
    ),
    "and a process that dies between them": (
        "join works answers leave works time join works process answers answers"
    ),
    "a second join refused while the first is late": "join works time join refuses works answers",
    "an account that ends while its join is open": "join works account answers join",
    "a kick between a join's answer and its roster": "join works kicks answers answers",
}


@pytest.mark.parametrize("idempotent", [True, False])
@pytest.mark.parametrize("actions", KNOWN.values(), ids=KNOWN)
def test_what_has_left_ghosts_before(actions: str, idempotent: bool) -> None:
    run([each.replace("-", " ") for each in actions.split()], idempotent=idempotent)
