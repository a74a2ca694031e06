"""`mirrord client-config` for tools that name images: what was mirrored, read by kustomize and helm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from botocore.session import get_session
from botocore.validate import ParamValidator

from mirrord.testing import Registry, build_image, push, require
from mirrord.testing.running import run
from tests.support.commands import Desk

IMAGE = build_image()
POD = """\
apiVersion: v1
kind: Pod
metadata: {{name: x}}
spec:
  containers:
    - {{name: a, image: "{image}"}}
    - {{name: b, image: "elsewhere.example/b:v1"}}
"""


async def mirrored(desk: Desk, source: Registry, target: Registry, more: str = "") -> None:
    """Mirror three tags of one repository; `up.example` is another name of the registry."""
    for tag in ("v9", "v10", "latest"):
        await push(IMAGE, source, "team/app", [tag])
    desk.configure(
        f"names: {{aliases: {{up.example: '{source.host}'}}, naming: path}}\n{more}"
        f"targets: {{hub: {{kind: image, to: {target.host}/mirror}}}}\nmirrors:\n"
        f"  - {{name: app, kind: image, to: [hub], from: {{repository: {source.host}/team/app, tags: ['*']}}}}\n"
    )
    said = await desk.run("sync")
    assert said.status == 0, said.err


def place(source: Registry, target: Registry) -> str:
    return f"{target.host}/mirror/{source.host.replace(':', '_')}/team/app"


@pytest.mark.parametrize("tag", [":v9", ":v10", f":v9@{IMAGE.digest}"])
async def test_kustomize(desk: Desk, tag: str) -> None:
    """Kustomize renames each spelling of a mirrored image, keeps tag and digest, and leaves others."""
    require("kubectl")
    async with Registry() as source, Registry() as target:
        await mirrored(desk, source, target)
        said = await desk.run("client-config", "kustomize", "--output", desk.folder)
        assert said.status == 0, said.err
        (desk.folder / "kustomization.yaml").write_text("resources: [pod.yaml]\ncomponents: [mirrord]\n")
        for host in (source.host, "up.example"):
            (desk.folder / "pod.yaml").write_text(POD.format(image=f"{host}/team/app{tag}"))
            built = await run("kubectl", "kustomize", desk.folder)
            assert built.status == 0, built.output
            images = [one["image"] for one in yaml.safe_load(built.output)["spec"]["containers"]]
            assert images == [f"{place(source, target)}{tag}", "elsewhere.example/b:v1"]


@pytest.mark.parametrize("program", ["helm3", "helm4"])
async def test_helm(desk: Desk, program: str, tmp_path: Path) -> None:
    """The file is one of values, and has registry and repository of each image apart."""
    require(program)
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: x\nversion: 1.0.0\n")
    (chart / "templates/pod.yaml").write_text("image: {{ .Values.image.registry }}/{{ .Values.image.repository }}\n")
    async with Registry() as source, Registry() as target:
        await mirrored(desk, source, target)
        said = await desk.run("client-config", "helm-values", "--output", desk.folder)
        assert said.status == 0, said.err
        file = desk.folder / "values-mirrord.yaml"
        lines = [line.removeprefix("# ") for line in file.read_text().splitlines() if line.startswith("#   ")]
        file.write_text("image:\n" + "\n".join(lines))  # as its comment says
        made = await run(program, "template", chart, "--values", file)
        assert made.status == 0, made.output
        assert f"image: {place(source, target)}" in made.output


async def test_the_last_tag(desk: Desk) -> None:
    """Compose and ECS need a tag: it is the last version, `latest` is none, and the place is the preferred one."""
    async with Registry() as source, Registry() as target:
        await mirrored(desk, source, target)
        wanted = f"{place(source, target)}:v10"
        said = await desk.run("client-config", "compose")
        assert yaml.safe_load(said.out.partition("\n")[2])["services"] == {"app": {"image": wanted}}
        said = await desk.run("client-config", "ecs", "--json")
        (file,) = said.document["files"]
        assert json.loads(file["text"])["containerDefinitions"] == [{"name": "app", "image": wanted}]


async def test_compose_and_amazon_read_their_files(desk: Desk) -> None:
    """docker-compose merges the file over a service of the user, and Amazon's own model of its API takes the other."""
    require("docker-compose")
    async with Registry() as source, Registry() as target:
        await mirrored(desk, source, target)
        wanted = f"{place(source, target)}:v10"
        for client in ("compose", "ecs"):
            said = await desk.run("client-config", client, "--output", desk.folder)
            assert said.status == 0, said.err
    own = desk.folder / "compose.yaml"
    own.write_text("version: '3.8'\nservices: {app: {image: 'up.example/team/app:v1', command: [run]}}\n")
    files = ("--file", own, "--file", desk.folder / "compose.override.yaml")
    read = await run("docker-compose", *files, "config")
    assert read.status == 0, read.output
    assert yaml.safe_load(read.output)["services"] == {"app": {"image": wanted, "command": ["run"]}}
    task = json.loads((desk.folder / "task-definition.json.part").read_text())
    shape = get_session().get_service_model("ecs").operation_model("RegisterTaskDefinition").input_shape
    report = ParamValidator().validate({"family": "app", **task}, shape)
    assert not report.has_errors(), report.generate_report()


async def test_the_front_is_preferred(desk: Desk) -> None:
    """`pointing.to` says which place: the front serves what a mirror has copied, and whatever it allows."""
    async with Registry() as source, Registry() as target:
        front = f"front: {{image: {{upstreams: ['{source.host}'], allow: ['{source.host}/**']}}}}\n"
        await mirrored(desk, source, target, front + "settings: {url: 'https://m.example'}\npointing: {to: [front]}\n")
        said = await desk.run("client-config", "kustomize")
        assert set(yaml.safe_load(said.out.partition("\n")[2])["images"][0].values()) == {
            f"{source.host}/team/app",
            "m.example/up.example/team/app",
        }


async def test_nothing_is_at_the_preferred_place(desk: Desk) -> None:
    """What mirrors have copied elsewhere is no answer: the error says to name targets."""
    async with Registry() as source, Registry() as target:
        await mirrored(desk, source, target, "front: {image: {upstreams: [docker.io], allow: [docker.io/library/*]}}\n")
        said = await desk.run("client-config", "kustomize")
        assert (said.status, said.out) == (64, "")
        assert "no mirrored image is at front; run `mirrord sync` if nothing has run yet, else name targets" in said.err


async def test_nothing_is_mirrored(desk: Desk) -> None:
    """Before the first run there is nothing to name; options for clients with a mirror are refused."""
    async with Registry() as source, Registry() as target:
        text = f"{{name: app, kind: image, to: [hub], from: {{repository: {source.host}/team/app}}}}"
        desk.configure(f"targets: {{hub: {{kind: image, to: {target.host}/mirror}}}}\nmirrors: [{text}]\n")
        said = await desk.run("client-config", "kustomize")
        assert (said.status, said.out) == (64, "")
        said = await desk.run("client-config", "ecs", "--no-fallback")
        assert said.status == 64
        assert "leave it out" in said.err
