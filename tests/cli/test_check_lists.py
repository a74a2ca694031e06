"""`mirrord check` reads lists of images: bad lines, and what two images would be called."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.support.commands import Desk, Said

Typed = Callable[..., Said]
TARGET = "targets: {hub: {kind: image, to: ghcr.io/m}}\n"
LIST = TARGET + "mirrors:\n  - {name: many, kind: image, from: {list: images.txt}, to: [hub, local]}\n"


def listed(desk: Desk, *lines: str, name: str = "images.txt") -> None:
    (desk.folder / "conf.d").mkdir(exist_ok=True)
    (desk.folder / "conf.d" / name).write_text("\n".join(lines))


def test_bad_lines_are_errors(desk: Desk, typed: Typed) -> None:
    """Each bad line is an error with its place, whatever else is fine."""
    desk.configure(LIST)
    listed(desk, "nginx:1.25", "Not An Image", "quay.io/calico/node:v3", "ghcr.io/Team/app:v1")
    said = typed("check")
    assert said.status == 78
    assert [line.partition(": ")[0] for line in said.err.splitlines()] == ["conf.d/images.txt:2", "conf.d/images.txt:4"]


def test_a_good_list_is_counted_as_one_mirror(desk: Desk, typed: Typed) -> None:
    """A list is one mirror whose targets are shown with `*`; a line that is there twice is a notice."""
    desk.configure(LIST)
    listed(desk, "nginx:1.25", "docker.io/library/nginx:1.25")
    said = typed("check", "--json")
    found = json.loads(said.out)
    assert (said.status, found["mirrors"][0]["to"]) == (0, {"hub": "ghcr.io/m/*", "local": "local/*"})
    assert any("images.txt:2: docker.io/library/nginx:1.25 is listed at line 1" in one for one in found["notices"])


def test_aliases_do_not_change_what_is_shown(desk: Desk, typed: Typed) -> None:
    """Targets of a list are shown by their names alone, as text and as JSON; aliases mark them for the record only."""
    desk.configure("names: {aliases: {k8s.gcr.io: registry.k8s.io}}\n" + LIST)
    listed(desk, "k8s.gcr.io/pause:3.9")
    assert "  ghcr.io/m/*, 127.0.0.1:8080/*\n" in typed("check").out
    found = json.loads(typed("check", "--json").out)
    assert found["mirrors"][0]["to"] == {"hub": "ghcr.io/m/*", "local": "local/*"}


def test_an_absent_list_is_a_notice(desk: Desk, typed: Typed) -> None:
    """The list may be on the machine that runs the mirror; an empty one, and one that is no text, is an error."""
    desk.configure(LIST)
    said = typed("check")
    assert said.status == 0
    assert "notice: conf.d/images.txt: does not exist; make it, or correct the path\n" in said.err
    listed(desk, "# nothing yet")
    said = typed("check")
    assert (said.status, said.err) == (
        78,
        "conf.d/images.txt: names no image, so nothing is changed; write one a line\n",
    )
    (desk.folder / "conf.d/images.txt").write_bytes(b"nginx\nalpine\xff\n")
    assert typed("check").err == "conf.d/images.txt:2: is not UTF-8 (byte 12); save it as UTF-8\n"


def test_two_sources_with_one_name(desk: Desk, typed: Typed) -> None:
    """Two sources that would be written to one place are an error with both lines, in one list or beside a mirror."""
    single = "  - {name: one, kind: image, from: {repository: quay.io/team/app:v1}, as: docker.io/team/app, to: hub}\n"
    desk.configure(LIST + single)
    listed(desk, "nginx:1.25", "team/app:v1")
    said = typed("check")
    assert said.status == 78
    called = "is called ghcr.io/m/docker.io/team/app, and so is docker.io/team/app (conf.d/images.txt:2)"
    assert said.err == f"conf.d/a.yaml:4: quay.io/team/app {called}; remove one of them\n"


def test_one_source_in_two_lists(desk: Desk, typed: Typed) -> None:
    """Lists may share an image and a target: they write the same."""
    desk.configure(LIST + "  - {name: more, kind: image, from: {list: more.txt}, to: [hub, local]}\n")
    listed(desk, "nginx:1.25")
    listed(desk, "nginx:1.26", "redis", name="more.txt")
    assert typed("check").status == 0


PINNED, OTHER = (f"docker.io/library/nginx:1.25@sha256:{digit * 64}" for digit in "ab")
MORE = "  - {name: more, kind: image, from: {list: more.txt}, to: hub}\n"
REGISTRY = "registry: docker.io, repositories: [library/nginx], tags: ['1.25']"
SINGLE = "{repository: 'nginx:1.25'}, as: docker.io/library/nginx"


@pytest.mark.parametrize(
    ("first", "more", "second"),
    [
        (PINNED, MORE, OTHER),
        (PINNED, MORE, "nginx:1.25"),
        ("nginx:1.25", MORE, PINNED),
        (PINNED, MORE.replace("}, to", ", tags: ['1.25', '1.2*']}, to"), "nginx"),
        (PINNED, MORE.replace("}, to", ", tags: {match: ['1.25', '/1.*/']}}, to"), "nginx"),
        (PINNED, MORE.replace("list: more.txt", REGISTRY), ""),
        (PINNED, MORE.replace("{list: more.txt}", SINGLE), ""),
    ],
)
def test_one_tag_with_different_digests(desk: Desk, typed: Typed, first: str, more: str, second: str) -> None:
    """A tag with a digest in one list, and with another one or none elsewhere, is an error with both lines."""
    desk.configure(LIST.replace("[hub, local]", "hub") + more)
    listed(desk, first)
    listed(desk, second, name="more.txt")
    said = typed("check")
    assert said.status == 78
    pinned, other = (text if "@" in text else "docker.io/library/nginx:1.25" for text in (first, second))
    place = "more.txt:1" if second else "a.yaml:4"
    whole = "ghcr.io/m/docker.io/library/nginx:1.25"
    what = f"{other} is called {whole}, and so is {pinned} (conf.d/images.txt:1); remove one of them"
    assert said.err == f"conf.d/{place}: {what}\n"


@pytest.mark.parametrize("more", ["nginx:1.25-alpine", "nginx@sha256:" + "a" * 64, PINNED, "quay.io/team/nginx:1.25"])
def test_tags_that_lists_may_share(desk: Desk, typed: Typed, more: str) -> None:
    """Other tags, a digest alone, the same digest, and names of another registry are in nobody's way."""
    desk.configure(LIST + MORE)
    listed(desk, PINNED)
    listed(desk, more, name="more.txt")
    assert typed("check").status == 0


def test_a_list_that_is_copied_to_itself(desk: Desk, typed: Typed) -> None:
    """An image of which a target is its own source is an error."""
    desk.configure(LIST.replace("ghcr.io/m", "'ghcr.io/m/{name}'"))
    listed(desk, "ghcr.io/m/app:v1")
    assert typed("check").status == 0
    desk.configure(
        "targets: {hub: {kind: image, to: 127.0.0.1:5000}, again: {kind: image, to: 127.0.0.1:5000}}\n"
        "mirrors:\n"
        "  - {name: many, kind: image, from: {registry: '127.0.0.1:5000', repositories: [app]}, to: hub}\n"
        "  - {name: back, kind: image, from: {repository: '127.0.0.1:5000/127.0.0.1_5000/app'}, as: app, to: again}\n"
    )
    said = typed("check")
    assert said.status == 78
    assert "mirrors itself" in said.err


def test_a_target_without_names(desk: Desk, typed: Typed) -> None:
    """A target that would put all images into one repository is an error that says where `{name}` goes."""
    desk.configure(LIST.replace("ghcr.io/m", "'ghcr.io/{mirror}'"))
    said = typed("check")
    assert said.status == 78
    assert "targets.hub.to: ghcr.io/{mirror} would be one repository for all images; write {name}" in said.err


async def test_a_list_without_a_good_line_has_one_error(desk: Desk) -> None:
    """It is one line that names the file and each of its bad lines, also of `status`."""
    desk.configure("mirrors: [{name: many, kind: image, from: {list: images.txt}, to: local}]\n")
    listed(desk, "a b", "c d")
    places = ["conf.d/images.txt", "conf.d/images.txt:1", "conf.d/images.txt:2"]
    for command in ("plan", "sync"):
        said = await desk.run(command)
        (error,) = [line for line in said.out.splitlines() if line.startswith("error: ")]
        assert all(f"{place}: " in error for place in places), said
    about = [line for line in (await desk.run("status")).out.splitlines() if line.startswith("many: ")]
    (shown,) = [line for line in about if "images.txt" in line]
    assert all(f"{place}: " in shown for place in places)
