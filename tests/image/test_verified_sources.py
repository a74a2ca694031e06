"""`signatures: {require: …}` for every kind of source: many repositories, layouts, a publish; and by identity."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mirrord.model.plan import Action
from mirrord.model.run import Result, Run
from mirrord.testing import Image, Registry, build_image, push
from tests.support.cosigning import build_bundle, bundle_of, new_key, pem_of, signature_tag, simple_by, statement_of
from tests.support.fulcio import IDENTITY, ISSUER, Sigstore
from tests.support.layouts import write_layout
from tests.support.world import World

IMAGE = build_image(["linux/amd64"], index=False, layers=1)
OTHER = build_image(["linux/amd64"], index=False, layers=1, seed="other")
KEY = new_key()
BUNDLE = build_bundle(IMAGE, bundle_of(KEY, statement_of(IMAGE.digest)))


def required(world: World) -> dict[str, object]:
    path = world.folder / "release.pub"
    path.write_bytes(pem_of(KEY))
    return {"require": {"key": str(path)}}


def told(run: Run) -> dict[str, tuple[Action, str]]:
    assert run.plan is not None
    return {one.item.rpartition("/")[2]: (one.action, one.reason.partition("; ")[0]) for one in run.plan.steps}


async def test_each_of_many_repositories_is_verified(world: World) -> None:
    """Of the repositories of a registry only what is signed is mirrored, each refusal under its own name."""
    world.services = replace(world.services, facts=world.store)
    source, target = await world.registry("source"), await world.registry("target")
    await push(IMAGE, source, "team/good", ["v1"])
    await push(simple_by(IMAGE.digest, KEY), source, "team/good", [signature_tag(IMAGE)])
    await push(OTHER, source, "team/bad", ["v1"])
    from_ = {"registry": source.host, "repositories": ["team/*"], "tags": ["v1"]}
    mirror = world.mirror(from_, target, signatures=required(world))
    run = await world.run(mirror)
    assert told(run) == {"good:v1": (Action.COPY, "v1 not there"), "bad:v1": (Action.REFUSE, "is not signed")}
    assert [*target.tags] == [f"mirror/{source.host.replace(':', '_')}/team/good"]
    source.forget()
    again = await world.run(mirror)
    assert told(again)["bad:v1"] == (Action.REFUSE, "is not signed")
    assert source.count("*", f"good/.*{IMAGE.digest.partition(':')[2]}") == 0


async def test_a_layout_has_signatures_of_its_own(world: World) -> None:
    """A layout with a signature in it is verified by that one; a build without one is refused."""
    folder = world.folder / "layout"
    write_layout(IMAGE, folder, "v1")
    layout = world.mirror({"layout": str(folder), "tag": "v1"}, "local", signatures=required(world))
    assert told(await world.run(layout)) == {"v1": (Action.REFUSE, "is not signed")}
    assert world.local_tags() == {}
    write_layout(BUNDLE, folder, add=True)
    assert (await world.run(layout)).result is Result.SUCCESS
    assert world.local_tags()["v1"] == IMAGE.digest


async def test_builds_and_publishes_are_verified_alike(world: World) -> None:
    """In a folder of builds the signed one gets the name of the branch; a publish of an unsigned build is refused."""
    builds = world.folder / "builds"
    write_layout(IMAGE, builds / "one", "main", "1" * 40)
    write_layout(BUNDLE, builds / "one", add=True)
    write_layout(OTHER, builds / "two", "main", "2" * 40)
    mirror = world.mirror({"layouts": str(builds)}, "local", signatures=required(world))
    said = told(await world.run(mirror))
    assert said["main-2222222"] == (Action.REFUSE, "is not signed")
    assert said["main-1111111"][0] is Action.COPY
    assert world.local_tags() == {"main": IMAGE.digest, "main-1111111": IMAGE.digest}
    published = await world.publish(mirror, f"oci:{builds / 'two'}", "main-3", "main")
    assert told(published) == {"main-3": (Action.REFUSE, "is not signed")}
    assert set(world.local_tags().values()) == {IMAGE.digest}


async def signed_as(source: Registry, image: Image, sigstore: Sigstore, identity: str) -> None:
    bundle = build_bundle(image, json.dumps(sigstore.bundle(statement_of(image.digest), identity)).encode())
    await push(bundle, source, "team/app")


async def test_an_identity_is_required(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the workflow signed is mirrored, the plan names it, and nobody but the registry is asked."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked over the network")

    monkeypatch.setattr("requests.Session.send", refuse)
    source, target, sigstore = await world.registry("source"), await world.registry("target"), Sigstore()
    root = world.folder / "trusted_root.json"
    root.write_bytes(sigstore.trusted_root())
    for tag, image in (("good", IMAGE), ("bad", OTHER)):
        await push(image, source, "team/app", [tag])
    await signed_as(source, IMAGE, sigstore, IDENTITY)
    await signed_as(source, OTHER, sigstore, "https://github.com/evil/app")
    require = {"identity": IDENTITY, "issuer": ISSUER, "trust_root": str(root)}
    from_ = {"repository": f"{source.host}/team/app", "tags": ["good", "bad"]}
    run = await world.run(world.mirror(from_, target, signatures={"require": require}))
    assert run.plan is not None
    good, bad = run.plan.steps
    assert good.reason == f"good not there; signed by {IDENTITY}"
    assert bad.reason.startswith(f"is signed by https://github.com/evil/app ({ISSUER}), not by {IDENTITY} ({ISSUER})")
    assert "bad" not in target.tags["mirror/app"]
