"""`mirrord takedown` changes one line of the file `settings.denied`, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirrord import failpoints
from mirrord.config.denied import load_denied
from mirrord.config.denied_file import add_entry, lift_entry
from mirrord.errors import ConfigError, StorageError
from mirrord.model.digest import Digest
from mirrord.names.book import NameBook
from mirrord.names.denied import DeniedEntry

BOOK, NOW = NameBook(), datetime(2026, 11, 28, 1, 2, tzinfo=UTC)
ENTRY = DeniedEntry(0, 'their "mail": {no}, #7 权利 \U0001f600', "quay.io/a/b:v1", (Digest.of(b"x"),), at="2026-11-28")
VERSION = DeniedEntry(0, "one", mirror="charts", digests=(Digest.of(b"x"),), item="図-1.0.0+a")
OLD = "- {image: nginx, reason: one}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment\n",
        OLD,
        f"{OLD}\n",
        f"{OLD}  # by mail\n\n",
        f"  {OLD}\n",
        "- image: nginx\n  reason: one\n",
    ],
)
@pytest.mark.parametrize("entry", [ENTRY, VERSION])
def test_an_entry_is_added_at_the_end(tmp_path: Path, text: str, entry: DeniedEntry) -> None:
    """Whatever the file looks like: what was there stays as it is, and what comes back is what was written."""
    file = tmp_path / "denied.yaml"
    file.write_text(text)
    file.chmod(0o640)
    denied = add_entry(file, entry, BOOK)
    assert replace(denied.entries[-1], line=0) == entry
    assert denied == load_denied(file, BOOK)
    assert file.read_text().startswith(text)
    assert (file.stat().st_mode & 0o777, sorted(tmp_path.iterdir())) == (0o640, [file])


def test_where_no_line_fits_the_entry_is_shown(tmp_path: Path) -> None:
    """A list in brackets stays as it is; the error has the line for who edits it by hand."""
    file = tmp_path / "denied.yaml"
    file.write_text("[{image: nginx, reason: one}]\n")
    with pytest.raises(ConfigError, match=r"by hand: - \{image: \"quay.io/a/b:v1\""):
        add_entry(file, ENTRY, BOOK)
    assert file.read_text() == "[{image: nginx, reason: one}]\n"


@pytest.mark.parametrize("text", ["[]\n", "# nothing\n[]", "---\n[]\n"])
def test_an_empty_list(tmp_path: Path, text: str) -> None:
    """It counts as a file without entries, and its remarks stay."""
    file = tmp_path / "denied.yaml"
    file.write_text(text)
    assert len(add_entry(file, ENTRY, BOOK).entries) == 1
    assert len(add_entry(file, DeniedEntry(0, "two", mirror="app"), BOOK).entries) == 2
    assert ("# nothing" in text) == ("# nothing" in file.read_text())


def test_indexes_that_keep_what_was_taken_down(tmp_path: Path) -> None:
    """They are in the file, so that each process says so; without a digest they are of nothing."""
    file, index, child = tmp_path / "denied.yaml", Digest.of(b"index"), Digest.of(b"child")
    file.touch()
    denied = add_entry(file, DeniedEntry(0, "one", digests=(child,), within=(index,)), BOOK)
    found = denied.kept_in(index)
    assert found
    assert found[1] == f"it is an index that has {child}, which was taken down; take down {index}, too"
    assert denied.kept_in(child) is None
    assert add_entry(file, DeniedEntry(0, "two", digests=(index,)), BOOK).kept_in(index) is None
    file.write_text(f"- {{mirror: app, within: ['{index}'], reason: x}}\n")
    with pytest.raises(ConfigError, match="are indexes of no digest"):
        load_denied(file, BOOK)


def test_a_wrong_file_is_not_touched(tmp_path: Path) -> None:
    """Nothing is added to what cannot be read: nobody knows what it denies."""
    file = tmp_path / "denied.yaml"
    file.write_text("- {image: nginx}\n")
    with pytest.raises(ConfigError, match=r"denied.yaml:1: \[0\].reason: is missing"):
        add_entry(file, ENTRY, BOOK)
    assert file.read_text() == "- {image: nginx}\n"


def test_a_lifted_entry_stays_as_a_comment(tmp_path: Path) -> None:
    """The history can be read; the lines of others keep their numbers."""
    file = tmp_path / "denied.yaml"
    file.write_text(f"# head\n{OLD}\n- {{mirror: app, reason: two}}\n")
    first, second = load_denied(file, BOOK).entries
    assert lift_entry(file, first, BOOK, NOW).entries == (second,)
    assert file.read_text() == f"# head\n# lifted 2026-11-28T01:02Z: {OLD}\n- {{mirror: app, reason: two}}\n"
    with pytest.raises(ConfigError, match="changed meanwhile"):
        lift_entry(file, first, BOOK, NOW)
    file.write_text("- image: nginx\n  reason: one\n")
    with pytest.raises(ConfigError, match="remove it by hand"):
        lift_entry(file, load_denied(file, BOOK).entries[0], BOOK, NOW)


def test_a_link_stays_one(tmp_path: Path) -> None:
    """The file may be a link to where it is kept."""
    file, link = tmp_path / "kept" / "denied.yaml", tmp_path / "denied.yaml"
    file.parent.mkdir()
    file.touch()
    link.symlink_to(file)
    add_entry(link, ENTRY, BOOK)
    assert (link.is_symlink(), len(load_denied(file, BOOK).entries)) == (True, 1)


def test_a_full_disk(tmp_path: Path) -> None:
    """What cannot be written is not half written."""
    file = tmp_path / "denied.yaml"
    file.write_text(OLD)
    failpoints.arm("denied.written", failpoints.fail)
    try:
        with pytest.raises(StorageError):
            add_entry(file, ENTRY, BOOK)
    finally:
        failpoints.disarm()
    assert len(load_denied(file, BOOK).entries) in (1, 2)


def test_many_processes(tmp_path: Path) -> None:
    """Several daemons that share a file lose no entry of each other."""
    file = tmp_path / "denied.yaml"
    file.touch()
    code = (
        "import sys; from pathlib import Path; from mirrord.config.denied_file import add_entry;"
        "from mirrord.names.book import NameBook; from mirrord.names.denied import DeniedEntry\n"
        "for number in range(5):\n"
        "    entry = DeniedEntry(0, 'why', f'quay.io/a/b{sys.argv[2]}:v{number}')\n"
        "    add_entry(Path(sys.argv[1]), entry, NameBook())\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(file), str(one)]) for one in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len({entry.image for entry in load_denied(file, BOOK).entries}) == 15


def test_ten_thousand_entries(tmp_path: Path) -> None:
    """The file is read and changed as a whole: each entry costs the same."""
    file = tmp_path / "denied.yaml"
    file.write_text("".join(f"- {{image: quay.io/a/b{number}, reason: one}}\n" for number in range(10_000)))
    denied = add_entry(file, ENTRY, BOOK)
    assert (len(denied.entries), denied.entries[-1].line) == (10_001, 10_001)
