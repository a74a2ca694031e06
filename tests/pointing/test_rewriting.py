"""Which texts of files name an image, and that nothing else changes when they are pointed elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mirrord.config.workloads import read_workloads
from mirrord.errors import UsageError
from mirrord.names.workloads import NamedImage
from mirrord.pointing.places import Decision, Direct, Left, MirrorPlace
from mirrord.pointing.rewriting import edits
from mirrord.pointing.rewriting.dockerfile import is_dockerfile, named_in_dockerfile
from mirrord.pointing.rewriting.edits import Rewritten, rewritten
from mirrord.wire.oci.reference import Reference

DIGEST = f"sha256:{'ab' * 32}"
HOST = "m.example"


def decided(images: Sequence[NamedImage], host: str = HOST) -> Mapping[str, Decision]:
    """Point every image at a front; `stay/…`, templates and what is there already stay."""
    found: dict[str, Decision] = {}
    for image in images:
        if image.text.startswith(f"{host}/"):
            found[image.text] = Left("at_mirror", "")
        elif "stay/" in image.text or "$" in image.text or "{{" in image.text:
            found[image.text] = Left("unlisted", "is not listed")
        elif image.text.startswith("direct.to/"):
            found[image.text] = Direct(image.text.removeprefix("direct.to/"))
        else:
            reference = Reference.parse(image.text)
            place = Reference.parse(f"{host}/{reference.name.replace(':', '_')}")
            place = Reference(place.domain, place.path, reference.tag, reference.digest)
            found[image.text] = MirrorPlace(place, "front", None, listed=True)
    return found


def pointed(text: str, host: str = HOST) -> Rewritten:
    """Rewrite a text of any kind."""
    images = [*named_in_dockerfile(text)] if is_dockerfile(text) else named(text)
    return rewritten(text, images, decided(images, host))


def named(text: str) -> list[NamedImage]:
    found: list[NamedImage] = []
    for document in read_workloads(text.encode(), "x"):
        assert not document.problem
        found += document.images
    return found


H = "m.example/docker.io/library"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("image: nginx", f"image: {H}/nginx", id="no line end"),
        pytest.param("\ufeffimage: nginx\r\n", f"\ufeffimage: {H}/nginx\r\n", id="mark and CRLF"),
        pytest.param("image:   'nginx'  # nginx\n", f"image:   '{H}/nginx'  # nginx\n", id="comment"),
        pytest.param("image: ! nginx\n", f"image: ! {H}/nginx\n", id="tag"),
        pytest.param("image: !!str nginx\n", f"image: !!str {H}/nginx\n", id="tag of a text"),
        pytest.param("image: |-\n  nginx\nb: 1\n", f"image: |-\n  {H}/nginx\nb: 1\n", id="literal"),
        pytest.param("image: > # nginx\n  nginx\n", f"image: > # nginx\n  {H}/nginx\n", id="folded"),
        pytest.param("image:\n  nginx:1\nb: 1\n", f"image:\n  {H}/nginx:1\nb: 1\n", id="own line"),
        pytest.param("? image\n: nginx\n", f"? image\n: {H}/nginx\n", id="explicit key"),
        pytest.param('{"image":"a\\/b:1"}', '{"image":"m.example/docker.io/a/b:1"}', id="escapes of JSON"),
        pytest.param('{"image":"\\u006eginx"}', f'{{"image":"{H}/nginx"}}', id="escaped letter"),
        pytest.param(
            '{"x":"\\ud83d\\ude00","image":"nginx"}', f'{{"x":"\\ud83d\\ude00","image":"{H}/nginx"}}', id="pair"
        ),
        pytest.param("x: 😀é\nimage: nginx\n", f"x: 😀é\nimage: {H}/nginx\n", id="wide characters"),
        pytest.param("a: 1\n--- # b\nimage: nginx\n...\n", f"a: 1\n--- # b\nimage: {H}/nginx\n...\n", id="documents"),
        pytest.param("a: é\r\n---\r\nimage: nginx\r\n", f"a: é\r\n---\r\nimage: {H}/nginx\r\n", id="second of CRLF"),
        pytest.param("data:\n  x: |\n    image: nginx\n", "data:\n  x: |\n    image: nginx\n", id="inside a text"),
        pytest.param("status: {image: nginx}\n", "status: {image: nginx}\n", id="status"),
        pytest.param("a: &i nginx\nb: {image: *i}\n", f"a: &i {H}/nginx\nb: {{image: *i}}\n", id="alias"),
        pytest.param("a: &nginx nginx\nimage: *nginx\n", f"a: &nginx {H}/nginx\nimage: *nginx\n", id="its name"),
        pytest.param(
            "x: &x {repository: a/b, tag: 1}\ny: {<<: *x, tag: 2}\n",
            "x: &x {repository: m.example/docker.io/a/b, tag: 1}\ny: {<<: *x, tag: 2}\n",
            id="merge",
        ),
        pytest.param(
            'x: {"<<": {image: nginx}, tag: 1}\n', f'x: {{"<<": {{image: {H}/nginx}}, tag: 1}}\n', id="quoted"
        ),
        pytest.param(
            "%YAML 1.1\n---\na: é\n...\n# b\n%TAG !e! tag:e.example,2026:\n---\nimage: !e!x nginx\n...\nimage: nginx\n",
            f"%YAML 1.1\n---\na: é\n...\n# b\n%TAG !e! tag:e.example,2026:\n---\nimage: !e!x {H}/nginx\n...\n"
            f"image: {H}/nginx\n",
            id="directives",
        ),
        pytest.param(
            "\ufeff%YAML 1.2\n---\nimage: nginx\n", f"\ufeff%YAML 1.2\n---\nimage: {H}/nginx\n", id="mark above"
        ),
        pytest.param("image: direct.to/nginx:1\n", "image: nginx:1\n", id="direct"),
        pytest.param(
            "- {name: RELATED_IMAGE_A, value: 'quay.io/o/a:v1'}\n",
            "- {name: RELATED_IMAGE_A, value: 'm.example/quay.io/o/a:v1'}\n",
            id="operator",
        ),
        pytest.param(
            "services:\n  a:\n    image: a/b\n    build:\n      cache_from:\n        - a/b:cache\n"
            "        - type=registry,ref=quay.io/a/c:1\n        - type=gha\n        - type=registry,ref=registry\n",
            "services:\n  a:\n    image: m.example/docker.io/a/b\n    build:\n      cache_from:\n"
            "        - m.example/docker.io/a/b:cache\n"
            "        - type=registry,ref=m.example/quay.io/a/c:1\n        - type=gha\n"
            "        - type=registry,ref=m.example/docker.io/library/registry\n",
            id="compose",
        ),
        pytest.param(
            f"images:\n- name: nginx\n  newName: quay.io/a/b\n  digest: {DIGEST}\n",
            f"images:\n- name: nginx\n  newName: m.example/quay.io/a/b\n  digest: {DIGEST}\n",
            id="kustomize",
        ),
        pytest.param(
            "{registry: docker.io, repository: bitnami/redis, tag: 7}",
            "{registry: m.example/docker.io, repository: bitnami/redis, tag: 7}",
            id="values",
        ),
        pytest.param(
            "{registry: '', repository: bitnami/redis, tag: 7}",
            "{registry: '', repository: m.example/docker.io/bitnami/redis, tag: 7}",
            id="values without registry",
        ),
        pytest.param(
            "{registry: quay.io/, repository: a, tag: 7, digest: ''}",
            "{registry: m.example/quay.io/, repository: a, tag: 7, digest: ''}",
            id="slash",
        ),
        pytest.param(
            "{registry: gcr.io, repository: quay.io/a/b, tag: v1}",
            "{registry: gcr.io, repository: m.example/quay.io/a/b, tag: v1}",
            id="name with a host",
        ),
    ],
)
def test_places_of_images(text: str, expected: str) -> None:
    """Each place of an image is edited, and every other character stays; a second time nothing changes."""
    assert pointed(text).text == expected
    if "direct.to" not in text:
        assert pointed(expected).text == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("images: [{name: nginx, newTag: '1'}]\n", "key"),
        ("{registry: direct.to, repository: a/b, tag: 1}", "split"),
        ("r: &r quay.io\na: {registry: *r, repository: a, tag: 1}\nb: {registry: *r, repository: stay/b}\n", "shared"),
        ('{"image": 7}', "escaped"),
        ('image: "a/b\\\n  :1"\n', "escaped"),
    ],
)
def test_what_cannot_be_edited_is_left(text: str, reason: str) -> None:
    """A name that kustomize looks for, a text that others share, and one that cannot be edited safely stay."""
    result = pointed(text)
    if "\\" in text:  # one that can be written anew in its quotes is
        assert yaml.safe_load(result.text) == {"image": "m.example/docker.io/a/b:1"}
        return
    assert result.text == text
    assert reason in [one.why.reason for one in result.left]


def test_a_mirror_that_needs_quotes() -> None:
    """An address in brackets is not written where YAML would take it for a list."""
    assert [one.why.reason for one in pointed("image: nginx\n", "[::1]:5000").left] == ["escaped"]
    assert pointed("image: 'nginx'\n", "[::1]:5000").text == "image: '[::1]:5000/docker.io/library/nginx'\n"


DOCKERFILE = """\
# syntax=docker/dockerfile:1
# escape=\\
ARG X=1
FROM --platform=linux/amd64 \\
  # a comment
  golang:1.22 AS Build
RUN <<EOF cat
FROM evil:1
EOF
RUN --mount=type=bind,from=alpine:3,target=/x --mount=type=cache,target=/y true
FROM scratch
FROM nginx:$X
COPY --from=build --chown=1 /a /b
COPY --from=0 /a /b
COPY --from=quay.io/a/b:1 x y
ONBUILD COPY --from=quay.io/a/c:1 x y
FROM build
"""


def test_dockerfiles() -> None:
    """Stages, numbers, `scratch`, here-documents and what has an argument are left; all else of BuildKit is known."""
    changed = {"docker/dockerfile:1", "golang:1.22", "alpine:3", "quay.io/a/b:1", "quay.io/a/c:1"}
    expected = DOCKERFILE
    for name in changed:
        place = Reference.parse(name)
        expected = expected.replace(f"={name}", f"=m.example/{place}").replace(f"  {name}", f"  m.example/{place}")
    assert pointed(DOCKERFILE).text == expected
    assert {one.image for one in pointed(DOCKERFILE).changes} == changed
    crlf = DOCKERFILE.replace("\n", "\r\n")
    assert pointed(crlf).text == expected.replace("\n", "\r\n")
    assert pointed(expected).text == expected
    assert [one.image for one in pointed(DOCKERFILE).left] == ["nginx:$X"]


def test_a_dockerfile_of_windows() -> None:
    """The character that continues lines may be a backtick."""
    text = "# escape=`\nFROM `\n  a/b\nRUN dir C:\\\nCOPY --from=a/c:1 x y\n"
    assert [one.image for one in pointed(text).changes] == ["a/b", "a/c:1"]


@pytest.mark.parametrize(
    ("run", "named"),
    [
        ("RUN echo $((1<<x))", ["a", "c"]),
        ("RUN cat <<<text", ["a", "c"]),
        ("RUN <<E\nFROM x\n E\nFROM y\nE", ["a", "c"]),
        ("RUN <<-E\nFROM x\n\tE\nFROM b", ["a", "b", "c"]),
        ("RUN 3<<'E' cat <<-\"F\"\nFROM x\nE\nFROM y\n\tF", ["a", "c"]),
        ("RUN <<E\r\nFROM x\r\nE\r", ["a", "c"]),
    ],
)
def test_where_here_documents_end(run: str, named: list[str]) -> None:
    """As BuildKit reads them: a shift and a here-string are none, and only a dash lets tabs stand before the end."""
    assert [one.text for one in named_in_dockerfile(f"FROM a\n{run}\nFROM c\n")] == named


def test_what_is_a_dockerfile() -> None:
    """Its first instruction says so; YAML never begins with it."""
    assert is_dockerfile("\ufeff# c\n\nfrom a\n")
    assert is_dockerfile("ARG A\nFROM $A")
    assert not any(map(is_dockerfile, ("", "# FROM a", "image: a", "FROMAGE: a", "- FROM: x")))


def test_ten_thousand_images_are_edited_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work grows as the file does: each text is looked at once."""
    counted = 0
    real = edits._edit

    def edit(*arguments: Any) -> Any:
        nonlocal counted
        counted += 1
        return real(*arguments)

    monkeypatch.setattr(edits, "_edit", edit)
    for count in (100, 10_000):
        counted = 0
        text = "".join(f"- image: nginx:{number}\n" for number in range(count))
        assert pointed(text).text.count("m.example") == count
        assert counted == count
    pods = {"items": [{"image": f"nginx:{number}"} for number in range(10_000)]}
    assert pointed(json.dumps(pods)).text.count("m.example") == 10_000


def test_many_aliases_of_one_image_are_one_edit() -> None:
    """An anchor is edited where it stands, once; thousands that share it agree or are all left in one pass."""
    text = "a: &a nginx\nb:\n" + "- {image: *a}\n" * 5000
    assert pointed(text).text == text.replace("nginx", f"{H}/nginx")
    shared = "r: &r docker.io\nb:\n" + "".join(f"- {{registry: *r, repository: a/b{n}, tag: 1}}\n" for n in range(5000))
    assert pointed(shared + "- {registry: *r, repository: stay/b, tag: 1}\n").changes == []
    assert pointed(shared).text == shared.replace("docker.io", "m.example/docker.io")


WORDS = ["nginx", "a/b:1", "quay.io/a/b:v1", f"ghcr.io/a/b@{DIGEST}", "localhost:5000/x:v1", "stay/x:1"]
KEYS = ["image", "registry", "repository", "tag", "sidecarImage", "newName", "newTag", "name", "spec"]
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
leaves = st.one_of(st.sampled_from(WORDS), texts, st.integers(), st.none(), st.booleans())
keys = st.one_of(st.sampled_from(KEYS), texts)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5), max_leaves=20
)


def decided_if_possible(images: Sequence[NamedImage]) -> Mapping[str, Decision]:
    """Leave what is no reference, as the program does."""
    found: dict[str, Decision] = {}
    for image in images:
        try:
            found |= decided([image])
        except UsageError:
            found[image.text] = Left("invalid", "is none")
    return found


def without_images(text: str, images: Sequence[NamedImage]) -> str:
    """Return a text without all that may be edited in it."""
    spans = {(one.start, one.end) for image in images for one in (image.name, image.registry) if one}
    for start, end in sorted(spans, reverse=True):
        text = f"{text[:start]}\0{text[end:]}"
    return text


@given(st.dictionaries(keys, values, max_size=6), st.sampled_from([0, 1, 2, 3]), st.sampled_from(["\n", "\r\n"]))
def test_twice_is_once_and_other_bytes_stay(document: dict[str, Any], style: int, end: str) -> None:
    """Of any document: what is of no image stays to the byte, and a second time nothing changes."""
    if style == 3:
        text = json.dumps(document, ensure_ascii=bool(len(document) % 2))
    else:
        flow = (None, True, False)[style]
        text = yaml.safe_dump(document, default_flow_style=flow, allow_unicode=True, width=4096).replace("\n", end)
    images = named(text)
    once = rewritten(text, images, decided_if_possible(images))
    again = named(once.text)
    assert without_images(once.text, again) == without_images(text, images)
    assert [image.registry is None for image in again] == [image.registry is None for image in images]
    assert rewritten(once.text, again, decided_if_possible(again)).text == once.text
    changed = {(one.line, one.becomes) for one in once.changes}
    assert changed <= {(once.text.count("\n", 0, image.name.start) + 1, image.text) for image in again}
