"""CPU of the control lane: the core alone, no sockets, no Redis.

Times are medians; beside each is its multiple of the yardstick, which is ElementTree's parse of
one 602-byte message, timed in the same round. That number can be compared between machines.

A join's stanzas are also processed by aioxmpp alone, in the same rounds: the component may take
at most 0.32 of its time (200 us where aioxmpp took 620).
"""

import argparse
import itertools
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable

from benchmarks import traffic
from benchmarks.engines import aiojoin
from benchmarks.engines.mixpam import populate
from benchmarks.report import Report, median, table
from component.core.delivery.fanout import copies, translate
from component.core.delivery.passage import of_frame
from component.core.effects import Count, Effect, Send, Write
from component.core.limits import Limits
from component.core.machine import Core
from component.core.roster.access import Refused, Rosters
from component.process import garbage
from component.wire.framing import Frame, Framer
from schemas import codec, jid
from schemas import stanza as stanzas
from schemas.jid import Jid

_PAM, _CORE = "urn:xmpp:mix:pam:2", "urn:xmpp:mix:core:1"
_ROSTER_ITEMS, _ROSTER_CHANNELS = 1_000, 10
_MAX_BYTES = 262_144
_JOINS = 100

_STANZAS = "client-join, join, result: the component"
_WHOLE = "client-join, join, roster, result"
_AIO_THREE = "client-join in, join out, result out: aioxmpp"
_AIO_FOUR = "the same and the channel's result in: aioxmpp"
GOAL = 0.32

_GRANTED = b"<join xmlns='urn:xmpp:mix:core:1' id='p1'><nick>n</nick></join>"


def _wish(user: str, kind: str, number: int) -> bytes:
    """Return the request of a user's device."""
    inner = (
        f"<join xmlns='{_CORE}'><nick>n</nick>"
        "<subscribe node='urn:xmpp:mix:nodes:messages'/></join>"
        if kind == "join"
        else f"<leave xmlns='{_CORE}'/>"
    )
    return (
        f"<iq type='set' id='r{number}' from='{user}/d1' to='{user}'>"
        f"<client-{kind} xmlns='{_PAM}' channel='new@mix.{traffic.DOMAIN}'>{inner}"
        f"</client-{kind}></iq>"
    ).encode()


def _result(asked: Frame, inner: bytes) -> bytes:
    """Return the result of an iq."""
    return b"<iq type='result' id='%s' from='%s' to='%s'>%s</iq>" % (
        asked.get(b"id"), asked.get(b"to"), asked.get(b"from"), inner,
    )  # fmt: skip


class _WillingRosters(Rosters):
    """Rosters that need no change, so no stanza is sent to them."""

    def set(self, user: Jid, channel: Jid, subscription: str, then: Refused) -> None:  # noqa: ARG002 - as Rosters has it
        then(None)


class Desk:
    """A core in an ideal environment: writes succeed, channel and roster agree."""

    def __init__(self, users: int, *, per_user: int, devices: int = 2) -> None:
        ids = itertools.count()
        self.core = Core(
            jid.parse(traffic.COMPONENT),
            (traffic.DOMAIN,),
            Limits(max_channels=1_000_000, join_rate=1e9, join_burst=10**9),
            lambda: f"i{next(ids)}",
        )
        populate(self.core.mirror, users, devices, per_user=per_user)
        self.core.receive(
            Frame(
                f"<message from='{traffic.DOMAIN}' to='{traffic.COMPONENT}'><hello"
                " xmlns='mixpam:tap:1' version='1' tap='1.0' software='x' archive='true'/>"
                "</message>".encode()
            ),
            0.0,
        )
        # After the hello, which makes the core forget services without members.
        self.core.mirror.services.add(f"mix.{traffic.DOMAIN}")
        self.to_client = 0
        # CPU seconds of the environment, which are not the core's.
        self.elsewhere = 0.0
        self._asked = itertools.count()

    def spare_rosters(self) -> None:
        """Leave the roster out of joins."""
        self.core.parts.memberships._rosters = _WillingRosters(self.core.context)

    def settle(self, effects: Iterable[Effect]) -> None:
        """Carry effects out, and answer requests, until nothing is left."""
        waiting = list(effects)
        while waiting:
            effect = waiting.pop(0)
            if isinstance(effect, Write) and effect.token is not None:
                waiting += self.core.written(effect.token, 1.0, done=True)
            elif isinstance(effect, Send):
                began = time.process_time()
                answer = self._answer(effect.data)
                self.elsewhere += time.process_time() - began
                if answer:
                    waiting += self.core.receive(Frame(answer), 1.0)
            elif isinstance(effect, Count) and effect.what == "outgoing-refused":
                raise RuntimeError(f"the outgoing rule refused: {effect.reason}")

    def _answer(self, data: bytes) -> bytes:
        frame = Frame(data)
        if frame.name != b"iq" or frame.get(b"type") not in {b"set", b"get"}:
            self.to_client += frame.name == b"iq" and b"client-" in data
            return b""
        inner = b""
        if b"<join" in data:
            inner = _GRANTED
        elif b"<leave" in data:
            inner = b"<leave xmlns='urn:xmpp:mix:core:1'/>"
        return _result(frame, inner)

    def request(self, user: str, kind: str) -> None:
        """Let a user join or leave a channel, from the request to the client's result."""
        before = self.to_client
        self.settle(self.core.receive(Frame(_wish(user, kind, next(self._asked))), 1.0))
        if self.to_client != before + 1:
            raise RuntimeError(f"the {kind} was not answered")


def roster(user: int) -> bytes:
    """Return a roster of 1,000 items on its way to a flagged session (tap protocol T4)."""
    channels = [traffic.channel(each) for each in traffic.channels_of(user)]
    contacts = [f"contact{n}@example.net" for n in range(_ROSTER_ITEMS - _ROSTER_CHANNELS)]
    items = "".join(
        f"<item jid='{each}' name='Somebody Else' subscription='both'><group>Friends</group></item>"
        for each in [*contacts, *channels]
    )
    to = traffic.user(user)
    return (
        f"<iq type='result' id='r' from='{to}' to='{to}/d1'><query xmlns='jabber:iq:roster'>"
        f"<annotate xmlns='urn:xmpp:mix:roster:0'/>{items}</query></iq>"
    ).encode()


def _cases(desk: Desk, joining: Desk, bare: Desk) -> dict[str, tuple[int, Callable[[int], object]]]:
    """Return name -> how often in a round, and what is done; the argument is ever new."""
    one = next(iter(traffic.stanzas(1)))
    old = next(iter(traffic.stanzas(1, core=0)))
    frame, old_frame = Frame(one), Frame(old)
    address = frame.get(b"to")
    targets = desk.core.mirror.rows[address].copies
    sent = f"<iq type='set' id='x' from='{traffic.COMPONENT}' to='{address.decode()}'/>".encode()
    many = b"".join(traffic.stanzas(100))
    presence = (
        "<presence from='user%06d@example.org/new%d' to='mixpam.example.org'><show>away</show>"
        "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='v'/></presence>"
    )
    whole = roster(5)

    fresh = itertools.count()

    def join(_: int) -> None:
        joining.request(traffic.user(next(fresh)), "join")

    stream, barely = aiojoin.Stream(), itertools.count()

    def join_barely(_: int) -> None:
        bare.request(traffic.user(next(barely)), "join")

    def three_by_aioxmpp(number: int) -> None:
        asked, _ = stream.ask(_wish(traffic.user(number), "join", number))
        stream.respond(asked, asked.payload.join)

    def four_by_aioxmpp(number: int) -> None:
        asked, join = stream.ask(_wish(traffic.user(number), "join", number))
        stream.respond(asked, stream.read(_result(Frame(join), _GRANTED)).payload)

    def join_and_leave(_: int) -> None:
        user = traffic.user(next(fresh))
        joining.request(user, "join")
        joining.request(user, "leave")

    return {
        "parse of a message by ElementTree (yardstick)": (500, lambda _: ET.fromstring(one)),
        "schemas.codec.read, guarded parse": (500, lambda _: codec.read(one)),
        "schemas.stanza.parse, with addresses": (500, lambda _: stanzas.parse(one)),
        "100 frames out of one read": (20, lambda _: list(Framer(_MAX_BYTES).feed(many))),
        "routing decision": (2000, lambda _: of_frame(desk.core.mirror, frame)),
        "copies for 2 devices": (2000, lambda _: copies(targets, frame)),
        "translation core:0 to core:1": (1000, lambda _: translate(
            old_frame, b"urn:xmpp:mix:core:0", b"urn:xmpp:mix:core:1")),
        "outgoing rule, one stanza": (1000, lambda _: desk.core.outgoing.why_not(sent)),
        _AIO_THREE: (_JOINS, three_by_aioxmpp),
        _AIO_FOUR: (_JOINS, four_by_aioxmpp),
        _STANZAS: (_JOINS, join_barely),
        _WHOLE: (_JOINS, join),
        "join and leave, all of both": (_JOINS, join_and_leave),
        "a session's presence, new device": (200, lambda n: desk.core.receive(
            Frame((presence % (n % traffic.USERS, n)).encode()), 1.0)),
        "roster of 1,000 items annotated": (5, lambda _: desk.core.receive(Frame(whole), 1.0)),
    }  # fmt: skip


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds")


def run(options: argparse.Namespace, report: Report) -> None:
    """Run the benchmark."""
    desk = Desk(traffic.USERS, per_user=traffic.CHANNELS_PER_USER)
    # Users without channels: else the first join would announce the devices to ten others too.
    joining = Desk(2 * _JOINS * options.rounds, per_user=0)
    # Without roster and devices to announce, only the join's own stanzas remain.
    bare = Desk(_JOINS * options.rounds, per_user=0, devices=0)
    bare.spare_rosters()
    cases = _cases(desk, joining, bare)
    # As the service does when all users are loaded.
    garbage.begin()
    garbage.settle()
    times: dict[str, list[float]] = {name: [] for name in cases}
    number = 0
    for _ in range(options.rounds):
        for name, (repeat, action) in cases.items():
            start, elsewhere = time.process_time(), joining.elsewhere + bare.elsewhere
            for _ in range(repeat):
                number += 1
                action(number)
            spent = time.process_time() - start
            spent -= joining.elsewhere + bare.elsewhere - elsewhere
            times[name].append(spent / repeat * 1e6)
    yardstick = next(iter(times.values()))
    rows = []
    for name, measured in times.items():
        ratio = median([mine / other for mine, other in zip(measured, yardstick, strict=True)])
        rows.append([name, f"{median(measured):.2f}", f"{min(measured):.2f}", f"{ratio:.2f}"])
        report.add(f"control/{name}/us", median(measured))
        report.add(f"control/{name}/yardstick_ratio", ratio)
    table("CPU of the core", ["what", "us", "best us", "yardsticks"], rows)
    _compare(times, report)


def _compare(times: dict[str, list[float]], report: Report) -> None:
    """Print the component's share of aioxmpp's time."""
    rows = []
    for mine in (_STANZAS, _WHOLE):
        for other in (_AIO_THREE, _AIO_FOUR):
            ratios = [one / all_ for one, all_ in zip(times[mine], times[other], strict=True)]
            verdict = "met" if median(ratios) <= GOAL else "not met"
            rows.append([mine, other, f"{median(ratios):.3f}", verdict])
            report.add(f"control/{mine}/{other}/ratio", median(ratios))
    table(f"A join against aioxmpp (goal {GOAL})", ["what", "of", "ratio", "goal"], rows)
