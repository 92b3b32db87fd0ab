"""Stanzas as received over the wire, and matchers for them."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness import ns

WRAPPERS = {
    wrapper: f"<w xmlns='{wrapper}' xmlns:stream='{ns.STREAM}'>%s</w>"
    for wrapper in (ns.CLIENT, ns.COMPONENT)
}


def parse(raw: str, default: str = ns.CLIENT) -> ET.Element:
    """Parse one element; names without a prefix are in `default`."""
    return ET.fromstring(WRAPPERS[default] % raw)[0]


@dataclass(frozen=True)
class Stanza:
    """One stanza: `raw` as received (str), `xml` parsed.

    Component streams have stanzas in another namespace than client streams; `xml` is
    always in jabber:client, so that a test reads the same on both.
    """

    raw: str
    xml: ET.Element

    @classmethod
    def of(cls, raw: str) -> "Stanza":
        """Make a stanza from its text."""
        return cls(raw, parse(raw.replace(ns.COMPONENT, ns.CLIENT)))

    @property
    def name(self) -> str:
        """Return the local name: message, presence, iq, or a nonza's."""
        return self.xml.tag.rpartition("}")[2]

    def __getitem__(self, attribute: str) -> str:
        """Return an attribute's value, '' when it is absent."""
        return self.xml.get(attribute, "")

    def find(self, path: str) -> ET.Element | None:
        """Return the first element at an ElementTree path ('{ns}a/{ns}b')."""
        return self.xml.find(path)

    def need(self, path: str) -> ET.Element:
        """Return the first element at a path. Raises AssertionError when absent."""
        element = self.xml.find(path)
        assert element is not None, f"no {path} in {self.raw}"
        return element

    def all(self, path: str) -> list[ET.Element]:
        """Return all elements at a path."""
        return self.xml.findall(path)

    def text(self, path: str) -> str | None:
        """Return the text of the first element at a path."""
        return self.xml.findtext(path)

    @property
    def body(self) -> str | None:
        """Return the text of `<body/>`."""
        return self.xml.findtext(f"{{{ns.CLIENT}}}body")

    @property
    def condition(self) -> str | None:
        """Return the defined condition of the stanza error."""
        error = self.xml.find(f"{{{ns.CLIENT}}}error")
        if error is None:
            return None
        for child in error:
            space, _, name = child.tag[1:].partition("}")
            if space == ns.STANZAS and name != "text":
                return name
        return None


@dataclass(frozen=True)
class Match:
    """A condition for stanzas, printable in a test's failure."""

    name: str | None = None
    attributes: dict[str, str | None] = field(default_factory=dict)
    has: str | None = None
    body: str | None = None
    test: Callable[[Stanza], bool] | None = None

    def __call__(self, stanza: Stanza) -> bool:
        """Tell whether `stanza` matches."""
        return (
            (self.name is None or stanza.name == self.name)
            and all(stanza.xml.get(key) == value for key, value in self.attributes.items())
            and (self.has is None or stanza.find(self.has) is not None)
            and (self.body is None or stanza.body == self.body)
            and (self.test is None or bool(self.test(stanza)))
        )


def match(
    name: str | None = None,
    *,
    has: str | None = None,
    body: str | None = None,
    test: Callable[[Stanza], bool] | None = None,
    **attributes: Any,
) -> Match:
    """Describe a stanza by name, attributes, an element path it `has`, `body`, a `test`.

    `from_` stands for the attribute `from`; a value of None means that it must be absent.
    """
    return Match(
        name,
        {
            key.rstrip("_"): None if value is None else str(value)
            for key, value in attributes.items()
        },
        has,
        body,
        test,
    )


def canonical(element: ET.Element, *, ignore: frozenset[str] = frozenset()) -> Any:
    """Return a comparable form, without attribute and child order and without `ignore` (tags).

    ejabberd re-encodes routed stanzas and may reorder their children.
    """
    return (
        element.tag,
        tuple(sorted(element.attrib.items())),
        (element.text or "").strip(),
        tuple(sorted(canonical(c, ignore=ignore) for c in element if c.tag not in ignore)),
    )
