"""Which files are read, and how files are refused that cannot be (bad input 68)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mirrord.config.files import MAX_BYTES, MAX_FILES
from mirrord.config.load import Configuration, load_folder
from mirrord.errors import ConfigError
from mirrord.syncer.port import Syncer

Load = Callable[..., Configuration]
Refusal = Callable[..., tuple[str, ...]]

GOOD = "settings: {parallel: 2}\n"


def test_only_yaml_files_are_read_in_lexical_order(load: Load, folder: Path) -> None:
    """Backups, swap files, links of Kubernetes and other names are passed over, told where it may matter."""
    for name in ("a.yaml~", ".a.yaml.swp", ".#a.yaml", "a.yml", "README.md"):
        (folder / name).write_text("broken: [")
    (folder / "..data").mkdir()
    (folder / "sub").mkdir()
    read = load(b=GOOD, a="targets: {t: {kind: image, to: x}}")
    assert [file.name for file in read.files] == ["a.yaml", "b.yaml"]
    assert [notice.partition(":")[0].removeprefix(f"{folder}/") for notice in read.notices] == [
        ".#a.yaml", ".a.yaml.swp", "README.md", "a.yaml~", "a.yml", "sub",
    ]  # fmt: skip
    hidden = {notice for notice in read.notices if "/." in notice}
    assert {notice.partition(": ")[2] for notice in hidden} == {
        "skipped, files whose names begin with a dot are not read"
    }
    assert len(hidden) == 2


def test_links_to_regular_files_are_files(load: Load, folder: Path, tmp_path: Path) -> None:
    """A Kubernetes ConfigMap, whose files are links into a folder that is swapped, loads."""
    version = folder / "..2026_01_01"
    version.mkdir()
    (version / "settings.yaml").write_text(GOOD)
    (folder / "..data").symlink_to(version.name)
    (folder / "settings.yaml").symlink_to("..data/settings.yaml")
    read = load()
    assert read.settings.parallel == 2
    assert read.notices == ()


def test_lists_of_images_are_no_strangers(load: Load, folder: Path) -> None:
    """A list of images beside the configuration is no notice; a configuration with the wrong ending is."""
    (folder / "images.txt").touch()
    assert load(GOOD).notices == ()
    (folder / "more.yaml.txt").touch()
    assert len(load(GOOD).notices) == 1


def test_many_other_files_do_not_flood_the_notices(load: Load, folder: Path) -> None:
    """Ten thousand strangers in the folder cost a bounded number of notices."""
    for number in range(300):
        (folder / f"{number}.conf").touch()
    assert len(load(GOOD).notices) == 21


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"a: \xff\xfe", "is not UTF-8 (byte 3)", id="68-not-utf8"),
        pytest.param("settings: {}".encode("utf-16"), "is not UTF-8 (byte 0)", id="68-utf16"),
        pytest.param(b" " * (MAX_BYTES + 1), "is longer than 1048576 bytes", id="68-too-large"),
        pytest.param(b"- just\n- a list", "is not a mapping; write sections: settings, hosts", id="68-list"),
        pytest.param(b"settings: {}\x01\n", "contains a character that YAML does not allow", id="68-control"),
    ],
)
def test_bad_bytes_are_refused(refusal: Refusal, folder: Path, data: bytes, said: str) -> None:
    """A file that is no text, too long or no mapping is named with what is wrong."""
    (folder / "bad.yaml").write_bytes(data)
    problems = refusal(GOOD)
    assert len(problems) == 1
    assert problems[0].startswith("bad.yaml")
    assert said in problems[0]


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "\ufeffsettings: {parallel: 3}\n"])
def test_empty_files_and_byte_order_marks_are_no_problem(load: Load, folder: Path, text: str) -> None:
    """Bad input 68, its harmless half: an empty file says nothing, and a byte order mark neither."""
    (folder / "a.yaml").write_text(text)
    assert load().settings.parallel == (3 if "3" in text else 8)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "dangling", "link to a device"])
def test_what_is_no_file_is_refused_without_waiting(refusal: Refusal, folder: Path, kind: str) -> None:
    """Bad input 68: a pipe, a device, a folder and a dangling link named *.yaml are errors, and none hangs."""
    bad: Path = folder / "bad.yaml"
    if kind == "pipe":
        os.mkfifo(bad)
    elif kind == "folder":
        bad.mkdir()
    else:
        bad.symlink_to("/dev/zero" if "device" in kind else "nowhere")
    (problem,) = refusal(GOOD)
    assert problem.startswith("bad.yaml:1: ")
    assert {"dangling": "does not exist"}.get(kind, f"is a {kind.rsplit(maxsplit=1)[-1]}") in problem


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_text(GOOD), "is a file; give the folder"),
        (lambda path: path.mkdir(), "contains no *.yaml file"),
    ],
)
def test_the_folder_itself(
    tmp_path: Path, syncers: Mapping[str, Syncer], make: Callable[[Path], object], said: str
) -> None:
    """A folder that is missing, a file or empty is refused with what to do."""
    make(tmp_path / "x")
    with pytest.raises(ConfigError, match="x: ") as caught:
        load_folder(tmp_path / "x", syncers, {})
    assert said in str(caught.value)


def test_too_many_files(folder: Path, refusal: Refusal) -> None:
    """Bad input 68: more files than anybody writes are refused before one is read."""
    for number in range(MAX_FILES + 1):
        (folder / f"{number}.yaml").touch()
    (problem,) = refusal()
    assert f"holds {MAX_FILES + 1} *.yaml files" in problem
