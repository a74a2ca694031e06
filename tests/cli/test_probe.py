"""`mirrord probe`: what a registry can do, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Callable

from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk, Said
from tests.support.quirks import Quirky, hub, nexus

Typed = Callable[..., Said]
IMAGE = build_image(["linux/amd64"], index=False)


async def test_a_registry_is_probed(desk: Desk) -> None:
    """Without --push nothing is written and the table says so; with it deletions are tried, too."""
    async with Registry() as registry:
        await push(IMAGE, registry, "team/app", ["v1"])
        said = await desk.run("probe", f"{registry.host}/team/app")
        assert (said.status, said.err) == (0, "")
        assert registry.count("PUT|PATCH", "/uploads/") == 0
        rows = {line.partition("  ")[0]: line.partition("  ")[2].split()[0] for line in said.out.splitlines()[1:-2]}
        assert {"TLS": "no", "HEAD of a manifest": "yes", "upload may begin": "yes"}.items() <= rows.items()
        assert said.out.splitlines()[-1].startswith("add `--push`")
        pushed = await desk.run("probe", "--push", f"{registry.host}/team/app")
        assert (pushed.status, pushed.err) == (0, "")
        assert "delete a tag alone" in pushed.out


async def test_what_is_missing_under_hosts(desk: Desk) -> None:
    """A registry whose HEAD is worthless needs a profile: the line to write is printed, in JSON a document."""
    async with Quirky(nexus) as registry:
        await push(IMAGE, registry, "team/app", ["v1"])
        said = await desk.run("probe", f"{registry.host}/team/app")
        assert f'write under hosts: {{"{registry.host}": {{"profile": "nexus"}}}}' in said.out.splitlines()
        document = (await desk.run("probe", "--json", f"{registry.host}/team/app")).document
        assert document["hosts"] == {registry.host: {"profile": "nexus"}}
        assert {"what": "head", "answer": "no", "detail": "status 404"} in document["found"]
        assert (document["profile"], document["left"]) == ("generic", [])


async def test_what_stays_is_told(desk: Desk) -> None:
    """A registry that deletes nothing: each manifest that stays is named, and the exit code is 2."""
    async with Quirky(hub) as registry:
        said = await desk.run("probe", "--push", f"{registry.host}/team/app")
        assert said.status == 2
        (digest,) = registry.manifests["team/app"]
        assert f"stays at {registry.host}/team/app: manifests/{digest}: status 405 to DELETE" in said.err.splitlines()


async def test_an_upload_that_stays_is_told(desk: Desk) -> None:
    """Without an answer to its DELETE an upload is named, the exit code is 2, and `--push` begins nothing more."""
    async with Registry() as registry:
        registry.faults.on("DELETE", "/uploads/", times=None).close()
        said = await desk.run("probe", "--push", f"{registry.host}/team/app")
        assert (said.status, registry.count("POST", "/uploads/")) == (2, 1)
        assert said.err == f"stays at {registry.host}/team/app: an upload: no answer to DELETE\n"
        assert (await desk.run("probe", "--json", f"{registry.host}/team/app")).document["left"] == [
            "an upload: no answer to DELETE"
        ]


def test_what_cannot_be_probed(typed: Typed) -> None:
    """A tag is a mistake that says what to write."""
    said = typed("probe", "quay.io/a/b:v1")
    assert (said.status, said.err) == (64, "mirrord: quay.io/a/b:v1 has a tag or digest; write quay.io/a/b\n")
