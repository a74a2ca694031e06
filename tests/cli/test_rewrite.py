"""`mirrord rewrite`: images of files point at the mirror, and every other byte stays."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import kubernetes_validate
import pytest
import yaml

from mirrord.cli import rewrite as rewriting
from mirrord.pointing.rewriting.edits import rewritten
from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from mirrord.testing.running import run
from mirrord.wire.oci.reference import Reference
from tests.support.commands import Desk, Said

Typed = Callable[..., Said]
DIGEST = f"sha256:{'e5' * 32}"
CONTROLLER = "registry.k8s.io/ingress-nginx/controller"
CONFIGURATION = """
settings: {url: "https://m.daocloud.io"}
names: {naming: path}
targets: {t: {kind: image, to: reg.example/m}}
pointing: {to: front, policy: listed}
front: {image: {upstreams: [docker.io, quay.io, registry.k8s.io], allow: [docker.io/*, quay.io/calico/node]}}
mirrors:
  - {name: listed, kind: image, from: {list: mirror.txt}, to: t}
"""
LIST = f"docker.io/library/nginx\nquay.io/calico/node\n{CONTROLLER}\n"


@pytest.fixture
def rewrite(desk: Desk, typed: Typed) -> Callable[..., Said]:
    """Rewrite a file with a list of images, as public mirrors have it, and a front."""
    desk.configure(CONFIGURATION)
    desk.configure(LIST, "mirror.txt")

    def do(text: str | bytes, *options: str, name: str = "in.yaml") -> Said:
        data = text if isinstance(text, bytes) else text.encode()
        (desk.folder / name).write_bytes(data)
        return typed("rewrite", name, *options)

    return do


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("image: nginx:1.25", "image: reg.example/m/docker.io/library/nginx:1.25"),
        ('image: "quay.io/calico/node:v3.26.1"', 'image: "reg.example/m/quay.io/calico/node:v3.26.1"'),
        ("'image': 'nginx:1.25'", "'image': 'reg.example/m/docker.io/library/nginx:1.25'"),
        (f"image: '{CONTROLLER}:v1.8.1@{DIGEST}'", f"image: 'reg.example/m/{CONTROLLER}:v1.8.1@{DIGEST}'"),
        (
            "image: docker.io/library/nginx:1.25 # comment",
            "image: reg.example/m/docker.io/library/nginx:1.25 # comment",
        ),
        ("image: nginx", None),
        ("image: nginx:1.25-alpha1", None),
        ("image: ghcr.io/a/b:1.0", None),
        ("image: reg.example/m/docker.io/library/nginx:1.25", None),
        ("image: localhost:5000/x:v1.0", None),
        ('text: "a\\nb\\\\c"', None),
        ("args: ['- image: nginx:1.25']", None),
    ],
)
def test_what_the_script_of_a_public_mirror_did(rewrite: Callable[..., Said], line: str, expected: str | None) -> None:
    """As DaoCloud's image-filter.sh, without its quirks: digests, backslashes and registries with a port are kept."""
    said = rewrite(f"a: 1\nb:\n  {line}\n", "--to", "t")
    assert (said.status, said.out) == (0, f"a: 1\nb:\n  {expected or line}\n")


def test_what_is_left_is_said_once(rewrite: Callable[..., Said]) -> None:
    """File, line, image and reason, each once; what is at the mirror already is not worth a line."""
    said = rewrite("- image: ghcr.io/a/b:1\n- image: ghcr.io/a/b:1\n- image: m.daocloud.io/x/y:1\n- image: ':::'\n")
    first, second = said.err.splitlines()
    assert first == "in.yaml:1: ghcr.io/a/b:1 is left: the front does not serve it"
    assert second.startswith("in.yaml:4: ::: is left: ")
    assert said.status == 0


def test_a_check_for_pipelines(rewrite: Callable[..., Said], desk: Desk) -> None:
    """`--check` lists what would change and fails; the rewritten file passes. No file is changed by it."""
    said = rewrite("spec:\n  image: nginx:1.25\n", "--check")
    line = "in.yaml:2: nginx:1.25 would be m.daocloud.io/docker.io/library/nginx:1.25\n"
    assert said == Said(1, line, "")
    assert (desk.folder / "in.yaml").read_text() == "spec:\n  image: nginx:1.25\n"
    assert rewrite("image: m.daocloud.io/docker.io/library/nginx:1.25\n", "--check") == Said(0, "", "")
    said = rewrite("a: {image: nginx:1.25}\nb: {image: ghcr.io/a/b}\n", "--check", "--json")
    becomes = "m.daocloud.io/docker.io/library/nginx:1.25"
    (file,) = said.document["files"]
    assert (said.status, file["file"]) == (1, "in.yaml")
    assert file["changes"] == [{"line": 1, "image": "nginx:1.25", "becomes": becomes}]
    assert [(one["line"], one["image"], one["reason"]) for one in file["left"]] == [(2, "ghcr.io/a/b", "unnamed")]


def test_files_in_place(rewrite: Callable[..., Said], typed: Typed, desk: Desk) -> None:
    """A file is replaced with its mode, a link stays one, and a file without a change is not touched."""
    (desk.folder / "other.yaml").write_text("image: ghcr.io/a/b:1\n")
    (desk.folder / "link.yaml").symlink_to("in.yaml")
    rewrite("image: nginx:1.25\n", "--check")
    (desk.folder / "in.yaml").chmod(0o640)
    before = (desk.folder / "other.yaml").stat()
    said = typed("rewrite", "-i", "link.yaml", "other.yaml")
    assert (said.status, said.out) == (0, "link.yaml: 1 image rewritten\n")
    assert (desk.folder / "in.yaml").read_text() == "image: m.daocloud.io/docker.io/library/nginx:1.25\n"
    assert (desk.folder / "in.yaml").stat().st_mode & 0o777 == 0o640
    assert (desk.folder / "link.yaml").is_symlink()
    assert (desk.folder / "other.yaml").stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("output", [(), ("--json",)])
def test_a_file_that_was_changed_meanwhile(
    rewrite: Callable[..., Said], typed: Typed, desk: Desk, monkeypatch: pytest.MonkeyPatch, output: tuple[str, ...]
) -> None:
    """What an editor saved while the mirror was asked stays; nothing is said to be done, and nothing is left beside."""
    rewrite("image: nginx:1.25\n", "--check")

    def slowly(*arguments: Any) -> Any:
        (desk.folder / "in.yaml").write_text("image: saved\n")
        return rewritten(*arguments)

    monkeypatch.setattr("mirrord.cli.rewrite.rewritten", slowly)
    before = {*desk.folder.iterdir()}
    said = typed("rewrite", "-i", "in.yaml", *output)
    words = "in.yaml: was changed while it was read; nothing was written to it; run the command again"
    assert said.status == 75
    assert said.document == {"error": {"code": "conflict", "message": words}} if output else words in said.err
    assert (desk.folder / "in.yaml").read_text() == "image: saved\n"
    assert {*desk.folder.iterdir()} == before


@pytest.mark.parametrize(
    ("text", "line"),
    [("a:\n  image: nginx:1\n  image: nginx:1.25\n", 3), ('{"a":\n{"image":"nginx:1",\n"image":"nginx:1.25"}}', 3)],
)
def test_a_key_that_is_written_twice(rewrite: Callable[..., Said], text: str, line: int) -> None:
    """The last one counts, as it does for most programs; that the other one was not looked at is said."""
    said = rewrite(text)
    assert (said.status, said.out) == (0, text.replace("nginx:1.25", "m.daocloud.io/docker.io/library/nginx:1.25"))
    words = "image is written twice; the last one counts, and only it was looked at"
    assert said.err == f"notice: in.yaml:{line}: {words}\n"


def test_several_files_stay_documents(rewrite: Callable[..., Said], typed: Typed, desk: Desk) -> None:
    """Files of YAML come out as documents of one stream, with JSON among them; JSON alone one after another."""
    (desk.folder / "b.yaml").write_text("b: {image: nginx:1.25}")
    rewrite("a: {image: nginx:1.25}", "--check")
    out = typed("rewrite", "in.yaml", "b.yaml").out
    place = {"image": "m.daocloud.io/docker.io/library/nginx:1.25"}
    assert list(yaml.safe_load_all(out)) == [{"a": place}, {"b": place}]
    for name in ("a.json", "b.json"):
        (desk.folder / name).write_text('{"image":"nginx:1.25"}')
    assert [json.loads(line) for line in typed("rewrite", "a.json", "b.json").out.splitlines()] == [place, place]
    for files in (("in.yaml", "a.json"), ("a.json", "in.yaml")):
        documents = [{"a": place} if file == "in.yaml" else place for file in files]
        assert list(yaml.safe_load_all(typed("rewrite", *files).out)) == documents


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: ]\n", "in.yaml:2: is not YAML; correct it; nothing was written"),
        ("a: 1\n---\nimage: {{ .Values.image }}\n", "in.yaml:3: has a template, {{ }}; render it first; nothing"),
        ("{{ if .x }}\nimage: {{ .v }}\n{{ end }}\n", "in.yaml:1: has a template, {{ }}; render it first; nothing"),
        ('{"image": "a"', "in.yaml:1: is not JSON ("),
        ("a: &a [*a]\n", "in.yaml:1: contains itself: an alias stands inside its own anchor; nothing was written"),
        (b"a: \xff\n", "in.yaml:1: is not UTF-8 (byte 3); save it as UTF-8"),
        (b"a: 1\nb: \x00\n", "in.yaml:2: is not text; name another file; nothing was written"),
        ("a: " + "[" * 500, "in.yaml:1: is nested more than 64 levels deep; nothing was written"),
    ],
)
def test_a_file_that_cannot_be_read(
    rewrite: Callable[..., Said], typed: Typed, desk: Desk, text: str | bytes, problem: str
) -> None:
    """One line names file and line, and neither that file nor another one is written."""
    said = rewrite(text)
    assert (said.status, said.out, said.err.count("\n")) == (78, "", 1)
    assert problem in said.err
    (desk.folder / "good.yaml").write_text("image: nginx:1.25\n")
    assert typed("rewrite", "-i", "good.yaml", "in.yaml").status == 78
    assert (desk.folder / "good.yaml").read_text() == "image: nginx:1.25\n"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["-i"], "--in-place needs a FILE"),
        (["-i", "--check", "in.yaml"], "--in-place and --check contradict"),
        (["--to", "nowhere", "in.yaml"], "--to 'nowhere' is not a place of images; use one of: front, local, t"),
        (["absent.yaml"], "absent.yaml: no such file"),
        (["/dev/zero"], "/dev/zero: not a regular file; give a file of YAML or JSON, a Dockerfile, or - for standard"),
    ],
)
def test_wrong_usage(rewrite: Callable[..., Said], typed: Typed, words: list[str], problem: str) -> None:
    """What cannot be done is one line."""
    rewrite("a: 1\n")
    said = typed("rewrite", *words)
    assert (said.status, said.out, said.err.count("\n")) == (64, "", 1)
    assert problem in said.err


def test_json_needs_a_place_of_its_own(rewrite: Callable[..., Said]) -> None:
    """The output is either the file or a document about it."""
    said = rewrite("a: 1\n", "--json")
    assert (said.status, said.document["error"]["code"]) == (64, "usage")


def test_no_secret_is_printed(rewrite: Callable[..., Said]) -> None:
    """Someone's login in the name of an image does not reach the log of a pipeline."""
    said = rewrite("image: https://ann:hunter2@quay.io/a\n")
    assert said.err.startswith("in.yaml:1: ")
    assert "hunter2" not in said.err


def test_a_filter(desk: Desk, rewrite: Callable[..., Said]) -> None:
    """Standard input goes to standard output, byte by byte where there is no image, without a line end at the end."""
    rewrite("a: 1\n")
    text = "\ufeffa: 1\r\nimage: nginx:1.25\r\n# \u2014 \U0001f600\r\nz: {image: 'quay.io/calico/node:v1'}".encode()
    command = [sys.executable, "-m", "mirrord", "rewrite"]
    done = subprocess.run(command, input=text, cwd=desk.folder, env=desk.environ, capture_output=True, check=True)
    expected = text.replace(b"nginx", b"m.daocloud.io/docker.io/library/nginx")
    assert done.stdout == expected.replace(b"'quay.io", b"'m.daocloud.io/quay.io")


def test_a_filter_for_too_much(rewrite: Callable[..., Said], typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is longer than the limit is refused; its first part is never taken for all of it."""
    rewrite("a: 1\n")
    text = b"FROM nginx:1.25\nRUN true\n"
    for limit, status in ((len(text), 0), (len(text) - 1, 64)):
        monkeypatch.setattr(rewriting, "MAX_WORKLOADS", limit)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        said = typed("rewrite")
        assert (said.status, bool(said.out)) == (status, not status), said


async def test_images_that_are_at_a_real_registry(desk: Desk) -> None:
    """A mirror is synced, a manifest rewritten by asking it, and skopeo pulls all that was rewritten, and by digest.

    What the registry does not have is left.
    """
    require("docker-registry", "skopeo")
    async with DockerRegistry() as source, DockerRegistry() as mirror:
        image = build_image(["linux/amd64"], layers=1, seed="app")
        digest = image.digest
        await push(image, source.url, "team/app", ["v1"])
        desk.configure(
            f"""
names: {{naming: path}}
targets: {{t: {{kind: image, to: {mirror.host}/m}}}}
mirrors: [{{name: app, kind: image, from: {{repository: {source.host}/team/app, tags: ["*"]}}, to: t}}]
"""
        )
        assert (await desk.run("sync")).status == 0
        pod: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": []}}
        wanted = [f"{source.host}/team/app:v1", f"{source.host}/team/app@{digest}", f"{source.host}/team/app:v2"]
        pod["spec"]["containers"] = [{"name": f"c{at}", "image": one} for at, one in enumerate(wanted)]
        kubernetes_validate.validate(pod, "1.34", strict=True)
        (desk.folder / "pod.yaml").write_text(yaml.safe_dump(pod))
        said = await desk.run("rewrite", "pod.yaml")
        assert said.status == 0, said.err
        fresh = yaml.safe_load(said.out)
        kubernetes_validate.validate(fresh, "1.34", strict=True)
        found = [one["image"] for one in fresh["spec"]["containers"]]
        name = Reference.parse(f"{mirror.host}/m/{source.host.replace(':', '_')}/team/app").name
        assert found == [f"{name}:v1", f"{name}@{digest}", wanted[2]]
        assert f"{wanted[2]} is left: is not at the mirror ({name}:v2)" in said.err
        for one in found[:2]:
            seen = await run("skopeo", "inspect", "--tls-verify=false", f"docker://{one}")
            assert (seen.status, json.loads(seen.output)["Digest"]) == (0, str(digest))
    said = await desk.run("rewrite", "pod.yaml")
    assert (said.status, said.out) == (2, (desk.folder / "pod.yaml").read_text())
    assert "could not be looked for" in said.err
    assert (await desk.run("rewrite", "--check", "pod.yaml")).status == 2


@pytest.mark.parametrize("guarded", [False, True])
async def test_images_that_a_running_front_would_serve(desk: Desk, guarded: bool) -> None:
    """What it pulls through lazily is there, and no blob moves; what it denies, or upstream lacks, is left.

    Where it wants a token, nothing is known without one.
    """
    async with Registry() as source:
        for name in ("team/app", "bad/app"):
            await push(build_image(["linux/amd64"], layers=1, seed=name), source, name, ["v1"])
        upstream = f"{{'{source.host}': {{credentials: true}}}}" if guarded else f"'{source.host}'"
        front = (
            f"names: {{aliases: {{src.example: '{source.host}'}}}}\n"
            f"front: {{image: {{upstreams: [{upstream}], allow: [src.example/team/app, src.example/bad/app]"
        )
        settings = "settings: {listen: '127.0.0.1:0', url: https://m.example}\n"
        desk.configure(f"{settings}{front}, deny: [src.example/bad/**]}}}}\n")
        wanted = [f"- image: src.example/{name}" for name in ("team/app:v1", "team/app:v2", "bad/app:v1")]
        (desk.folder / "in.yaml").write_text("\n".join(wanted))
        async with desk.serving() as daemon:
            own = daemon.address
            token = (await desk.run("token", "add", "one", "--read")).out.strip()
            client = desk.folder / "client.d" / "a.yaml"
            client.parent.mkdir()
            client.write_text(f"settings: {{url: 'http://{own}'}}\n{front}}}}}\n")  # it knows not what is denied
            source.forget()
            said = await desk.run("rewrite", "in.yaml", "-c", "client.d")
            if guarded:
                assert (said.status, said.out) == (2, "\n".join(wanted)), said.err
                assert said.err.count("could not be looked for") == len(wanted)
                with client.open("a") as file:
                    file.write(f"hosts: {{'{own}': {{auth: {{username: any, password: {{env: TOKEN}}}}}}}}\n")
                said = await desk.run("rewrite", "in.yaml", "-c", "client.d", TOKEN=token)
            assert said.out.splitlines() == [f"- image: {own}/src.example/team/app:v1", *wanted[1:]]
            assert f"src.example/team/app:v2 is left: is not at the mirror ({own}/src.example/team/app:v2)" in said.err
            assert "src.example/bad/app:v1 is left: could not be looked for" in said.err
            assert source.count("GET", "/blobs/") == 0


@pytest.mark.parametrize("program", ["helm3", "helm4"])
async def test_a_rendered_chart(desk: Desk, program: str) -> None:
    """What `helm template` renders is rewritten and valid, the values are, and both say the same."""
    require(program)
    desk.configure("front: {image: {upstreams: [docker.io], allow: [docker.io/*]}}\npointing: {policy: always}\n")
    environ = {"HOME": str(desk.folder), "PATH": desk.environ["PATH"]}
    await run(program, "create", desk.folder / "app", env=environ)
    rendered = (await run(program, "template", desk.folder / "app", env=environ)).output
    (desk.folder / "rendered.yaml").write_text(rendered)
    said = await desk.run("rewrite", "rendered.yaml")
    assert said.status == 0, said.err
    for document in filter(None, yaml.safe_load_all(said.out)):
        kubernetes_validate.validate(document, "1.34", strict=True)
    values = await desk.run("rewrite", "-i", "app/values.yaml")
    assert values.status == 0, values.err
    again = (await run(program, "template", desk.folder / "app", env=environ)).output
    assert "127.0.0.1:8080/docker.io/library/nginx:" in again
    assert again == said.out.replace("127.0.0.1:8080/docker.io/library/busybox", "busybox")
    raw = await desk.run("rewrite", "app/templates/deployment.yaml")
    assert (raw.status, raw.out, raw.err.count("\n")) == (78, "", 1)
    assert "has a template, {{ }}; render it first" in raw.err


async def test_what_kustomize_and_compose_make_of_it(desk: Desk) -> None:
    """Kustomize and docker-compose read the rewritten files, and name the images at the mirror."""
    require("kubectl", "docker-compose")
    desk.configure("front: {image: {upstreams: [docker.io], allow: [docker.io/**]}}\npointing: {policy: always}\n")
    files = {
        "compose.yaml": "services:\n  web: {image: 'nginx:1.27', build: {context: ., cache_from: [redis:7]}}\n",
        "app.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: [{name: a, image: app}]\n",
        "kustomization.yaml": "resources: [app.yaml]\nimages:\n- {name: app, newName: grafana/grafana, newTag: '12'}\n",
    }
    for name, text in files.items():
        (desk.folder / name).write_text(text)
    said = await desk.run("rewrite", "-i", "compose.yaml", "kustomization.yaml")
    assert said.status == 0, said.err
    built = await run("kubectl", "kustomize", desk.folder)
    assert "image: 127.0.0.1:8080/docker.io/grafana/grafana:12\n" in built.output
    composed = await run("docker-compose", "--file", desk.folder / "compose.yaml", "config")
    assert composed.status == 0, composed.output
    service = yaml.safe_load(composed.output)["services"]["web"]
    assert service["image"] == "127.0.0.1:8080/docker.io/library/nginx:1.27"
    assert service["build"]["cache_from"] == ["127.0.0.1:8080/docker.io/library/redis:7"]
