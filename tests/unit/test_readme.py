"""The front door tells the truth about settings, and its links lead somewhere."""

import ast
import re
from pathlib import Path

import pytest
from harness.machines import REPOSITORY
from harness.readme import BEGIN, END, README, dead_links, renewed


def test_the_settings_in_the_readme_are_current() -> None:
    text = README.read_text(encoding="utf-8")
    assert text == renewed(text), "stale: run PYTHONPATH=.:tests python -m harness.readme"


def test_a_stale_table_is_replaced_and_nothing_else() -> None:
    text = renewed(f"before\n{BEGIN}\n| `MIXPAM_OLD` | | gone |\n{END}\nafter\n")
    assert "MIXPAM_OLD" not in text
    assert "| `MIXPAM_SECRET` | required |" in text
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")


def test_without_marks_nothing_is_guessed() -> None:
    with pytest.raises(LookupError):
        renewed("no marks here")


def test_each_row_about_redis_is_a_test_and_each_test_a_row() -> None:
    _, _, section = README.read_text(encoding="utf-8").partition("## When Redis fails\n")
    rows = section.partition("\n## ")[0].splitlines()
    named = [row.split("|")[-2].strip(" `") for row in rows if row.startswith("|")][2:]
    source = REPOSITORY / "tests/scenarios/test_redis_faults.py"
    tree = ast.parse(source.read_text(encoding="utf-8"))
    functions = [each for each in tree.body if isinstance(each, ast.AsyncFunctionDef)]
    tests = [each.name for each in functions if each.name.startswith("test_")]
    assert sorted(named) == sorted(tests)


def test_what_is_promised_names_tests_that_exist() -> None:
    _, _, section = README.read_text(encoding="utf-8").partition("## What you can rely on\n")
    named = set(re.findall(r"`(test_\w+)`", section.partition("\n## ")[0]))
    sources = [path.read_text(encoding="utf-8") for path in REPOSITORY.glob("tests/*/test_*.py")]
    there = {name for source in sources for name in re.findall(r"def (test_\w+)\(", source)}
    assert len(named) > 10
    assert named <= there


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    assert dead_links(REPOSITORY / page) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[a](page.md) [b](gone.md#part) [c](https://example.org/) [d](#here)", "utf-8")
    assert dead_links(page) == ["gone.md"]
