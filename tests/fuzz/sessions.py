"""Sessions to begin from: the stanzas of servers, clients and channels in the unit tests' scenes.

A session is the stanzas that the component receives, one after the other. Other events are written
as elements, too: `<wait seconds='31'/>`, `<cut/>` for the link, and `<store state='fails'/>`.
"""

from functools import cache

import driver
from scenes import (
    channel_answers,
    client_join,
    client_leave,
    comes_online,
    error,
    granted,
    in_the_coven,
    roster_is_set,
    service_is_asked,
    tap_is_up,
)

from component.wire.framing import Frame


class Recorder(driver.Play):
    """A play that records the component's input."""

    def __init__(self, *arguments: object, **limits: float) -> None:
        self.session = bytearray()
        super().__init__(*arguments, **limits)  # type: ignore[arg-type]

    def passes_on(self, frame: Frame) -> None:
        """Put one stanza onto the link."""
        self.session += frame.data
        super().passes_on(frame)

    def waits(self, seconds: float) -> None:
        """Let time pass."""
        self.session += f"<wait seconds='{seconds}'/>".encode()
        super().waits(seconds)

    def link_is_cut(self) -> None:
        """Lose the link."""
        self.session += b"<cut/>"
        super().link_is_cut()


def _join_refused(play: Recorder) -> None:
    tap_is_up(play)
    comes_online(play)
    play.says(client_join(pam=driver.PAM_0, core=driver.CORE_0))
    service_is_asked(play)
    play.says(channel_answers(error("not-allowed", "cancel", "No."), type_="error"))


def _talk_and_leave(play: Recorder) -> None:
    in_the_coven(play, driver.PHONE, driver.LAPTOP)
    head = f"from='{driver.COVEN}' to='{driver.ANNA}' type='groupchat' id='m1'"
    for core in (driver.CORE_0, driver.CORE_1):
        mix = f"<mix xmlns='{core}'><nick>Hecate</nick><jid>h@x.example</jid></mix>"
        play.says(f"<message {head}><body>Double &amp; trouble</body>{mix}</message>")
    play.says(
        f"<presence from='9#{driver.COVEN}/r' to='{driver.ANNA}'><show>away</show></presence>"
    )
    play.says(_roster("<annotate xmlns='urn:xmpp:mix:roster:0'/>"))
    play.hears_all()
    play.says(client_leave())
    play.says(channel_answers(f"<leave xmlns='{driver.CORE_1}'/>", id_="l1"))
    play.hears_all()


def _gathered(play: Recorder) -> None:
    gathering = in_the_coven(play, driver.PHONE, driver.LAPTOP, multicast=True)
    addresses = "".join(
        f"<address type='to' jid='{user}' id='7'/>" for user in (driver.ANNA, driver.BEN)
    )
    play.says(
        f"<message from='{driver.COVEN}' to='{gathering}' type='groupchat' id='m1'>"
        f"<addresses xmlns='http://jabber.org/protocol/address'>{addresses}</addresses>"
        f"<body>Toil</body><mix xmlns='{driver.CORE_0}'><nick>Hecate</nick></mix></message>"
    )
    play.hears_all()


def _kick(play: Recorder) -> None:
    in_the_coven(play, driver.PHONE)
    play.says(
        f"<message from='{driver.COVEN}' to='{driver.ANNA}'>"
        "<event xmlns='http://jabber.org/protocol/pubsub#event'>"
        "<items node='urn:xmpp:mix:nodes:participants'><retract id='123'/></items>"
        "</event></message>"
    )
    play.hears_all()


def _restart(play: Recorder) -> None:
    in_the_coven(play, driver.PHONE)
    play.link_is_cut()
    tap_is_up(play, archive=True, services=driver.MIX)
    comes_online(play)
    play.says(f"<message from='{driver.SERVER}' to='{driver.OWN}'>{EVENTS[1]}</message>")
    play.waits(40)
    play.hears_all()


def _silence(play: Recorder) -> None:
    tap_is_up(play)
    comes_online(play)
    play.says(client_join())
    play.waits(700)
    play.hears_all()


def _late(play: Recorder) -> None:
    tap_is_up(play)
    comes_online(play)
    play.says(client_join())
    service_is_asked(play)
    play.hears_all()
    play.waits(31)
    play.hears_all()
    play.says(channel_answers(granted()))
    play.hears_all()


def _other(play: Recorder) -> None:
    in_the_coven(play, driver.PHONE)
    for event in EVENTS:
        play.says(f"<message from='{driver.SERVER}' to='{driver.OWN}'>{event}</message>")
    play.says(
        f"<iq type='get' from='{driver.PHONE}' to='{driver.OWN}' id='d1'>"
        f"<query xmlns='{driver.DISCO}'/></iq>"
    )
    play.says(_roster("", "set", driver.OWN))
    play.says(
        f"<iq type='set' from='{driver.PHONE}' to='{driver.MIX}' id='p1'>"
        "<user-preference xmlns='urn:xmpp:mix:anon:0'/></iq>"
    )
    play.hears_all()


def _roster(mark: str, type_: str = "result", to: str = driver.PHONE) -> str:
    return (
        f"<iq type='{type_}' from='{driver.ANNA}' to='{to}' id='r1'>"
        f"<query xmlns='jabber:iq:roster' ver='1'>{mark}"
        f"<item jid='{driver.COVEN}' subscription='from' name='C'><group>G</group></item>"
        "<item jid='ben@example.org' subscription='both'/></query></iq>"
    )


def _roster_set(play: Recorder) -> None:
    tap_is_up(play)
    comes_online(play)
    play.says(client_join())
    service_is_asked(play)
    play.hears_all()
    play.says(channel_answers(granted()))
    roster_is_set(play, answer=error("internal-server-error", "wait"))
    play.hears_all()


EVENTS = (
    "<hello xmlns='mixpam:tap:1' version='1' tap='1.0' software='Server 1' archive='true'/>",
    "<replayed xmlns='mixpam:tap:1'/>",
    f"<hibernated xmlns='mixpam:tap:1' jid='{driver.PHONE}'/>",
    f"<resumed xmlns='mixpam:tap:1' jid='{driver.PHONE}'/>",
    "<s2s xmlns='mixpam:tap:1' domain='mix.example' state='down'/>",
    f"<user-removed xmlns='mixpam:tap:1' jid='{driver.ANNA}'/>",
)
"""Events of taps (deploy/tap-protocol.md)."""


@cache
def recorded() -> tuple[bytes, ...]:
    """Play all scenes and return the input of each."""
    found = []
    for scene in (
        _join_refused, _talk_and_leave, _gathered, _kick, _restart, _silence, _late, _other,
        _roster_set,
    ):  # fmt: skip
        play = Recorder()
        scene(play)
        found.append(bytes(play.session))
    return tuple(found)
