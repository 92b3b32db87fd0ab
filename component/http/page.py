"""The status page: one self-contained document, for any browser.

It works without JavaScript; with it, the parts that change are fetched again and replaced. The
policy allows only the page's own style and script, by their hashes. The templates escape every
value, so that a stranger's text stays text.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from component.core.machine import Core
from component.http import format as formats
from component.http.charts import charts
from component.http.sources import Sources
from component.http.watch import utc_now
from component.operator.tables import of_user
from component.operator.views import UserView, describe_user
from schemas import jid


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
_ICON: Final = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E"
    "%3Cpath d='M4 7C16 7 14 16 28 16M4 16H28M4 25C16 25 14 16 28 16' fill='none'"
    " stroke='%231c8a72' stroke-width='4' stroke-linecap='round'/%3E%3C/svg%3E"
)


def _environment() -> Environment:
    """Compile the templates: at import, because it would block the event loop later."""
    made = Environment(
        loader=PackageLoader(str(__package__)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(formats.FILTERS)
    made.globals.update(
        nothing=formats.NOTHING,
        icon=_ICON,
        # mixpam's own files, allowed by their hashes in the policy: not to be escaped.
        style=Markup(_STYLE),  # noqa: S704
        script=Markup(_SCRIPT),  # noqa: S704
    )
    for name in made.list_templates():
        made.get_template(name)
    return made


_TEMPLATES: Final = _environment()


def whole(sources: Sources, asked: str) -> Page:
    """Render the page; `asked` is the search's text, or empty."""
    return Page(_render("page.html", sources, asked), _POLICY)


def live(sources: Sources, asked: str) -> str:
    """Render only the parts that change."""
    return _render("live.html", sources, asked)


def login(*, failed: bool) -> Page:
    """Render the page that asks for the token."""
    return Page(_TEMPLATES.get_template("login.html").render(failed=failed), _POLICY)


def _render(template: str, sources: Sources, asked: str) -> str:
    user, trouble = _search(sources.core, asked)
    return _TEMPLATES.get_template(template).render(
        sources=sources,
        now=utc_now(),
        charts=charts(sources.samples),
        asked=asked,
        user=user,
        tables=() if user is None else of_user(asdict(user)),
        trouble=trouble,
    )


def _search(core: Core, asked: str) -> tuple[UserView | None, str]:
    """Find the user with the address `asked`, or the reason why there is nothing to show."""
    try:
        user = jid.parse(asked).bare
    except ValueError:
        user = None
    if user is None or user.local is None:
        return None, f"“{asked}” is no user's address; they look like name@example.org."
    view = describe_user(core, user)
    if not view.local:
        return None, f"{view.user} is not on a domain that mixpam serves."
    if not view.known:
        return None, f"{view.user} is offline and in no channel, or does not exist."
    return view, ""
