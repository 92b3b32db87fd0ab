"""Counts the bytes that the framer looks at, which no clock's mood can change."""

import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any
from unittest import mock

from component.wire import ending, framing


class Work:
    """The sum of all bytes that searches passed over."""

    def __init__(self) -> None:
        self.bytes = 0

    @classmethod
    def of(cls, chunks: list[bytes]) -> int:
        """Give the work that these chunks make."""
        work = cls()
        with (
            mock.patch.multiple(framing, create=True, **work._stand_ins(framing)),
            mock.patch.multiple(ending, create=True, **work._stand_ins(ending)),
        ):
            framer = framing.Framer(1_000_000)
            for chunk in chunks:
                for _ in framer.feed(work._bytes(chunk)):
                    pass
        return work.bytes

    def _stand_ins(self, module: ModuleType) -> dict[str, Any]:
        stand_ins: dict[str, Any] = {
            name: _Pattern(self, value)
            for name, value in vars(module).items()
            if isinstance(value, re.Pattern) and name != "ATTRIBUTE"
        }
        if module is framing:
            return {**stand_ins, "bytearray": lambda data=b"": self._found_in(bytearray, data)}
        marks, passed = ending._marks, ending._PASSED
        return {
            **stand_ins,
            "_PASSED": {state: _Pattern(self, pattern) for state, pattern in passed.items()},
            "_marks": lambda name: _Pattern(self, marks(name)),
        }

    def _bytes(self, data: bytes) -> Any:
        return self._found_in(bytes, data)

    def _found_in(self, kind: type, data: bytes) -> Any:
        work = self

        class Counting(kind):
            def find(self, what: bytes, start: int = 0, end: int | None = None) -> int:
                end = len(self) if end is None else end
                found = int(kind.find(self, what, start, end))
                work.bytes += (found if found >= 0 else end) - start + 1
                return found

        return Counting(data)


class _Pattern:
    """A pattern that counts; what does not match is taken to have been looked through."""

    def __init__(self, work: Work, pattern: re.Pattern[bytes]) -> None:
        self._work = work
        self._pattern = pattern

    def _counted(self, match: re.Match[bytes] | None, data: Any, start: int) -> Any:
        self._work.bytes += (len(data) if match is None else match.end()) - start + 1
        return match

    def search(self, data: Any, start: int) -> Any:
        return self._counted(self._pattern.search(data, start), data, start)

    def match(self, data: Any, start: int = 0) -> Any:
        return self._counted(self._pattern.match(data, start), data, start)

    def fullmatch(self, data: Any, start: int, end: int) -> Any:
        return self._counted(self._pattern.fullmatch(data, start, end), data, start)

    def finditer(self, data: Any, start: int) -> Iterator[re.Match[bytes]]:
        for match in self._pattern.finditer(data, start):
            self._work.bytes += match.end() - start
            start = match.end()
            yield match
        self._work.bytes += len(data) - start + 1
