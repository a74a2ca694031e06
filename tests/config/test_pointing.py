"""`pointing:` as the program reads it: where users are pointed at, and one line for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.config.load import Configuration, read_folder
from mirrord.config.pointing import Pointing
from mirrord.daemon.changes import changes_of
from mirrord.errors import ConfigError
from mirrord.syncer.port import load_syncers

SYNCERS = load_syncers()
TARGETS = "targets: {t: {kind: image, to: a.example/m}, dir: {kind: image, to: 'oci:/srv/x'}, g: {kind: git, to: /srv}}"


def loaded(folder: Path, text: str) -> Configuration:
    (folder / "a.yaml").write_text(f"{text}\n{TARGETS}\n")
    return read_folder(folder, SYNCERS, {})


def test_a_section(tmp_path: Path) -> None:
    """Places keep their order, one may stand without a list, and exceptions are names behind the aliases."""
    read = loaded(tmp_path, "pointing: {to: [t, local], policy: always, except: [old.example/**, nginx]}\n"
                  "names: {aliases: {old.example: new.example}}")  # fmt: skip
    assert (read.pointing.to, read.pointing.policy) == (("t", "local"), "always")
    assert [entry.text for entry in read.pointing.excepted] == ["new.example/**", "docker.io/library/nginx"]
    assert loaded(tmp_path, "pointing: {to: t, except: ghcr.io/a/b}").pointing.to == ("t",)


def test_without_a_section_the_mirror_is_asked(tmp_path: Path) -> None:
    """The policy is `present`, and no place is chosen yet."""
    assert loaded(tmp_path, "").pointing == loaded(tmp_path, "pointing:").pointing == Pointing((), "present", ())


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("{to: [t, nowhere]}", "pointing.to[1]: 'nowhere' is not an image target; use one of: local, t"),
        ("{to: tt}", "pointing.to: 'tt' is not an image target; did you mean 't'?"),
        ("{to: g}", "pointing.to: 'g' is not an image target; use one of: local, t"),
        ("{to: [t, t]}", "pointing.to[1]: 't' is listed twice; keep one of them"),
        ("{to: front}", "pointing.to: there is no front for images; write front: {image: …}, or name a target"),
        ("{to: dir}", "pointing.to: 'dir' is a folder of this machine, from which no client pulls; name a registry"),
        ("{policy: exists}", "pointing.policy: 'exists' is not allowed; use one of: always, listed, present"),
        ("{targets: [t]}", "pointing.targets: unknown key; write to:"),
        ("{exclude: [a]}", "pointing.exclude: unknown key; write except:"),
        ("{except: ['*']}", "pointing.except[0]: '*' has no registry before the wildcard"),
        ("[t]", "pointing: is not a mapping; write keys such as to: [front]"),
    ],
)
def test_mistakes(tmp_path: Path, section: str, problem: str) -> None:
    """Each mistake is one line with file, line, key and what to write."""
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, f"pointing: {section}")
    (line,) = refused.value.problems
    assert line.startswith(f"{tmp_path}/a.yaml:1: {problem}")


def test_a_reload_names_the_section(tmp_path: Path) -> None:
    """Another place is a change that a reload reports."""
    before, after = loaded(tmp_path, "pointing: {to: t}"), loaded(tmp_path, "pointing: {to: local}")
    assert changes_of(before, after, before).taken == ("pointing",)


@pytest.mark.parametrize("front", ["{image: 7}", "{image: {upstreams: []}}", "{image: {upstream: docker.io}}"])
def test_a_wrong_front_is_one_mistake(tmp_path: Path, front: str) -> None:
    """Who points at it is not told that there is none."""
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, f"front: {front}\npointing: {{to: front}}")
    assert [line for line in refused.value.problems if "pointing" in line] == []
