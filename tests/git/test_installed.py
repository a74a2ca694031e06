"""The git of the machine: who depends on it is told when it is missing or old."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.config.load import load_folder
from mirrord.daemon.lock import StateLock
from mirrord.daemon.runtime import open_runtime
from mirrord.events import Events
from mirrord.syncer.port import load_syncers
from mirrord.syncers.git import syncer
from mirrord.wire.git.version import outdated, remarks

GIT = "mirrors: [{name: app, kind: git, from: 'https://git.example/app.git', to: [local]}]"


@pytest.mark.parametrize(
    ("found", "old"),
    [
        ((2, 39, 5), True),
        ((2, 43, 6), True),
        ((2, 43, 7), False),
        ((2, 45, 3), True),
        ((2, 49, 0), True),
        ((2, 50, 0), True),
        ((2, 50, 1), False),
        ((2, 51), False),
        ((), True),
    ],
)
def test_versions_with_known_holes(found: tuple[int, ...], old: bool) -> None:
    """CVE-2025-48384 and its sisters are known by version; distributions patch older ones."""
    assert outdated(found) == old


@pytest.mark.parametrize(
    ("found", "mirrors", "expected"),
    [
        ((), 1, ("warning", "git is not installed, and 1 mirror needs it; install it (2.39 or newer)")),
        ((), 5, ("warning", "git is not installed, and 5 mirrors need it; install it (2.39 or newer)")),
        (
            (2, 30, 2),
            1,
            (
                "warning",
                "git 2.30.2 is too old to be held to the addresses that were checked; install 2.39 or newer",
            ),
        ),
        (
            (2, 39, 5),
            1,
            (
                "info",
                (
                    "git 2.39.5 needs the patches of your distribution for CVE-2025-48384, -48385 and -48386;"
                    " 2.50.1 has them"
                ),
            ),
        ),
        ((2, 50, 1), 1, None),
    ],
)
def test_remarks(found: tuple[int, ...], mirrors: int, expected: tuple[str, str] | None) -> None:
    """Each finding says what it is and what to do, and warns only of what is known to be wrong; a good git has none."""
    assert remarks(found, mirrors) == ((expected,) if expected else ())


async def notices(tmp_path: Path, text: str) -> tuple[tuple[str, str], ...]:
    """Open a runtime over a configuration, and return what the log says of it."""
    conf, state = tmp_path / "conf.d", tmp_path / "state"
    conf.mkdir()
    (conf / "a.yaml").write_text(text)
    configuration = load_folder(conf, load_syncers(), {})
    with StateLock(state):
        async with open_runtime(configuration, load_syncers(), state, Events()) as runtime:
            return runtime.notices


async def test_a_machine_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that opens with Git mirrors and no git says so at once, not when the first run fails."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await notices(tmp_path, GIT) == remarks((), 1)


async def test_nobody_pays_for_what_is_not_mirrored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Git mirrors nobody asks for the version."""
    monkeypatch.setattr(syncer, "version", lambda: pytest.fail("asked"))
    assert (
        await notices(
            tmp_path, "mirrors: [{name: app, kind: image, from: {repository: h.example/a, tags: [v1]}, to: [local]}]"
        )
        == ()
    )
