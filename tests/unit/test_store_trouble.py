"""What is said of errors that a real Redis can hardly be made to raise."""

import errno

import pytest
from redis.exceptions import ConnectionError, ResponseError  # noqa: A004 - redis-py's names

from component.store.trouble import FAILURES, explain


def test_a_transport_that_was_closed_before_we_wrote_is_a_connection_that_ended() -> None:
    error = RuntimeError(
        "unable to perform operation on <TCPTransport closed=True reading=False 0x37>;"
        " the handler is closed"
    )
    assert isinstance(error, FAILURES)
    assert explain(error).kind == "closed"


@pytest.mark.parametrize("kind", [Exception, OSError, RuntimeError, ValueError, ResponseError])
@pytest.mark.parametrize("text", ["WHATEVER {}", "{}", "MISCONF {}", "X" * 4000 + "{}", "the '{}'"])
def test_what_an_error_says_is_never_repeated(kind: type[Exception], text: str) -> None:
    said = repr(explain(kind(text.format("anna@a.example"))))
    assert "anna" not in said
    assert len(said) < 600


@pytest.mark.parametrize("how", ["{}", "Command # 1 (HSET a b) of pipeline caused error: ('{}',)"])
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("DENIED Redis is running in protected mode", "protected"),
        ("MISCONF Redis is configured to save RDB snapshots", "disk"),
        ("TRYAGAIN Multiple keys request during rehashing", "cluster"),
        ("NOREPLICAS Not enough good replicas to write.", "no-replicas"),
        ("max number of clients + cluster connections reached", "clients"),
    ],
)
def test_the_code_tells_also_where_a_command_stands_before_it(
    how: str, text: str, kind: str
) -> None:
    assert explain(ResponseError(how.format(text))).kind == kind


def test_too_many_open_files_are_told_apart() -> None:
    error = ConnectionError("Error 24 connecting to redis:6379. Too many open files.")
    assert explain(error).kind == "files"
    wrapped = ConnectionError("x")
    wrapped.__cause__ = OSError(errno.EMFILE, "Too many open files")
    assert explain(wrapped).kind == "files"
    assert "LimitNOFILE" in explain(wrapped).remedy
