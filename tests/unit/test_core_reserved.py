"""What XML keeps to itself never leaves: a parser takes all that does, as it was meant."""

import xml.etree.ElementTree as ET

import pytest

from component.wire.reserved import without_reserved
from schemas.namespaces import XML

PLAIN = f"<message xml:lang='en'><body>xmlns='{XML}' &lt;x xmlns='{XML}'/></body></message>"


@pytest.mark.parametrize(
    "stanza",
    [
        f"<message><x xmlns='{XML}'/></message>",
        f'<message><x xmlns = "{XML}"><y xmlns="urn:y"/>text</x></message>',
        f"<message><x xmlns:ns1='{XML}' ns1:other='1' xmlns:ns2='{XML}' ns2:b='&gt;'/></message>",
        f"<message xmlns:ns1='{XML}' ns1:other='1' to='a>b'><body>b</body></message>",
    ],
)
def test_no_parser_refuses_what_leaves(stanza: str) -> None:
    with pytest.raises(ET.ParseError):
        ET.fromstring(stanza)
    whole = f"{PLAIN}{stanza}{PLAIN}{stanza}".encode()
    written = without_reserved(whole)
    root = ET.fromstring(b"<r>" + written + b"</r>")
    assert len(root) == 4
    assert written.count(PLAIN.encode()) == 2
    assert root[0][0].text == f"xmlns='{XML}' <x xmlns='{XML}'/>"


@pytest.mark.parametrize(
    "stanza", [PLAIN, f"<message><a href='{XML}' xmlns:xml='{XML}' xml:lang='de'/></message>"]
)
def test_what_is_right_stays_as_it_is(stanza: str) -> None:
    assert without_reserved(stanza.encode()) == stanza.encode()
