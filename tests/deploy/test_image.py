"""What the image is made of agrees with what the package asks for."""

import configparser
import re

from harness.machines import REPOSITORY
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

DEPLOY = REPOSITORY / "deploy"
PINS = ("requirements.txt", "deploy/demo.d/requirements.txt", "tests/requirements.txt")


def pinned() -> dict[str, Version]:
    text = "".join((REPOSITORY / name).read_text(encoding="utf-8") for name in PINS)
    found = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in found}


def test_pinned_versions_are_what_setup_cfg_allows() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(REPOSITORY / "setup.cfg")
    lines = parser["options"]["install_requires"].splitlines()
    lines += parser["options.extras_require"]["test"].splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert len(wanted) > 5
    pins = pinned()
    for each in wanted:
        assert pins[canonicalize_name(each.name)] in each.specifier, f"{each}: run deploy/lock.py"


def test_what_is_not_python_is_shipped_too() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(REPOSITORY / "setup.cfg")
    for package, patterns in parser["options.package_data"].items():
        root = REPOSITORY / package
        shipped = {path for each in patterns.split(",") for path in root.glob(each.strip())}
        others = {
            path
            for path in root.rglob("*")
            if path.is_file() and path.suffix not in {".py", ".pyc"}
        }
        assert others == shipped, f"setup.cfg, options.package_data: {package}"


def test_everything_pinned_has_a_hash() -> None:
    for name in (*PINS, "deploy/image/build.txt"):
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
        assert entries
        for entry in entries:
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry


def test_python_of_the_image_is_one_that_is_supported() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    base = re.search(r"^ARG BASE=python:(\d+\.\d+)-slim", text, re.MULTILINE)
    assert base is not None
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(REPOSITORY / "setup.cfg")
    requires = Requirement(f"python{parser['options']['python_requires']}")
    assert Version(base[1]) in requires.specifier
    scripts = "".join(path.read_text() for path in (DEPLOY / "image").glob("*.sh")) + text
    assert set(re.findall(r"python(3\.\d+)", scripts)) == {base[1]}


def test_the_build_sees_all_that_it_copies() -> None:
    allowed = re.findall(r"^!(\S+)", (REPOSITORY / ".dockerignore").read_text(), re.MULTILINE)
    copied = re.findall(
        r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE
    )
    sources = [source for line in copied for source in line.split()]
    assert "component" in sources
    for source in sources:
        assert (REPOSITORY / source).exists()
        assert any(source == each or source.startswith(f"{each}/") for each in allowed), source
