"""Logins of `mixpam check`: the strongest mechanism, and a server that does not keep to SCRAM.

Of the kind: whatever a server answers, the check says in one line what was wrong.
"""

import base64
import xml.etree.ElementTree as ET

import pytest

from component.doctor.sasl import MAX_ITERATIONS, NAMESPACE, LoginFailed, authenticate

SCRAM = "SCRAM-SHA-1"


class Server:
    """Answers by a list; `nonce` in an answer becomes the client's with something behind it."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.heard: list[ET.Element] = []
        self.nonce = ""

    async def ask(self, data: bytes) -> ET.Element:
        """Take an element, and give the next answer."""
        element = ET.fromstring(data)
        self.heard.append(element)
        said = base64.b64decode(element.text or "").decode()
        if "r=" in said and not self.nonce:
            self.nonce = said.partition("r=")[2] + "x"
        kind, _, payload = self.answers.pop(0).partition(" ")
        made = ET.Element(f"{{{NAMESPACE}}}{kind}")
        if kind == "failure":
            ET.SubElement(made, f"{{{NAMESPACE}}}{payload}")
        elif payload:
            made.text = base64.b64encode(payload.replace("nonce", self.nonce).encode()).decode()
        return made

    @property
    def mechanism(self) -> str | None:
        """The mechanism that was chosen."""
        return self.heard[0].get("mechanism")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ({"PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"}, "SCRAM-SHA-256"),
        ({"PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-512"}, "SCRAM-SHA-1"),
        ({"PLAIN", "X-OAUTH2"}, "PLAIN"),
    ],
)
async def test_the_strongest_mechanism_is_taken(offered: set[str], chosen: str) -> None:
    server = Server("failure not-authorized")
    with pytest.raises(LoginFailed, match="wrong user name or password"):
        await authenticate(server.ask, offered, "romeo", "secret")
    assert server.mechanism == chosen
    assert b"secret" not in base64.b64decode(server.heard[0].text or "") or chosen == "PLAIN"


async def test_plain() -> None:
    server = Server("success")
    await authenticate(server.ask, {"PLAIN"}, "romeo", "secret")
    assert base64.b64decode(server.heard[0].text or "") == b"\0romeo\0secret"


async def test_a_password_that_saslprep_does_not_know_goes_by_plain() -> None:
    server = Server("success")
    await authenticate(server.ask, {"PLAIN", SCRAM}, "romeo", "\N{SLIGHTLY SMILING FACE}")
    assert server.mechanism == "PLAIN"


async def test_nothing_that_can_be_used() -> None:
    for offered in (set[str](), {"EXTERNAL"}):
        with pytest.raises(LoginFailed, match="no SASL mechanism"):
            await authenticate(Server().ask, offered, "romeo", "secret")


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (["failure account-disabled"], "account-disabled"),
        (["proceed"], "proceed"),
        (["success"], "protocol violation"),
        (["challenge"], "protocol violation"),
        (["challenge nonsense"], "cannot be used"),
        (["challenge r=nonce,s=c2FsdA==,i=many"], "cannot be used"),
        ([f"challenge r=nonce,s=c2FsdA==,i={MAX_ITERATIONS + 1}"], "cannot be used"),
        (["challenge r=another,s=c2FsdA==,i=4096"], "nonce"),
        (["challenge r=nonce,s=c2FsdA==,i=1"], "minimum iteration count"),
        (["challenge r=nonce,s=c2FsdA==,i=4096", "success"], "protocol violation"),
        (["challenge r=nonce,s=c2FsdA==,i=4096", "success e=other-error"], "cannot be used"),
        (["challenge r=nonce,s=c2FsdA==,i=4096", "success v=x"], "cannot be used"),
        (["challenge r=nonce,s=c2FsdA==,i=4096", "success v=c2FsdA=="], "signature invalid"),
        (["challenge r=nonce,s=c2FsdA==,i=4096", "failure not-authorized"], "wrong user name"),
    ],
)
async def test_a_server_that_does_not_keep_to_scram(answers: list[str], words: str) -> None:
    with pytest.raises(LoginFailed, match=words):
        await authenticate(Server(*answers).ask, {SCRAM, "PLAIN"}, "romeo", "secret")
