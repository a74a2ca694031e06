"""`asking:` as the program reads it: which images people may ask for, and one line for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.config.load import Configuration, read_folder
from mirrord.daemon.changes import changes_of
from mirrord.errors import ConfigError
from mirrord.model.request import ASKED
from mirrord.syncer.port import load_syncers

SYNCERS = load_syncers()
TARGETS = (
    "targets: {t: {kind: image, to: a.example/m}, dir: {kind: image, to: 'oci:/srv/x'}, g: {kind: git, to: /srv},"
    " one: {kind: image, to: 'a.example/{mirror}'}}"
)


def loaded(folder: Path, text: str) -> Configuration:
    (folder / "a.yaml").write_text(f"{text}\n{TARGETS}\n")
    return read_folder(folder, SYNCERS, {})


def test_nobody_may_ask_without_the_section(tmp_path: Path) -> None:
    """Nothing of it is on by default: there is no mirror for it either."""
    read = loaded(tmp_path, "asking:")
    assert (read.asking, read.mirrors) == (None, ())


def test_a_section(tmp_path: Path) -> None:
    """It makes a mirror that writes to the places in their order; patterns are names behind the aliases."""
    read = loaded(
        tmp_path,
        "asking: {to: [t, local], allow: [old.example/**, nginx], platforms: [linux/arm64/v8], limits: {an_hour: 5}}\n"
        "names: {aliases: {old.example: new.example}}\nsettings: {trust: 1h}",
    )
    assert read.asking
    assert [entry.text for entry in read.asking.allow] == ["new.example/**", "docker.io/library/nginx"]
    assert (read.asking.platforms, read.asking.an_hour, read.asking.waiting) == (("linux/arm64",), 5, 100)
    (mirror,) = read.mirrors
    assert mirror is read.asking.mirror
    assert (mirror.name, mirror.schedule, mirror.deadline, mirror.trust) == (ASKED, None, 3600.0, 3600.0)
    assert [target.name for target in mirror.targets] == ["t", "local"]
    assert read.asking.allows("new.example/a/b")
    assert not read.asking.allows("docker.io/library/redis")
    assert not any("t: no mirror writes" in notice for notice in read.notices)


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("{allow: [nginx]}", "asking.to: is missing"),
        ("{to: t}", "asking.allow: is missing"),
        ("{to: t, allow: []}", "asking.allow: is empty; write at least one, such as ["),
        ("{to: [t, nowhere], allow: nginx}", "asking.to[1]: 'nowhere' is not an image target; use one of: "),
        ("{to: g, allow: nginx}", "asking.to: 'g' is not an image target"),
        ("{to: [t, t], allow: nginx}", "asking.to[1]: 't' is listed twice; keep one of them"),
        ("{to: dir, allow: nginx}", "asking.to: 'dir' is a folder of this machine, from which no client pulls"),
        ("{to: t, allow: ['*']}", "asking.allow[0]: '*' has no registry before the wildcard"),
        ("{to: t, allow: nginx, platforms: [x86]}", "asking.platforms: "),
        ("{to: t, allow: nginx, rates: 5}", "asking.rates: unknown key; write limits: {an_hour: 30, waiting: 100}"),
        ("{to: t, allow: nginx, limits: {an_hour: 0}}", "asking.limits.an_hour: "),
        ("[t]", "asking: is not a mapping; write keys such as to: [local]"),
    ],
)
def test_mistakes(tmp_path: Path, section: str, problem: str) -> None:
    """Each mistake is one line with file, line, key and what to write."""
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, f"asking: {section}")
    (line,) = refused.value.problems
    assert line.startswith(f"{tmp_path}/a.yaml:1: {problem}")


def test_its_mirror_has_its_name_alone(tmp_path: Path) -> None:
    """A mirror of the same name is refused, and only where people may ask."""
    mirror = f"mirrors: [{{name: {ASKED}, kind: image, from: {{repository: redis}}, to: t}}]"
    assert loaded(tmp_path, mirror).mirrors[0].name == ASKED
    with pytest.raises(ConfigError, match=f"asking: what people ask for is copied by a mirror called {ASKED}.*rename"):
        loaded(tmp_path, f"asking: {{to: t, allow: nginx}}\n{mirror}")


def test_a_target_needs_room_for_names(tmp_path: Path) -> None:
    """One repository for all images is refused at the line of the target."""
    with pytest.raises(ConfigError, match=r"a.yaml:2: targets\.one\.to: .*one repository for all images"):
        loaded(tmp_path, "asking: {to: one, allow: nginx}")


def test_a_reload_names_the_section(tmp_path: Path) -> None:
    """Another pattern is a change that a reload reports."""
    before, after = (loaded(tmp_path, f"asking: {{to: t, allow: {name}}}") for name in ("nginx", "redis"))
    assert changes_of(before, after, before).taken == ("asking",)
