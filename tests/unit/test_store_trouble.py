"""What is said of errors that a real Redis can hardly be made to raise."""

from component.store.trouble import FAILURES, explain


def test_a_transport_that_was_closed_before_we_wrote_is_a_connection_that_ended() -> None:
    error = RuntimeError(
        "unable to perform operation on <TCPTransport closed=True reading=False 0x37>;"
        " the handler is closed"
    )
    assert isinstance(error, FAILURES)
    assert explain(error).kind == "closed"
