"""`mirrord list fmt` on files, as people and their pipelines call it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.support.commands import Desk, Said

Typed = Callable[..., Said]
MESSY = (
    "\ufeff# images\r\n\r\nquay.io/b/b:v1\r\n# pinned\r\nnginx\r\nk8s.gcr.io/pause:3.9\r\ndocker.io/library/nginx\r\n"
)
NEAT = "# images\n\n# pinned\ndocker.io/library/nginx\nquay.io/b/b:v1\nregistry.k8s.io/pause:3.9\n"


def test_files_are_formatted_in_place(typed: Typed, desk: Desk) -> None:
    """Each file is written anew with its permissions, a link stays a link, and the second time nothing is written."""
    file, link = desk.folder / "required-images.txt", desk.folder / "link.txt"
    file.write_bytes(MESSY.encode())
    file.chmod(0o640)
    link.symlink_to(file.name)
    said = typed("list", "fmt", "link.txt")
    assert (said.status, said.out, said.err) == (0, "link.txt: formatted\n", "")
    assert file.read_bytes() == NEAT.encode()
    assert file.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    before = file.stat().st_ino
    assert typed("list", "fmt", "required-images.txt") == Said(0, "", "")
    assert file.stat().st_ino == before
    assert sorted(path.name for path in desk.folder.glob("*.t*")) == ["link.txt", "required-images.txt"]


def test_check_changes_nothing(typed: Typed, desk: Desk) -> None:
    """With `--check` the first line of each file that would change is named, and the command to type."""
    (desk.folder / "a b.txt").write_text("alpine\n")
    (desk.folder / "neat.txt").write_text(NEAT)
    said = typed("list", "fmt", "--check", "a b.txt", "neat.txt")
    assert (said.status, said.out) == (1, "")
    assert said.err == "a b.txt:1: not formatted; run `mirrord list fmt 'a b.txt'`\n"
    assert (desk.folder / "a b.txt").read_text() == "alpine\n"


def test_a_file_with_a_wrong_line_stays(typed: Typed, desk: Desk) -> None:
    """No line is thrown away: every wrong one is named, the file stays, and the other files are formatted."""
    (desk.folder / "bad.txt").write_text("nginx:\nhttps://hub.docker.com/_/redis\nalpine\n")
    (desk.folder / "good.txt").write_text("alpine\n")
    said = typed("list", "fmt", "bad.txt", "good.txt")
    assert (said.status, said.out) == (1, "good.txt: formatted\n")
    assert [line.partition(": ")[0] for line in said.err.splitlines()] == ["bad.txt:1", "bad.txt:2"]
    assert (desk.folder / "bad.txt").read_text() == "nginx:\nhttps://hub.docker.com/_/redis\nalpine\n"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"alpine\nngin\xff\n", "f.txt:2: is not UTF-8 (byte 11); save it as UTF-8"),
        (None, "f.txt: no such file; correct the path"),
    ],
)
def test_what_is_no_list(typed: Typed, desk: Desk, content: bytes | None, what: str) -> None:
    """A file that cannot be read as text is named with its line, and the exit code is that of wrong usage."""
    if content is not None:
        (desk.folder / "f.txt").write_bytes(content)
    said = typed("list", "fmt", "f.txt")
    assert (said.status, said.out, said.err) == (64, "", f"mirrord: {what}\n")


def test_devices_are_not_read(typed: Typed) -> None:
    """A device is no list: it is refused without a byte read."""
    said = typed("list", "fmt", "/dev/zero")
    assert (said.status, said.err) == (64, "mirrord: /dev/zero: not a regular file; give a list of images\n")


def test_the_form_can_be_typed(typed: Typed, desk: Desk) -> None:
    """`--form` overrides what the name of a file says."""
    (desk.folder / "allows.txt").write_text("docker.io/library/*\nnginx\n")
    (desk.folder / "list.txt").write_text("nginx:1\\.[0-9]+\n")
    assert typed("list", "fmt", "allows.txt").status == 0
    assert (desk.folder / "allows.txt").read_text() == "docker.io/library/*\n"
    assert typed("list", "fmt", "--form", "patterns", "list.txt").status == 0
    assert (desk.folder / "list.txt").read_text() == "docker.io/library/nginx:1\\.[0-9]+\n"


def test_the_order_is_that_of_sort(typed: Typed, desk: Desk) -> None:
    """`LC_ALL=C sort -c -u` has nothing to say about a formatted list of any size."""
    names = [f"quay.io/{chr(97 + number % 7)}{'-_.'[number % 3]}x/i{number % 500}:v{number}" for number in range(3000)]
    (desk.folder / "many.txt").write_text("\n".join(names + names))
    assert typed("list", "fmt", "many.txt").status == 0
    subprocess.run(["sort", "-c", "-u", "many.txt"], cwd=desk.folder, env={"LC_ALL": "C"}, check=True)
    assert len((desk.folder / "many.txt").read_text().splitlines()) == 3000


def test_aliases_of_the_configuration(typed: Typed, desk: Desk) -> None:
    """With `--config` the aliases under `names:` are used, and no others."""
    desk.configure("names: {aliases: {old.example: new.example/team}}\n")
    (desk.folder / "f.txt").write_text("old.example/a:v1\nk8s.gcr.io/pause:3.9\n")
    assert typed("list", "fmt", "--config", "conf.d", "f.txt").status == 0
    assert (desk.folder / "f.txt").read_text() == "k8s.gcr.io/pause:3.9\nnew.example/team/a:v1\n"
