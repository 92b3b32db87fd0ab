"""The short cut: what it carries is what the hot lane would, and what it leaves is in order."""

import pytest
from driver import ANNA, BEN, COVEN, MIX, OWN, SERVER

from component.core.delivery.multicast import Multicast
from component.core.delivery.shortcut import Shortcut
from component.core.lane_counts import LaneCounts
from component.core.limits import Limits
from component.core.stanza_size import Largest
from component.core.users.mirror import Membership, Mirror, Waiting
from component.core.users.sessions import Speaks
from component.wire.framing import Frame, Framer
from schemas import jid

LIMIT = 10_000


class Case:
    """Anna and Ben in the coven, each with some devices."""

    def __init__(self, *speaks: Speaks, joined: tuple[str, ...] = (ANNA, BEN)) -> None:
        self.mirror = Mirror()
        largest = Largest(524_288, 262_144)
        self.multicast = Multicast(OWN, lambda: "secret", largest, wanted=True)
        self.counts = LaneCounts()
        limits = Limits(max_stanza_bytes=LIMIT)
        self.shortcut = Shortcut(self.mirror, self.multicast, limits, largest, self.counts)
        for user in (ANNA, BEN):
            address = jid.parse(user)
            for number, each in enumerate(speaks):
                self.mirror.row(address).devices.come(f"d{number}").speaks = each
            if user in joined:
                membership = Membership(jid.parse(COVEN), "1", None, (), 1, shares_presence=True)
                self.mirror.join(address, membership)

    def carries(self, data: bytes) -> tuple[int, list[bytes]]:
        """Give how far it comes, and the copies."""
        out: list[bytes] = []
        end = self.shortcut.carry(data, 0, out)
        return end, [frame.data for frame in Framer(LIMIT).feed(b"".join(out))]


class Kept(Waiting):
    """Keeps everything back."""

    def take(self, frame: Frame) -> None:
        """Keep it."""


def message(user: str, content: str = "<body>hi</body>", sender: str = f"{COVEN}/3") -> bytes:
    """Write what the channel says."""
    return f"<message type='groupchat' from='{sender}' to='{user}'>{content}</message>".encode()


def test_each_device_gets_its_copy_and_all_is_counted() -> None:
    case = Case(Speaks.MIX, Speaks.NOTHING, Speaks.CORE_1)
    data = message(ANNA) + message(BEN, "<mix xmlns='urn:xmpp:mix:core:1'/>")
    end, copies = case.carries(data)
    assert end == len(data)
    assert copies == [
        message(f"{ANNA}/d0"),
        message(f"{ANNA}/d2"),
        message(f"{BEN}/d0", "<mix xmlns='urn:xmpp:mix:core:1'/>"),
        message(f"{BEN}/d2", "<mix xmlns='urn:xmpp:mix:core:1'/>"),
    ]
    assert (case.counts.hot[b"message"], case.counts.copies) == (2, 4)


def test_whoever_has_no_device_is_carried_to_nobody() -> None:
    case = Case()
    assert case.carries(message(ANNA)) == (len(message(ANNA)), [])
    assert (case.counts.hot[b"message"], case.counts.copies) == (1, 0)


def test_it_stops_at_whatever_is_not_simply_joined() -> None:
    first = len(message(ANNA))
    for stranger in (
        message("carl@example.org"),
        message(ANNA, sender=f"other@{MIX}"),
        message(ANNA, sender=f"1#{COVEN}"),
        message(ANNA, sender=MIX),
        message(BEN),
    ):
        case = Case(Speaks.MIX, joined=(ANNA,))
        assert case.carries(message(ANNA) + stranger + message(ANNA))[0] == first


def test_it_stops_at_a_channel_that_has_to_wait() -> None:
    case = Case(Speaks.MIX)
    case.mirror.row(jid.parse(ANNA)).hold(COVEN.encode(), Kept())
    assert case.carries(message(ANNA)) == (0, [])


def test_it_stops_at_a_user_for_whom_something_waits() -> None:
    case = Case(Speaks.MIX)
    case.mirror.waiting[ANNA.encode()] = 1
    assert case.carries(message(BEN) + message(ANNA))[0] == len(message(BEN))


def test_it_translates_what_is_declared_in_the_usual_place() -> None:
    case = Case(Speaks.CORE_1, Speaks.MIX, Speaks.CORE_0)
    mix = "<body>urn:xmpp:mix:core: 0</body><mix xmlns='urn:xmpp:mix:core:%d'><nick>n</nick></mix>"
    for old in (0, 1):
        end, copies = case.carries(message(ANNA, mix % old))
        assert end == len(message(ANNA, mix % old))
        assert copies == [
            message(f"{ANNA}/d0", mix % 1),
            message(f"{ANNA}/d1", mix % old),
            message(f"{ANNA}/d2", mix % 0),
        ]


@pytest.mark.parametrize(
    "content",
    [
        '<mix xmlns="urn:xmpp:mix:core:0"/>',
        "<x xmlns='urn:xmpp:mix:core:0'/>",
        "<body>urn:xmpp:mix:core:0</body>",
        "<mix xmlns='urn:xmpp:mix:core:0'/><x xmlns='urn:xmpp:mix:core:0'/>",
        "<forwarded xmlns='urn:xmpp:forward:0'><mix xmlns='urn:xmpp:mix:core:0'/></forwarded>",
    ],
)
def test_it_leaves_to_others_what_is_declared_elsewhere(content: str) -> None:
    case = Case(Speaks.CORE_1)
    assert case.carries(message(ANNA, content)) == (0, [])


def test_it_leaves_to_others_what_is_sent_to_several_at_once() -> None:
    case = Case(Speaks.MIX, Speaks.MIX)
    case.multicast.begin(SERVER)
    assert case.carries(message(ANNA)) == (0, [])
    case = Case(Speaks.MIX)
    case.multicast.begin(SERVER)
    assert case.carries(message(ANNA))[1] == [message(f"{ANNA}/d0")]


def test_devices_that_understand_everything_get_the_same_bytes() -> None:
    case = Case(Speaks.MIX, Speaks.MIX)
    _, copies = case.carries(message(ANNA))
    assert copies == [message(f"{ANNA}/d0"), message(f"{ANNA}/d1")]


def test_what_is_forwarded_is_no_simple_message_for_devices_of_two_versions() -> None:
    case = Case(Speaks.CORE_0, Speaks.CORE_1, Speaks.MIX)
    inner = (
        "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'>"
        "<mix xmlns='urn:xmpp:mix:core:1'/></message></forwarded>"
    )
    assert case.carries(message(ANNA, inner)) == (0, [])


def test_what_is_declared_twice_is_no_simple_message_for_devices_of_two_versions() -> None:
    case = Case(Speaks.CORE_0, Speaks.CORE_1, Speaks.MIX)
    twice = "<mix xmlns='urn:xmpp:mix:core:1'/><x xmlns='urn:xmpp:mix:core:1'/>"
    assert case.carries(message(ANNA, twice)) == (0, [])
