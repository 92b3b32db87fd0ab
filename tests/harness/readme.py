"""Put the table of settings into README.md, made from the settings model.

Run as ``PYTHONPATH=.:tests python -m harness.readme``; a test fails while it is stale.
"""

import re
import sys
from pathlib import Path
from typing import Final

from harness.machines import REPOSITORY
from schemas.settings import table

README: Final = REPOSITORY / "README.md"
BEGIN: Final = "<!-- settings:begin -->"
END: Final = "<!-- settings:end -->"
LINK: Final = re.compile(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)")


def renewed(text: str) -> str:
    """Return the Markdown `text` with the current table. Raises LookupError without marks."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise LookupError(f"README.md has no {BEGIN} and {END}")
    return f"{head}{BEGIN}\n{table()}{END}{tail}"


def dead_links(page: Path) -> list[str]:
    """Return the relative links of a Markdown page that lead nowhere."""
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    return [target for target in targets if not (page.parent / target).exists()]


def main() -> int:
    """Renew README.md."""
    README.write_text(renewed(README.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
