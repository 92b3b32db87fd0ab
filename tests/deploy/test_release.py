"""A release is of one piece: version, changelog, table and taps agree, and an archive has all."""

import re
import subprocess
import tarfile
from io import BytesIO

import pytest
from harness.machines import REPOSITORY

from component import __version__
from component.core.taps import PROTOCOL_VERSION
from component.doctor.advice import TAP

PAGE = "deploy/docs/releases.md"


def text(path: str) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")


def number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def sections() -> list[tuple[str, str]]:
    """Give the changelog's versions with their dates, as they come."""
    found = re.findall(r"^## (.+)$", text("CHANGELOG.md"), re.MULTILINE)
    assert found[0] == "Unreleased"
    parted = [title.partition(" - ") for title in found[1:]]
    return [(version, date) for version, _, date in parted]


def rows() -> list[list[str]]:
    """Give the table's rows: component, tap, protocol and more."""
    lines = re.findall(r"^\| (\d.*) \|$", text(PAGE), re.MULTILINE)
    return [[cell.strip(" `") for cell in line.split("|")] for line in lines]


def test_the_changelog_leads_to_this_version() -> None:
    versions = [version for version, _ in sections()]
    assert versions[0] == __version__
    assert versions == sorted(versions, key=number, reverse=True)
    for version, date in sections():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", date)


def test_the_sections_of_a_version_are_those_of_the_format() -> None:
    kinds = ["Security", "Added", "Changed", "Deprecated", "Removed", "Fixed"]
    for part in re.split(r"^## ", text("CHANGELOG.md"), flags=re.MULTILINE)[1:]:
        titles = re.findall(r"^### (.+)$", part, re.MULTILINE)
        assert titles == [kind for kind in kinds if kind in titles], part.splitlines()[0]


def test_the_table_has_every_version_and_its_tap() -> None:
    assert [row[0] for row in rows()] == [version for version, _ in sections()]
    assert rows()[0][:3] == [__version__, TAP, f"mixpam:tap:{PROTOCOL_VERSION}"]


def test_both_taps_are_the_one_that_comes_with_this_version() -> None:
    lua = re.findall(r'tap = "([\d.]+)"', text("deploy/prosody/mod_mixpam_tap.lua"))
    erlang = re.findall(
        r'VERSION, <<"([\d.]+)">>', text("deploy/ejabberd/src/mod_mixpam_tap_link.erl")
    )
    assert lua == erlang == [TAP]
    assert re.search(
        rf"^\| {re.escape(TAP)} \| this \|", text("deploy/docs/upgrading.md"), re.MULTILINE
    )


def test_what_python_may_run_it_is_said_once() -> None:
    requires = re.search(r"python_requires = >=3\.(\d+),<3\.(\d+)", text("setup.cfg"))
    assert requires is not None
    assert rows()[0][5] == f"3.{requires[1]} to 3.{int(requires[2]) - 1}"


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="this is no checkout")
def test_an_archive_has_all_that_is_installed_from_it() -> None:
    made = subprocess.run(
        ["git", "archive", "--format=tar", f"--prefix=mixpam-{__version__}/", "HEAD"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    )
    with tarfile.open(fileobj=BytesIO(made.stdout)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {
        "CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", "requirements.txt", "setup.cfg",
        "deploy/Dockerfile", "deploy/demo", "deploy/first-message", "deploy/tap-protocol.md",
        "deploy/systemd/mixpam.service", "deploy/redis/users.acl",
        "component/http/page.css", "component/http/templates/page.html", "component/py.typed",
    }  # fmt: skip
    needed |= {
        str(path.relative_to(REPOSITORY))
        for folder in ("deploy/prosody", "deploy/ejabberd")
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file() and path.suffix != ".beam"
    }
    assert needed - names == set()
