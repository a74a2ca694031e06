"""cosign as judge: what it signs counts, whichever kind of key and form it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mirrord.model.plan import Action, Plan
from mirrord.testing import DockerRegistry, build_image, push, require
from mirrord.testing.running import run
from tests.support.cosigning import PrivateKey, new_key
from tests.support.world import World

FORMS = {"cosign2": ("--new-bundle-format=false",), "cosign3": ()}
OFFLINE = ("--tlog-upload=false", "--use-signing-config=false", "--yes")
SIGNED, FOREIGN, ATTESTED, BARE = (build_image(["linux/amd64"], layers=1, seed=str(number)) for number in range(4))


class Cosign:
    """cosign at home in a folder, so that no login of the machine is used."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._home = {"HOME": str(folder), "DOCKER_CONFIG": str(folder), "COSIGN_PASSWORD": ""}

    async def __call__(self, *words: str) -> None:
        done = await run("cosign", *words, env=self._home)
        assert done.status == 0, done.output[-2000:]

    async def key(self, name: str, private: PrivateKey | None = None) -> Path:
        """Make a key, or take over one of another program; returns the public file."""
        prefix = self.folder / name
        if private is None:
            await self("generate-key-pair", "--output-key-prefix", str(prefix))
        else:
            pem = private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            (self.folder / f"{name}.pem").write_bytes(pem)
            await self("import-key-pair", "--key", f"{prefix}.pem", "--output-key-prefix", str(prefix))
        return self.folder / f"{name}.pub"

    async def sign(self, name: str, reference: str, *flags: str) -> None:
        await self("sign", "--key", f"{self.folder}/{name}.key", *OFFLINE, *flags, reference)


def told(plan: Plan) -> dict[str, tuple[Action, str]]:
    return {one.item: (one.action, one.reason.partition("; ")[0]) for one in plan.steps}


@pytest.mark.parametrize("form", FORMS)
async def test_signed_by_cosign(world: World, tmp_path: Path, form: str) -> None:
    """What cosign signed with the key counts; with another key, for another image, or attested alone it does not."""
    require("docker-registry", "cosign")
    tool, flags = Cosign(tmp_path / "home"), FORMS[form]
    release = await tool.key("release")
    await tool.key("stranger")
    async with DockerRegistry() as source:
        name = f"{source.host}/team/app"
        for tag, image in (("signed", SIGNED), ("foreign", FOREIGN), ("attested", ATTESTED), ("bare", BARE)):
            await push(image, source.url, "team/app", [tag])
        await tool.sign("stranger", f"{name}@{SIGNED.digest}", *flags)
        await tool.sign("release", f"{name}@{SIGNED.digest}", *flags, "-a", "commit=abc")
        await tool.sign("stranger", f"{name}@{FOREIGN.digest}", *flags)
        (tool.folder / "sbom.json").write_text("{}")
        predicate = ("--predicate", f"{tool.folder}/sbom.json", "--type", "custom")
        key = ("--key", f"{tool.folder}/release.key")
        await tool("attest", *key, *predicate, *OFFLINE, *flags, f"{name}@{ATTESTED.digest}")
        tags = ["signed", "foreign", "attested", "bare"]
        mirror = world.mirror(
            {"repository": name, "tags": tags}, "local", signatures={"require": {"key": str(release)}}
        )
        assert told(await world.plan(mirror)) == {
            "signed": (Action.COPY, "signed not there"),
            "foreign": (Action.REFUSE, "is signed with another key than release.pub"),
            "attested": (Action.REFUSE, "is not signed"),
            "bare": (Action.REFUSE, "is not signed"),
        }
        await world.run(mirror)
    assert {tag for tag in world.local_tags() if not tag.startswith("sha256-")} == {"signed"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["p384", "p521", "rsa"])
async def test_other_kinds_of_keys(world: World, tmp_path: Path, form: str, kind: str) -> None:
    """Whatever hash cosign takes for a key of another curve, or of RSA, its signature counts."""
    require("docker-registry", "cosign")
    curves = {"p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
    private = new_key(curves[kind]) if kind in curves else rsa.generate_private_key(65537, 2048)
    tool = Cosign(tmp_path / "home")
    public = await tool.key("release", private)
    async with DockerRegistry() as source:
        await push(SIGNED, source.url, "team/app", ["v1"])
        await tool.sign("release", f"{source.host}/team/app@{SIGNED.digest}", *FORMS[form])
        from_ = {"repository": f"{source.host}/team/app", "tags": ["v1"]}
        plan = await world.plan(world.mirror(from_, "local", signatures={"require": {"key": [str(public)]}}))
        assert told(plan) == {"v1": (Action.COPY, "v1 not there")}


async def test_the_signature_of_another_image_under_the_tag_of_this_one(world: World, tmp_path: Path) -> None:
    """Cosign's signature, pushed under the tag for another digest, is told as one for the image that it signs."""
    require("docker-registry", "cosign", "crane")
    tool = Cosign(tmp_path / "home")
    public = await tool.key("release")
    async with DockerRegistry() as source:
        name = f"{source.host}/team/app"
        await push(SIGNED, source.url, "team/app", ["v1"])
        await push(BARE, source.url, "team/app", ["v2"])
        await tool.sign("release", f"{name}@{SIGNED.digest}", *FORMS["cosign2"])
        there, here = (f"{name}:{image.digest.replace(':', '-')}.sig" for image in (SIGNED, BARE))
        done = await run("crane", "copy", there, here)
        assert done.status == 0, done.output
        mirror = world.mirror(
            {"repository": name, "tags": ["v2"]}, "local", signatures={"require": {"key": str(public)}}
        )
        reason = f"is signed by release.pub, but for another digest ({SIGNED.digest})"
        assert told(await world.plan(mirror)) == {"v2": (Action.REFUSE, reason)}
