"""The outgoing rule, tried from every place of the core that has something sent.

Each such place is found in the source. While sessions are played, whatever it sends is
joined by what must never be sent: words in foreign names, put into the very list that the
shell carries out. The shell is the real one; nothing of that may reach its `write`.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType

import pytest
from driver import ANNA, COVEN, LAPTOP, MIX, OWN, PHONE, SERVER, Play, Stored
from fuzz import sessions
from fuzz.control import cut
from scenes import (
    channel_answers,
    client_join,
    comes_online,
    error,
    granted,
    in_the_coven,
    roster_is_set,
    service_is_asked,
    tap_is_up,
)

import component
from component.core.context import Copy
from component.core.effects import Effect, Send, Write
from component.core.stanza_size import SLACK
from component.core.users.mirror import Row
from component.core.users.sessions import Common, Device, Speaks
from component.engine import Engine
from component.wire.framing import Frame
from schemas import jid
from schemas.records import MembershipRecord
from schemas.settings import Settings

pytestmark = pytest.mark.abuse(28)

PACKAGE = Path(component.__file__).parent
CORE = PACKAGE / "core"
SPEAKING = {"send", "ask"}
"""Methods of the core's desk that have something sent …"""

REFUSING = "context.refuse"
"""… and the one that is itself such a place: all errors are made there."""

SETTINGS = Settings.model_validate(
    {"component_jid": OWN, "secret": "s", "domains": f"{SERVER},example.net"}
)


def online() -> Device:
    """Give a device that would get copies."""
    address = jid.parse(PHONE)
    device = Row(address.bare, Common()).devices.come(address.resource or "")
    device.speaks = Speaks.CORE_1
    return device


ONLINE = online()

EVIL = b"forbidden-fruit"
FORGED = (
    f"<message from='eve@evil.example' to='{ANNA}/r'>%s</message>",
    f"<message from='{SERVER}' to='{ANNA}/r'>%s</message>",
    f"<message from='other@{MIX}' to='{PHONE}' type='groupchat'>%s</message>",
    f"<message from='{ANNA}' to='ben@example.org' type='chat'>%s</message>",
    f"<iq from='{ANNA}' to='{SERVER}' type='set' id='x'>%s</iq>",
    f"<presence from='{PHONE}' to='eve@evil.example'>%s</presence>",
    f"<iq from='{OWN}' to='{ANNA}' type='get'/><iq from='{SERVER}' to='{ANNA}'>%s</iq>",
    f"<message from='{COVEN}' to='carl@elsewhere.example'>%s</message>",
)


def places() -> Iterator[str]:
    """Find every function of the core that has something sent, as `file.function`."""
    yield REFUSING
    for path in sorted(CORE.rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if path.stem != "context" and isinstance(function, ast.FunctionDef):
                calls = (node.func for node in _own(function) if isinstance(node, ast.Call))
                if any(_speaks(call) for call in calls):
                    yield f"{path.stem}.{function.name}"


def _own(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """Walk through a function, but not through those inside it."""
    waiting = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _speaks(call: ast.expr) -> bool:
    if isinstance(call, ast.Name):
        return call.id in {"Send", "Copy"}
    return (
        isinstance(call, ast.Attribute)
        and call.attr in SPEAKING
        and ast.unparse(call.value) in {"context", "self.context", "self._context"}
    )


def _place(frame: FrameType) -> str:
    return f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}"


class Temptation(list[Effect | Copy]):
    """The core's effects, with forged ones behind each that has something sent."""

    seen: set[str] = set()  # noqa: RUF012 - of all plays

    def append(self, effect: Effect | Copy) -> None:
        """Take an effect, and note which place it comes from."""
        super().append(effect)
        if not isinstance(effect, Send | Copy):
            return
        frame = sys._getframe(1)
        while (place := _place(frame)).startswith("context.") and place != REFUSING:
            assert frame.f_back is not None
            frame = frame.f_back
        self.seen.add(place)
        self.tempt()

    def tempt(self) -> None:
        """Put in what must never be sent."""
        for forged in FORGED:
            super().append(Send(forged.encode() % EVIL))
        frame = Frame(FORGED[0].encode() % EVIL)
        super().append(Copy(frame, Row(jid.parse(ANNA), Common()), b"eve@evil.example", ONLINE))


class Shelled(Play):
    """A play whose effects the real shell carries out."""

    def __init__(self, stored: Stored | None = None, **limits: float) -> None:
        super().__init__(stored, admins=("root@admin.example",), **limits)
        self.shell = engine = Engine(SETTINGS)
        engine.core = self.core
        engine.store = self  # type: ignore[assignment]
        engine._queue = lambda stanza, *_, **__: self._has_its_turn(stanza)  # type: ignore[method-assign]
        engine.up(self._link, lambda _: None)
        self.said = b""
        self._put: list[Write] = []
        self.core.context.effects = Temptation()

    def _link(self, data: bytes) -> None:
        self.said += data
        self._written.extend(frame.data for frame in cut(data))

    def put(self, write: Write) -> None:
        """Take a write, as the store does."""
        self._put.append(write)

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        self.shell._carry_out(effects)
        self.shell._settle()
        while self._put:
            self._write(self._put.pop(0))

    def performs(self, session: bytes) -> None:
        """Play a session to its end."""
        for frame in cut(session):
            if frame.name == b"wait":
                self.waits(float(frame.get(b"seconds")))
            elif frame.name == b"cut":
                self.link_is_cut()
            else:
                self.passes_on(frame)
        self.waits(3_600)


def recorded() -> list[Shelled]:
    """Play the sessions of the fuzzer."""
    plays = []
    for session in sessions.recorded():
        plays.append(Shelled())
        plays[-1].performs(session)
    return plays


def commands() -> Shelled:
    """Let an admin ask for what there is, and begin what needs a form."""
    play = Shelled()
    head = f"from='root@admin.example/d' to='{OWN}' id='c'"
    for node in ("mixpam:leave", "no-such-command"):
        play.says(
            f"<iq type='set' {head}>"
            f"<command xmlns='http://jabber.org/protocol/commands' node='{node}'/></iq>"
        )
    play.says(
        f"<iq type='set' {head}><command xmlns='http://jabber.org/protocol/commands'"
        " node='mixpam:leave' sessionid='never-was'/></iq>"
    )
    items = "http://jabber.org/protocol/disco#items"
    play.says(f"<iq type='get' {head}><query xmlns='{items}'/></iq>")
    play.says(f"<iq type='get' {head}><query xmlns='{items}' node='x'/></iq>")
    return play


def probed() -> Shelled:
    """Let the channel probe, with a device and without."""
    play = Shelled()
    in_the_coven(play, PHONE)
    play.says(f"<presence type='probe' from='{COVEN}' to='{ANNA}'/>")
    play.says(f"<presence type='unavailable' from='{PHONE}' to='{OWN}'/>")
    play.says(f"<presence type='probe' from='{COVEN}' to='{ANNA}'/>")
    return play


def archived() -> Shelled:
    """Let messages come during a join, which the server archives now or has archived."""
    play = Shelled()
    tap_is_up(play, archive=True)
    comes_online(play)
    play.says(client_join())
    service_is_asked(play)
    play.hears_all()
    play.says(f"<message type='groupchat' from='{COVEN}' to='{ANNA}' id='m'><body/></message>")
    stanza_id = f"<stanza-id xmlns='urn:xmpp:sid:0' by='{ANNA}' id='1'/>"
    play.says(f"<message type='groupchat' from='{COVEN}' to='{ANNA}' id='n'>{stanza_id}</message>")
    play.says(channel_answers(granted()))
    roster_is_set(play)
    play.waits(60)
    return play


def reconciled() -> Shelled:
    """Let the operator have a member looked at."""
    play = Shelled()
    in_the_coven(play, PHONE)
    play._carry_out(
        play.core.operate(
            lambda: play.core.reconcile.user(jid.parse(ANNA), lambda _: None, repair=True),
            play.now,
        )
    )
    (asked,) = play.hears_all()
    id_ = Frame(asked).get(b"id").decode()
    play.says(
        f"<iq type='result' from='{ANNA}' to='{OWN}' id='{id_}'>"
        f"<query xmlns='jabber:iq:roster'><item jid='{COVEN}'/></query></iq>"
    )
    play.waits(60)
    return play


def called() -> Shelled:
    """Let a channel that users were in refuse to say whether they are."""
    record = MembershipRecord(channel=COVEN, participant_id="1", nick="n")
    stored = Stored()
    stored.memberships[ANNA, COVEN] = record
    play = Shelled(stored)
    tap_is_up(play, services=MIX)
    play.says(f"<message from='{SERVER}' to='{OWN}'>{sessions.EVENTS[1]}</message>")
    play.hears_all()
    play.waits(2)
    for asked in play.hears_all():
        id_ = Frame(asked).get(b"id").decode()
        play.says(
            f"<iq type='error' from='{COVEN}' to='{ANNA}' id='{id_}'>"
            f"{error('forbidden', 'auth')}</iq>"
        )
    return play


def crowded() -> Shelled:
    """Let more come than may, and a device that is to hear of them."""
    play = Shelled(presence_rate=1)
    in_the_coven(play, PHONE)
    for person in range(5):
        play.says(f"<presence from='{person}#{COVEN}/x' to='{ANNA}'/>")
    play.waits(10)
    play.hears_all()
    comes_online(play, LAPTOP)
    again = Shelled(play.stored, presence_rate=1)
    tap_is_up(again, services=MIX)
    comes_online(again)
    again.says(f"<presence from='0#{COVEN}/x' to='{ANNA}'/>")
    again.hears_all()
    comes_online(again, LAPTOP)
    play.said += again.said
    return play


def strangers() -> Shelled:
    """Let somebody else ask, write and want to join."""
    play = Shelled()
    in_the_coven(play, PHONE)
    eve = "from='eve@evil.example/r'"
    play.says(f"<message type='groupchat' {eve} to='{ANNA}'><body/></message>")
    play.says(f"<iq type='get' id='v' {eve} to='{OWN}'><query xmlns='jabber:iq:version'/></iq>")
    # The channel, in another spelling; and a roster too odd for the quick way, or any.
    play.says(f"<message from='COVEN@mix.example' to='{ANNA}' type='groupchat'><body/></message>")
    play.says(
        f"<iq type='result' id='r' from='{ANNA}' to='{PHONE}'><query xmlns='jabber:iq:roster'>"
        f"<annotate xmlns='urn:xmpp:mix:roster:0'/><odd/><item jid='{COVEN}'/></query></iq>"
    )
    play.says(
        f"<iq type='result' id='r' from='{ANNA}' to='{PHONE}'><query xmlns='jabber:iq:roster'>"
        f"<annotate xmlns='urn:xmpp:mix:roster:0'/><x xmlns='a}}b'/></query></iq>"
    )
    play.says(f"<iq type='get' id='v' {eve} to='x@{OWN}'><query xmlns='jabber:iq:version'/></iq>")
    # A roster that the server takes only without what we have to say of it.
    play.core.largest.lower(SLACK + 200)
    play.says(
        f"<iq type='result' id='r' from='{ANNA}' to='{PHONE}'><query xmlns='jabber:iq:roster'>"
        f"<annotate xmlns='urn:xmpp:mix:roster:0'/><item jid='{COVEN}'/></query></iq>"
    )
    return play


async def test_no_place_gets_anything_past_the_rule() -> None:
    Temptation.seen.clear()
    plays = [
        *recorded(),
        commands(),
        probed(),
        archived(),
        reconciled(),
        called(),
        crowded(),
        strangers(),
    ]
    for play in plays:
        assert EVIL not in play.said
        refused = {reason for what, reason in play.shell.counts if what == "outgoing-refused"}
        assert {"channel-not-joined", "not-one-stanza", "message-as-user"} <= refused
    assert Temptation.seen == set(places())


def test_there_is_one_way_out() -> None:
    """Only the stream touches the socket, and only `Engine._settle` the stream."""
    writers = {
        f"{path.relative_to(PACKAGE)}:{function.name}"
        for path in PACKAGE.rglob("*.py")
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func)
        in {"self._transport.write", "self._write", "transport.write", "writer.write"}
        and not {"core", "store", "doctor"} & {*path.parts}
    }
    stream = {"_write", "connection_made", "_end", "_read_header", "_check_alive"}
    assert writers == {"engine.py:_settle"} | {f"link/stream.py:{name}" for name in stream}


def test_what_is_said_was_judged() -> None:
    """All that is written is a `Send` that was judged, or copies that `delivery` has made."""
    tree = ast.parse((PACKAGE / "engine.py").read_text(encoding="utf-8"))
    added = {
        ast.unparse(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.AugAssign) and ast.unparse(node.target) == "self._out"
    }
    assert added == {"copies"}
    more = {
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("self._out.")
    }
    assert more == {"self._out.append(data)"}
    given = {
        ast.unparse(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and "self._out" in map(ast.unparse, node.args)
    }
    assert given == {"self._shortcut"}


def test_nothing_leaves_the_core_unjudged() -> None:
    """All that gives the shell effects takes them from one place, in which `Outgoing` judges."""
    tree = ast.parse((CORE / "machine.py").read_text(encoding="utf-8"))
    functions = {
        node.name: node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and node.returns is not None
        and ast.unparse(node.returns) == "list[Effect]"
    }
    judging = functions.pop("_effects")
    returned = {
        ast.unparse(node.value or node)
        for function in functions.values()
        for node in ast.walk(function)
        if isinstance(node, ast.Return)
    }
    assert returned == {"self._effects()"}
    (send,) = [
        node
        for node in ast.walk(judging)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "isinstance(effect, Send)"
    ]
    assert ast.unparse(send.body[0]) == "effects += self.outgoing.judged(effect)"
    takers = {
        function.name
        for path in PACKAGE.rglob("*.py")
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef)
        for node in _own(function)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("context.taken")
    }
    assert takers == {"_effects"}


def test_one_place_delivers() -> None:
    """Only `Delivery` makes copies into an effect, and of what `passage` has let pass."""
    makers = {
        f"{path.stem}.{function.name}"
        for path in CORE.rglob("*.py")
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef)
        for node in _own(function)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Deliver"
    }
    assert makers == {"delivery._deliver"}
    tree = ast.parse((CORE / "delivery/delivery.py").read_text(encoding="utf-8"))
    copies = {
        ast.unparse(node.args[1]).partition("(")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "self._deliver"
    }
    assert copies == {"self._multicast.copies", "spread.written"}
