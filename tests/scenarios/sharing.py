"""Steps about what users share with channels, for scenarios."""

import contextlib
from collections.abc import Callable, Iterator

from harness import ns
from harness.fake import FakeService, result
from harness.stanza import Match, Stanza, match

PREFERENCE = f"{{{ns.MIX_ANON}}}user-preference"


def preference(value: str, type_: str = "submit") -> str:
    """Return a `<user-preference/>` that says `share` or `not share` (XEP-0404)."""
    return (
        f"<user-preference xmlns='{ns.MIX_ANON}'><x xmlns='{ns.DATA}' type='{type_}'>"
        f"<field var='FORM_TYPE' type='hidden'><value>{ns.MIX_ANON}</value></field>"
        f"<field var='Presence'><value>{value}</value></field></x></user-preference>"
    )


def grants(stanza: Stanza, value: str | None = None) -> str:
    """Return a channel's answer to a preference: `value`, or else what was asked for."""
    asked = stanza.text(f"{PREFERENCE}/{{{ns.DATA}}}x/{{{ns.DATA}}}field[@var='Presence']/")
    wish = asked if value is None else value
    return result(stanza, preference(wish or "share", "result"))


@contextlib.contextmanager
def answering(
    fake: FakeService, tag: str, answer: Callable[[Stanza], str | None]
) -> Iterator[None]:
    """Have the channel service answer iqs with a child `tag` by `answer`, for a while."""
    original = fake._answer

    def first(stanza: Stanza) -> str | None:
        return original(stanza) if stanza.find(tag) is None else answer(stanza)

    fake._answer = first  # type: ignore[method-assign]
    try:
        yield
    finally:
        fake._answer = original  # type: ignore[method-assign]


def here(device: str, channel: str, test: Callable[[Stanza], bool] | None = None) -> Match:
    """Return a matcher for a device's available presence at a channel."""
    return match("presence", from_=device, to=channel, type=None, test=test)


def gone(device: str, channel: str) -> Match:
    """Return a matcher for the end of a device's presence at a channel."""
    return match("presence", from_=device, to=channel, type="unavailable")


def shown(show: str) -> Callable[[Stanza], bool]:
    """Return a test for presence with that `<show/>`."""
    return lambda stanza: stanza.text(f"{{{ns.CLIENT}}}show") == show
