"""The status page: one document that needs nothing else, in any browser.

It is made here, whole, so that it reads without JavaScript; with it, the parts that
change are fetched again and put in place. The policy allows only the page's own style
and script, by their hashes.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from component.http import parts
from component.http.person import person
from component.http.sources import Sources
from component.http.words import text


@dataclass(frozen=True, slots=True)
class Page:
    """A document and the Content-Security-Policy that it needs."""

    html: str
    policy: str


def _own(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    digest = b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"'sha256-{digest}'"


_STYLE: Final = _own("page.css")
_SCRIPT: Final = _own("page.js")
_POLICY: Final = (
    f"default-src 'none'; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)};"
    " connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
_GLYPH: Final = (
    '<svg class="glyph" viewBox="0 0 32 32" aria-hidden="true">'
    '<path d="M4 7 C16 7 14 16 28 16 M4 16 H28 M4 25 C16 25 14 16 28 16" fill="none"'
    ' stroke="currentColor" stroke-width="3" stroke-linecap="round"/></svg>'
)
_ICON: Final = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E"
    "%3Cpath d='M4 7C16 7 14 16 28 16M4 16H28M4 25C16 25 14 16 28 16' fill='none'"
    " stroke='%231c8a72' stroke-width='4' stroke-linecap='round'/%3E%3C/svg%3E"
)


def whole(sources: Sources, asked: str) -> Page:
    """Make the page; `asked` is what was typed into the search, or nothing."""
    made = _parts(sources, asked)
    component = text(sources.settings.component_jid)
    return _document(
        f"mixpam at {component}",
        f"<header>{_GLYPH}<h1>mixpam</h1><p class='quiet'>{component}</p></header>"
        '<p id="gone" class="state bad" role="alert" hidden><span class="dot"></span>'
        "<span>mixpam does not answer. What you see is what it said last.</span></p>"
        f"<main>{made['state']}{made['chain']}{made['numbers']}{made['charts']}"
        '<h2 id="find">Find a user</h2><form role="search" action="./" method="get">'
        '<input type="search" name="user" aria-labelledby="find" autocomplete="off"'
        f' spellcheck="false" placeholder="name@example.org" value="{text(asked)}">'
        f"<button>Show</button></form>{made['person']}"
        f"<h2>Last problems</h2>{made['problems']}</main>"
        "<footer class='quiet'><a href='metrics'>metrics</a> <a href='readyz'>readiness</a>"
        " <a href='api/link'>link as JSON</a></footer>"
        f"<script>{_SCRIPT}</script>",
        head='<noscript><meta http-equiv="refresh" content="10"></noscript>',
    )


def live(sources: Sources, asked: str) -> str:
    """Make only the parts that change."""
    return "".join(_parts(sources, asked).values())


def login(*, failed: bool) -> Page:
    """Make the page that asks for the token."""
    wrong = '<p class="state bad" role="alert"><span class="dot"></span>That is not it.</p>'
    return _document(
        "mixpam: token",
        f"<header>{_GLYPH}<h1>mixpam</h1></header><main class='login'>{wrong if failed else ''}"
        "<form action='login' method='post'><label for='token'>Token</label>"
        "<input type='password' id='token' name='token' required autofocus"
        " autocomplete='current-password'><button>Open</button></form>"
        "<p class='quiet'>It is the value of MIXPAM_HTTP_TOKEN.</p></main>",
    )


def _parts(sources: Sources, asked: str) -> dict[str, str]:
    made = {
        "state": parts.state(sources),
        "chain": parts.chain(sources),
        "numbers": parts.numbers(sources),
        "charts": parts.charts(sources),
        "person": person(sources.core, asked) if asked else "",
        "problems": parts.problems(sources),
    }
    return {
        name: f'<div id="{name}"{_polite(name)}>{content}</div>' for name, content in made.items()
    }


def _polite(name: str) -> str:
    return ' aria-live="polite"' if name in {"state", "person"} else ""


def _document(title: str, body: str, head: str = "") -> Page:
    return Page(
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta name='color-scheme' content='light dark'>"
        f'<title>{title}</title><link rel="icon" href="{_ICON}">{head}'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>",
        _POLICY,
    )
