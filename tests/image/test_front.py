"""The local store over `/v2/`: what a path stands for. Nothing here goes through a socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from mirrord.blobs import repositories
from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.model.digest import Digest
from mirrord.syncer.serving import Request, Response
from mirrord.syncer.values import LOCAL
from mirrord.syncers.image import front
from mirrord.syncers.image.syncer import SYNCER
from mirrord.testing import Image, build_image
from tests.support.artifacts import build_artifact
from tests.support.layouts import write_layout
from tests.support.localstore import linked_in, place_in, said, sent
from tests.support.world import World, open_world

IMAGE = build_image(["linux/amd64"], shared_layers=1)
OTHER = build_image(["linux/amd64"], seed="other")


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[World]:
    """A local store with `team/app:main` and `other:main`."""
    async with open_world(tmp_path) as world:
        for name, image in (("team/app", IMAGE), ("other", OTHER)):
            folder = write_layout(image, tmp_path / name)
            more: dict[str, Any] = {"as": name}
            mirror = world.mirror({"layout": folder, "names": ["main"]}, LOCAL, **more)
            await world.run(mirror)
        yield world


async def ask(world: World, path: str, method: str = "GET", **query: str) -> Response:
    return await front.respond(Request(method, "/v2/", path, query), world.services)


def restart(world: World) -> None:
    """Read names anew, as the next process does."""
    world.services = replace(world.services, repositories=DiskRepositories(world.folder / "repositories"))


def code_of(answer: Response) -> str:
    return str(json.loads(said(answer))["errors"][0]["code"])


def read(answer: Response) -> bytes:
    return sent(answer)


def layers(image: Image) -> list[str]:
    return [layer["digest"] for layer in image.document()["layers"]]


async def test_port(stored: World) -> None:
    """The image syncer serves below `/v2/`, and the root says that this is a registry."""
    assert SYNCER.front
    assert SYNCER.front.prefixes == ("/v2/",)
    answer = await ask(stored, "")
    assert (answer.status, answer.body) == (200, b"{}")
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


@pytest.mark.parametrize("reference", ["main", str(IMAGE.digest)])
async def test_manifests(stored: World, reference: str) -> None:
    """A manifest is served by tag and by digest, with its own media type and its digest."""
    answer = await ask(stored, f"team/app/manifests/{reference}")
    assert (answer.status, read(answer)) == (200, IMAGE.body)
    assert answer.headers["Content-Type"] == IMAGE.media_type
    assert answer.headers["Docker-Content-Digest"] == IMAGE.digest
    assert answer.headers["ETag"] == f'"{IMAGE.digest}"'


async def test_blobs(stored: World) -> None:
    """Every blob of a linked image is served from its file; a percent-encoded path means the same."""
    for digest, data in IMAGE.blobs.items():
        for path in (f"team/app/blobs/{digest}", f"team%2Fapp/blobs/{digest.replace(':', '%3A')}"):
            assert read(await ask(stored, path)) == data


async def test_blobs_of_other_repositories_are_not_here(stored: World) -> None:
    """Bad input 25: what another repository has is 404 here, although the store holds it (CVE-2024-39897)."""
    foreign = layers(OTHER)[-1]
    assert place_in(stored.folder / "blobs", Digest(foreign)) is not None
    for kind, code in (("blobs", "BLOB_UNKNOWN"), ("manifests", "MANIFEST_UNKNOWN")):
        digest = foreign if kind == "blobs" else OTHER.digest
        answer = await ask(stored, f"team/app/{kind}/{digest}")
        assert (answer.status, code_of(answer)) == (404, code)
        assert (await ask(stored, f"other/{kind}/{digest}")).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "%2e%2e%2f%2e%2e%2fetc/manifests/main",
        "team/../app/manifests/main",
        "team//app/manifests/main",
        "team\\app/manifests/main",
        "team/app%00/manifests/main",
        f"{'a' * 10_000}/manifests/main",
        f"{'a/' * 255}a/manifests/main",
        "Team/App/manifests/main",
        "team/app/manifests/x/manifests/y",
        "team/app/manifests/",
        "team/app/manifests/main%0a",
        "team/app/manifests/..",
        "team/app/tags",
        "/team/app/manifests/main",
        "_links.json/manifests/main",
        "team/app/_links.json",
        "évil/manifests/main",
        "team/app/blobs/uploads/",
    ],
    ids=lambda path: f"21-{path[:24]}",
)
async def test_strange_paths(stored: World, path: str) -> None:
    """Bad input 21: what is no name by the grammar is 404, in the specification's form, and nothing is made on disk."""
    before = sorted(stored.folder.rglob("*"))
    answer = await ask(stored, path)
    assert (answer.status, isinstance(answer.body, bytes)) == (404, True)
    assert code_of(answer) in {"NAME_INVALID", "NAME_UNKNOWN", "MANIFEST_UNKNOWN", "UNSUPPORTED"}
    assert path.encode() not in said(answer) or len(path) < 200
    assert sorted(stored.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("reference", "status"),
    [
        ("sha256:../../x".replace("/", "%2F"), 404),
        (f"sha256:{'A' * 64}", 400),
        (f"sha256:{'a' * 63}", 400),
        (f"sha256:{'a' * 65}", 400),
        (f"md5:{'a' * 32}", 400),
        (f"sha512:{'a' * 128}", 404),
        (f"sha256:{'a' * 64}", 404),
    ],
    ids=lambda value: f"22-{str(value)[:20]}",
)
@pytest.mark.parametrize("kind", ["manifests", "blobs"])
async def test_strange_references(stored: World, kind: str, reference: str, status: int) -> None:
    """Bad input 22: only a well-formed digest or tag is looked up, everything else is refused."""
    answer = await ask(stored, f"team/app/{kind}/{reference}")
    assert (answer.status, isinstance(answer.body, bytes)) == (status, True)
    if status == 400:
        assert code_of(answer) == "DIGEST_INVALID"


async def test_reading_only(stored: World) -> None:
    """Bad input 34: nothing can be posted, wherever it is posted to."""
    for path in ("", "team/app/blobs/uploads/", "team/app/manifests/main"):
        answer = await ask(stored, path, "POST")
        assert (answer.status, code_of(answer)) == (405, "UNSUPPORTED")


async def test_unknown_names(stored: World) -> None:
    """A repository that is not mirrored here, and a tag that is not there, are told apart."""
    assert code_of(await ask(stored, "team/none/manifests/main")) == "NAME_UNKNOWN"
    assert code_of(await ask(stored, "team/app/manifests/none")) == "MANIFEST_UNKNOWN"
    assert code_of(await ask(stored, "team/manifests/main")) == "NAME_UNKNOWN"
    assert code_of(await ask(stored, f"team/app/manifests/{'a' * 129}")) == "MANIFEST_UNKNOWN"


async def test_content_that_is_gone(stored: World) -> None:
    """A blob that is linked but was lost is 404 and says that it will come back, never an error of ours."""
    path = place_in(stored.folder / "blobs", Digest(layers(IMAGE)[0]))
    assert path is not None
    path.unlink()
    answer = await ask(stored, f"team/app/blobs/{layers(IMAGE)[0]}")
    assert (answer.status, code_of(answer)) == (404, "BLOB_UNKNOWN")


async def test_an_unreadable_store(stored: World) -> None:
    """A log that is damaged is 500 in the specification's form, without a path in it."""
    (stored.folder / "repositories" / "team" / "app" / "_links.jsonl").write_text("{")
    restart(stored)
    answer = await ask(stored, "team/app/manifests/main")
    assert (answer.status, code_of(answer)) == (500, "UNKNOWN")
    assert str(stored.folder).encode() not in said(answer)


async def test_tags_come_in_pages(world: World) -> None:
    """Tags are listed in lexical order, `n` at a time, and the Link header leads through all of them once."""
    tags = [f"v{number}" for number in range(25)]
    folder = write_layout(IMAGE, world.folder / "build")
    await world.run(world.mirror({"layout": folder, "names": tags}, LOCAL))
    assert json.loads(said(await ask(world, "app/tags/list"))) == {"name": "app", "tags": sorted(tags)}
    found: list[str] = []
    query = {"n": "10"}
    while query:
        answer = await ask(world, "app/tags/list", **query)
        found += json.loads(said(answer))["tags"]
        link = answer.headers.get("Link", "")
        assert link == "" or link.endswith('; rel="next"')
        query = dict(parse_qsl(urlsplit(link.partition(">")[0].lstrip("<")).query))
    assert found == sorted(tags)


async def test_tags_are_sorted_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever lists the tags of one revision gets them as they were sorted for the first who did; a new one is new."""
    sorts: list[int] = []

    def counted(names: Collection[str]) -> list[str]:
        sorts.append(len(names))
        return sorted(names)

    monkeypatch.setattr(repositories, "sorted", counted, raising=False)
    folder = write_layout(IMAGE, world.folder / "build")
    for tags in (["v1"], ["v1", "v2"]):
        await world.run(world.mirror({"layout": folder, "names": tags}, LOCAL))
        for _ in range(50):
            assert json.loads(said(await ask(world, "app/tags/list")))["tags"] == tags
    assert sorts == [1, 2]


@pytest.mark.parametrize(
    ("query", "status", "tags"),
    [
        ({"n": "0"}, 200, []),
        ({"n": "1", "last": "zzz"}, 200, []),
        ({"last": "a"}, 200, ["main"]),
        ({"n": "-1"}, 400, None),
        ({"n": "x"}, 400, None),
        ({"n": "9" * 30}, 400, None),
        ({"n": "\u0661"}, 400, None),
        ({"last": "\x00\n"}, 200, ["main"]),
    ],
    ids=str,
)
async def test_strange_pages(stored: World, query: dict[str, str], status: int, tags: list[str] | None) -> None:
    """Strange page numbers are refused, strange marks are harmless."""
    answer = await ask(stored, "team/app/tags/list", **query)
    assert answer.status == status
    assert tags is None or json.loads(said(answer))["tags"] == tags
    assert "Link" not in answer.headers


async def test_without_a_store(stored: World) -> None:
    """Where there is no state nothing is here, and nothing breaks."""
    bare = type(stored.services)(
        stored.services.http, stored.services.spools, stored.services.events, stored.services.scratch
    )
    assert (await front.respond(Request("GET", "/v2/", "team/app/manifests/main", {}), bare)).status == 404


async def test_catalog(stored: World) -> None:
    """`_catalog` lists the repositories of images, page by page; charts, which live in the same store, are none."""
    assert stored.services.repositories is not None
    await stored.services.repositories.publish("_helm/charts", {}, {})
    assert json.loads(said(await ask(stored, "_catalog"))) == {"repositories": ["other", "team/app"]}
    first = await ask(stored, "_catalog", n="1")
    assert json.loads(said(first)) == {"repositories": ["other"]}
    assert first.headers["Link"] == '</v2/_catalog?n=1&last=other>; rel="next"'
    rest = await ask(stored, "_catalog", n="1", last="other")
    assert json.loads(said(rest)) == {"repositories": ["team/app"]}
    assert "Link" not in rest.headers
    assert code_of(await ask(stored, "_catalog", n="x")) == "PAGINATION_NUMBER_INVALID"


async def test_referrers_of_an_older_store(tmp_path: Path) -> None:
    """A store that an earlier mirrord wrote does not say what manifests are about: they are read; pages work too."""
    image = build_image(["linux/amd64"])
    about = [build_artifact(image, data=text) for text in (b"one", b"two")]
    async with open_world(tmp_path) as world:
        for number, one in enumerate((image, *about)):
            folder = write_layout(one, tmp_path / str(number))
            more: dict[str, Any] = {"as": "app"}
            await world.run(world.mirror({"layout": folder, "names": [f"t{number}"]}, LOCAL, name=f"m{number}", **more))
        linked = linked_in(tmp_path / "repositories", "app")
        assert linked is not None
        assert sorted(str(link.subject) for link in linked.manifests.values()) == ["", *[image.digest] * 2]
        manifests = {
            digest: {"mediaType": link.media_type, "size": link.size, "refs": link.refs}
            for digest, link in linked.manifests.items()
        }
        (file,) = tmp_path.rglob("_links.jsonl")
        file.with_name("_links.json").write_text(json.dumps({"tags": linked.tags, "manifests": manifests}, indent=1))
        file.unlink()
        restart(world)
        path = f"app/referrers/{image.digest}"
        listed = json.loads(said(await ask(world, path)))["manifests"]
        assert [one["digest"] for one in listed] == sorted(one.digest for one in about)
        first = await ask(world, path, n="1")
        assert len(json.loads(said(first))["manifests"]) == 1
        following = dict(parse_qsl(urlsplit(first.headers["Link"].partition(">")[0]).query))
        assert json.loads(said(await ask(world, path, **following)))["manifests"] == listed[1:]
