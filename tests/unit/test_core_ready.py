"""Lines: what is kept ready is always what would be made now."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from driver import ANNA, BEN, COVEN, MIX
from hypothesis import given
from hypothesis import strategies as st

from component.core.users import routes
from component.core.users.mirror import Membership, Mirror, Row, Waiting
from component.core.users.packed import CODE, OFF
from component.core.users.routes import EITHER, MIXED, NUMBER, ONLY_0, ONLY_1
from component.core.users.sessions import Common, Speaks
from component.wire.framing import Frame
from schemas import jid

ROOM = f"room@{MIX}"


class Kept(Waiting):
    """Keeps everything back."""

    def take(self, frame: Frame) -> None:
        """Keep it."""


def membership(channel: str) -> Membership:
    """Make a membership in a channel."""
    return Membership(jid.parse(channel), "1", None, (), 1, shares_presence=True)


def read(common: Common, line: bytes) -> tuple[set[bytes], set[tuple[int, bytes]]]:
    """Take a line apart: channels, and targets with their kinds."""
    codes, _, rest = line[1:].partition(OFF)
    channels = {common.channels.values[codes[at : at + CODE]] for at in range(0, len(codes), CODE)}
    targets = rest.split(OFF) if rest else []
    kind = line[0] & ~NUMBER
    if kind == MIXED:
        return channels, {(target[0], target[1:]) for target in targets}
    assert line[0] & NUMBER == len(targets)
    return channels, {(kind, target) for target in targets}


def expected(row: Row) -> tuple[set[bytes], set[tuple[int, bytes]]]:
    """Tell the same of a row, by what it says of itself."""
    every, only_0, only_1 = row.copies
    kinds = {**dict.fromkeys(every, EITHER), **dict.fromkeys(only_0, ONLY_0)}
    kinds.update(dict.fromkeys(only_1, ONLY_1))
    return set(row.channels), {(kind, target) for target, kind in kinds.items()}


class Step(NamedTuple):
    """Something that happens to a user."""

    what: str
    user: str
    channel: str
    resource: str
    speaks: Speaks


DO: dict[str, Callable[[Mirror, Row, Step], object]] = {
    "join": lambda mirror, row, step: mirror.join(row.jid, membership(step.channel)),
    "leave": lambda mirror, row, step: mirror.part(row.jid, jid.parse(step.channel)),
    "come": lambda _, row, step: setattr(
        row.devices.come(step.resource, b"<presence/>"), "speaks", step.speaks
    ),
    "go": lambda _, row, step: row.devices.end(step.resource),
    "hold": lambda _, row, step: row.hold(step.channel.encode(), Kept()),
    "let go": lambda _, row, step: (
        row.let_go(step.channel.encode()) if step.channel.encode() in row.holding else None
    ),
    "drop": lambda _, row, __: row.drop_activity(),
    "lost": lambda mirror, row, _: mirror.link_lost(row),
    "show": lambda _, row, step: row.show(step.resource, "digest" if step.speaks else None),
    "tidy": lambda mirror, row, _: mirror.tidy(row.jid),
}

STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(sorted(DO)),
        st.sampled_from((ANNA, BEN)),
        st.sampled_from((COVEN, ROOM)),
        st.sampled_from(("a", "b\u00e4&'")),
        st.sampled_from((Speaks.NOTHING, Speaks.CORE_0, Speaks.CORE_1, Speaks.MIX)),
    ),
    max_size=40,
)


@given(STEPS)
def test_a_line_is_always_true(steps: list[Step]) -> None:
    mirror = Mirror()
    for step in steps:
        DO[step.what](mirror, mirror.row(jid.parse(step.user)), step)
        for user in (ANNA, BEN):
            row, line = mirror.find(jid.parse(user)), mirror.line(user.encode())
            if row is None or row.holding:
                assert line is None
                assert user.encode() not in mirror.lines
            else:
                assert line is not None
                assert read(mirror.common, line) == expected(row)
            assert row is None or row.targets == row.copies
    mirror.clear()
    assert not mirror.lines


def test_two_mirrors_know_nothing_of_each_other() -> None:
    mirrors = Mirror(), Mirror()
    mirrors[0].join(jid.parse(ANNA), membership(COVEN))
    mirrors[1].row(jid.parse(ANNA))
    for mirror, channels in zip(mirrors, ({COVEN.encode()}, set()), strict=True):
        line = mirror.line(ANNA.encode())
        assert line is not None
        assert read(mirror.common, line)[0] == channels
    assert not mirrors[1].common.channels
    assert not mirrors[1].common.states
    mirrors[0].clear()
    assert not mirrors[0].common.channels


@pytest.mark.parametrize("number", [0, 1, 9, 10, 11, 300])
@pytest.mark.parametrize("kind", [EITHER, ONLY_0, ONLY_1])
def test_any_number_of_targets_can_be_told(number: int, kind: int) -> None:
    common = Common()
    code = common.channels.take(COVEN.encode())
    targets = [(kind, b"anna@example.org/%d" % each) for each in range(number)]
    line = routes.line(code, targets)
    assert line.find(OFF) == len(code) + 1
    assert read(common, line) == ({COVEN.encode()}, set(targets))


def test_only_so_many_are_kept() -> None:
    lines: routes.Lines = {}
    for number in range(routes.MOST + 1):
        assert routes.keep(lines, b"%d" % number, b"line") == b"line"
        assert len(lines) <= routes.MOST
    assert lines == {b"%d" % routes.MOST: b"line"}
