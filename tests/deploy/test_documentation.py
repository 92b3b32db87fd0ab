"""The operator's pages name only what exists, and all that exists."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from harness.machines import REPOSITORY

from component.process.events import EVENTS
from schemas.settings import PREFIX, SECRETS, Settings

DEPLOY = REPOSITORY / "deploy"
PAGES = [REPOSITORY / "README.md", *sorted(DEPLOY.rglob("*.md"))]
FILES = [
    *PAGES,
    *(DEPLOY / name for name in ("docker-compose.yml", "Dockerfile", "image/health.py")),
    *sorted((DEPLOY / "systemd").iterdir()),
]
COMPOSE_VARIABLES = {"MIXPAM_IMAGE", "MIXPAM_UID", "MIXPAM_GID"}
"""Variables of the Compose file itself; the component never sees them."""


def load_tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", DEPLOY / "docs/tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLES = load_tables()


def text_of(paths: list[Path]) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


@pytest.mark.parametrize(("page", "name"), TABLES.BLOCKS)
def test_generated_tables_are_up_to_date(page: str, name: str) -> None:
    text = (DEPLOY / page).read_text(encoding="utf-8")
    assert TABLES.with_block(text, name, TABLES.BLOCKS[page, name]()) == text, (
        "run deploy/docs/tables.py"
    )


def settings() -> set[str]:
    names = {PREFIX + name.upper() for name in Settings.model_fields}
    return names | {f"{PREFIX}{name.upper()}_FILE" for name in SECRETS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_setting_named_exists(path: Path) -> None:
    named = set(re.findall(r"(?<![A-Z_])MIXPAM_[A-Z_]*[A-Z]", path.read_text(encoding="utf-8")))
    # ejabberd.yml's macro and the tests' own switch are no settings of the component.
    named -= COMPOSE_VARIABLES | {"MIXPAM_TEST_DEBUG"}
    assert named <= settings()


def test_every_setting_is_documented() -> None:
    text = text_of(PAGES)
    assert {name for name in settings() if name not in text} == set()


def test_every_command_named_exists() -> None:
    known = {name for name, _ in TABLES.leaves()}
    groups = {name.rpartition(" ")[0] for name in known}
    # Code, quoted or indented, that begins with the program or runs it by another.
    code = re.findall(r"`([^`\n]+)`|^ {4,}(.+)$", text_of(PAGES), re.MULTILINE)
    called = [
        words.split()
        for pair in code
        for words in re.findall(
            r"(?:^|bin/|exec component |\| )(mixpam [a-z]+(?: [a-z]+)?)", pair[0] or pair[1]
        )
    ]
    named = {" ".join(words[: 3 if " ".join(words[:2]) in groups else 2]) for words in called}
    assert {"mixpam check", "mixpam show link"} <= named, "the pattern finds nothing"
    assert named <= known


def test_every_option_named_exists() -> None:
    options = {
        option for _, command in TABLES.leaves() for each in command.params for option in each.opts
    } | {"--help", "--version"}
    named = set(re.findall(r"mixpam(?: [a-z]+){1,2}[^`\n|]*?(--[a-z-]+)", text_of(PAGES)))
    assert named
    assert named <= options


def test_every_event_named_exists() -> None:
    named = set(re.findall(r"events? `([a-z-]+)`", text_of(PAGES)))
    assert {"ready", "link-down"} <= named, "the pattern finds nothing"
    assert named <= set(EVENTS)


def test_every_metric_is_documented_and_every_metric_documented_is_exported() -> None:
    page = (DEPLOY / "docs/metrics.md").read_text(encoding="utf-8")
    table = {
        name: (kind, set(re.findall(r"`([a-z]+)`", labels)))
        for name, kind, labels in re.findall(
            r"^\| `(\w+)` \| (\w+) \| ([^|]+) \|", page, re.MULTILINE
        )
    }
    # What Prometheus will see: names of samples, not of families.
    exported = {
        sample.name: (family.type, set(sample.labels))
        for family in TABLES.exported()
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_sum", "_count"))
    }
    histograms = {family.name for family in TABLES.exported() if family.type == "histogram"}
    assert len(exported) > 30, "nothing was exported"
    assert table == exported | {name: ("histogram", set()) for name in histograms}


METRIC_USERS = [*PAGES, DEPLOY / "prometheus/alerts.yml", DEPLOY / "grafana/mixpam.json"]


def test_every_metric_named_exists() -> None:
    exported = {sample.name for family in TABLES.exported() for sample in family.samples}
    families = {family.name for family in TABLES.exported()}
    named = set(
        re.findall(r"(?<![a-z_])((?:mixpam|process)_[a-z_]*[a-z])\b", text_of(METRIC_USERS))
    )
    # Of the servers' configuration, the taps' tables, and a setting as it is not written.
    named -= {"mixpam_tap", "mixpam_component"}
    named -= {"mixpam_link", "mixpam_service", "mixpam_session", "mixpam_member"}
    named -= {"mixpam_members", "mixpam_online", "mixpam_secret"}
    assert {"mixpam_loop_lag_seconds_bucket", "process_cpu_seconds_total"} <= named
    assert named <= exported | families


@pytest.mark.parametrize("path", PAGES[1:], ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_reasons_of_a_lost_link_are_all_explained() -> None:
    from component.link.connection import _REMEDIES  # noqa: PLC0415 - private, and only here

    text = (DEPLOY / "docs/troubleshooting.md").read_text(encoding="utf-8")
    reasons = {
        reason
        for row in re.findall(r"^\| (`[^|]+`)(?: \*)? \|", text, re.MULTILINE)
        for reason in re.findall(r"`([a-z-]+)`", row)
    }
    missing = set(_REMEDIES) - reasons
    assert missing == set()


def test_what_check_is_said_to_say_it_says() -> None:
    page = (DEPLOY / "docs/troubleshooting.md").read_text(encoding="utf-8")
    quoted = {
        words
        for row in re.findall(r"^\|.*\|.*\|(.*)\|$", page, re.MULTILINE)
        for words in re.findall(r"`([^`]+)`", row)
        if not words.startswith("--")
    }
    assert {"nothing listens on", "no tap has said hello for"} <= quoted, "nothing found"
    sources = [
        *(REPOSITORY / "component/doctor").glob("*.py"),
        REPOSITORY / "component/store/trouble.py",
        REPOSITORY / "schemas/settings.py",
    ]
    # As one text where a literal is continued on the next line.
    code = re.sub(r"\"\n\s+f?\"", "", text_of(sorted(sources)))
    assert {words for words in quoted if words not in code} == set()


def sizing_rows() -> list[list[str]]:
    page = (DEPLOY / "docs/sizing.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows if row[0] != " what "]


def test_every_number_of_sizing_is_one_that_was_printed() -> None:
    figures = (REPOSITORY / "tests/benchmarks/README.md").read_text(encoding="utf-8")
    figures = figures.partition("\n## Figures\n")[2]
    date = re.search(r"\d{4}-\d\d-\d\d", figures)
    assert date is not None
    assert date[0] in (DEPLOY / "docs/sizing.md").read_text(encoding="utf-8")
    numbers = r"(?<![\w:.])\d[\d,]*(?:\.\d+)?(?![\w.:])"
    printed = set(re.findall(numbers, figures))
    rows = sizing_rows()
    assert len(rows) > 8, "no table was found"
    for _, number, beside, _ in rows:
        measured = {
            value
            for cell in (number, beside)
            for value in re.findall(rf"({numbers}) (?:bytes|MiB|s|ms|us)\b", cell)
        }
        assert measured, number
        assert measured <= printed, (number, beside)


def test_every_benchmark_of_sizing_can_be_run() -> None:
    from benchmarks.__main__ import BENCHMARKS  # noqa: PLC0415 - found below tests/ only

    commands = [command for *_, command in sizing_rows() if command != "the same"]
    assert commands
    for command in commands:
        called = re.fullmatch(r"`tests/benchmarks/run (\w+)((?: --\w+ \S+)*)`", command)
        assert called is not None, command
        assert called[1] in BENCHMARKS
        source = (REPOSITORY / f"tests/benchmarks/{called[1]}.py").read_text(encoding="utf-8")
        for option in re.findall(r"--\w+", called[2]):
            assert f'"{option}"' in source, command
