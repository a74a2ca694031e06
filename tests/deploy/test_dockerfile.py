"""The Dockerfile and what reaches its build; tests/deploy/test_image.py builds and runs it."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BOOKWORM = 36  # its glibc is 2.36


def _instructions() -> list[tuple[str, str]]:
    """Return the instructions in order, continuation lines joined, comments dropped."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in text.splitlines() if line.strip()]


ALL = _instructions()
LAST = max(index for index, (word, _) in enumerate(ALL) if word == "FROM")
BUILD, FINAL = ALL[:LAST], dict(ALL[LAST:])


def test_known_instructions() -> None:
    """Every line begins with an instruction of the Dockerfile reference."""
    known = {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "LABEL", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL"}
    assert {word for word, _ in ALL} <= known | {"HEALTHCHECK", "ENTRYPOINT", "CMD"}


def test_base_is_an_argument() -> None:
    """Both stages stand on one base, of an exact minor version, that a build can pin by digest."""
    assert ALL[0] == ("ARG", "PYTHON=python:3.13-slim-bookworm")
    assert [value.split()[0] for word, value in ALL if word == "FROM"] == ["${PYTHON}", "${PYTHON}"]


def test_a_company_network() -> None:
    """The index of Python packages is an argument of the build alone, and without it pip has its own."""
    install = next(index for index, (word, value) in enumerate(BUILD) if word == "RUN" and "pip install" in value)
    assert BUILD[install - 1] == ("ARG", "PIP_INDEX_URL")
    assert not any("PIP_INDEX_URL" in value for _, value in ALL[LAST:])


@pytest.mark.parametrize(("extras", "wanted"), [("aws", ".[aws]"), ("aws,sigstore", ".[aws,sigstore]"), ("", ".")])
def test_parts_that_are_left_out(extras: str, wanted: str) -> None:
    """What pip installs in the build has the parts of `EXTRAS`; without any no brackets are left, which pip refuses."""
    line = next(value for word, value in BUILD if word == "RUN" and "pip install" in value)
    words = ["sh", "-c", "printf '%s\\n'" + line.partition("pip install")[2]]
    said = subprocess.run(words, env={"EXTRAS": extras}, capture_output=True, text=True, check=True, timeout=30)
    assert said.stdout.splitlines()[-1] == wanted


@pytest.mark.timeout(300)
def test_nothing_is_compiled_for_arm64(tmp_path: Path) -> None:
    """All that pip installs has a wheel for the image's Python on arm64, so that its build needs no compiler.

    The index is asked once for each change of what is installed: that takes half a minute. A build is too slow
    under emulation: tests/support/emulated.sh does it by hand.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = next(value.partition("=")[2] for word, value in BUILD if word == "ARG" and value.startswith("EXTRAS="))
    wanted = [*project["dependencies"], *(one for name in extras.split(",") for one in _extra(project, name))]
    version = ALL[0][1].partition("python:")[2].partition("-")[0]
    pins = ROOT / "constraints.txt"
    told = hashlib.sha256("\n".join([version, *wanted, pins.read_text()]).encode()).hexdigest()
    good = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mirrord-ci" / f"arm64-{told[:16]}"
    if good.exists():
        return
    platforms = [f"--platform=manylinux_2_{number}_aarch64" for number in range(17, BOOKWORM + 1)]
    python = ["--implementation=cp", f"--python-version={version}", "--only-binary=:all:", *platforms]
    options = ["--dry-run", "--ignore-installed", "--quiet", f"--target={tmp_path}", f"--constraint={pins}"]
    command = [sys.executable, "-m", "pip", "install", *options, *python, "--platform=manylinux2014_aarch64", *wanted]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    if said.returncode and "Retrying (" in said.stderr:
        pytest.skip("no index of Python packages can be reached (arm64-wheels)")
    assert said.returncode == 0, said.stderr[-2000:]
    good.parent.mkdir(parents=True, exist_ok=True)
    for old in good.parent.glob("arm64-*"):
        old.unlink()
    good.touch()


def _extra(project: dict[str, Any], name: str) -> list[str]:
    return list(project["optional-dependencies"][name])


def test_entrypoint() -> None:
    """Process 1 is an init that passes signals on; no shell is in between."""
    assert json.loads(FINAL["ENTRYPOINT"]) == ["tini", "--", "mirrord"]
    assert json.loads(FINAL["CMD"]) == ["serve", "-c", "/etc/mirrord/conf.d"]
    assert FINAL["STOPSIGNAL"] == "SIGTERM"
    options, _, command = FINAL["HEALTHCHECK"].partition(" CMD ")
    assert json.loads(command) == ["mirrord", "healthcheck"]
    assert "--timeout=10s" in options  # longer than the program itself waits


def test_environment() -> None:
    """It listens where a published port reaches it, and keeps its state in the volume."""
    environment = dict(pair.split("=", 1) for pair in FINAL["ENV"].split())
    assert environment["MIRRORD_LISTEN"] == f"0.0.0.0:{FINAL['EXPOSE']}"
    assert environment["STATE_DIRECTORY"] == FINAL["WORKDIR"] == "/var/lib/mirrord"
    assert environment["PATH"].startswith("/opt/mirrord/bin:")


def test_memory_is_given_back() -> None:
    """The image sets malloc up as the unit of systemd does, and as it was measured."""
    unit = (ROOT / "systemd" / "mirrord.service").read_text()
    wanted = re.findall(r"MALLOC_\w+=\d+", unit)
    assert len(wanted) == 2
    assert sorted(re.findall(r"MALLOC_\w+=\d+", FINAL["ENV"])) == sorted(wanted)
    page = (ROOT / "docs" / "explanation" / "performance.md").read_text()
    assert all(setting in page for setting in wanted)


COPIED = [name for word, value in BUILD if word == "COPY" for name in value.split()[:-1]]


@pytest.mark.parametrize("name", COPIED)
def test_copies_what_is_there(name: str) -> None:
    """What the build copies is in the repository and not held back by `.dockerignore`."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert (ROOT / name).exists()
    assert rules[0] == "*"
    assert f"!{name}" in rules


def test_copies_what_the_package_needs() -> None:
    """Every file that the package installs beside the program reaches its build; configuration of a user does not."""
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    wanted = [name for files in tables.values() for name in files if "*" not in name]
    assert len(wanted) >= 3
    assert [name for name in wanted if not any(Path(name).is_relative_to(copied) for copied in COPIED)] == []


@pytest.mark.parametrize("name", [".git", "conf.d", "state", ".env", "tests", "mirrord.db", "id_rsa"])
def test_nothing_else_reaches_the_builder(name: str) -> None:
    """State, configuration and secrets beside the sources stay away from the build."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert not any(fnmatch.fnmatch(name, rule.removeprefix("!")) for rule in rules)
