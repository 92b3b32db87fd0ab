"""Events of taps: any content of a message from a tap, to a core with a known user."""

from driver import LAPTOP, OWN, PHONE, SERVER
from scenes import in_the_coven

from component.wire.framing import Frame
from fuzz import control, sessions


def seeds() -> list[bytes]:
    """Give each event, and all of them one after the other."""
    return [*map(str.encode, sessions.EVENTS), "".join(sessions.EVENTS).encode()]


def check(data: bytes) -> None:
    """Send a core all events in the bytes, one after the other."""
    head = f"<message from='{SERVER}' to='{OWN}'>".encode()
    play = control.Careful()
    in_the_coven(play, PHONE, LAPTOP)
    control.perform(play, (Frame(head + event.data + b"</message>") for event in control.cut(data)))
