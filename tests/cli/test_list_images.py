"""`mirrord list images`: what real tools write, and what people write by hand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mirrord.testing import require
from mirrord.testing.running import run
from tests.support.commands import Desk, Said

Typed = Callable[..., Said]
DIGEST = f"sha256:{'ab' * 32}"


@pytest.fixture
def listed(typed: Typed, desk: Desk) -> Callable[[str], Said]:
    """List the images of a text."""

    def images(text: str) -> Said:
        (desk.folder / "in.yaml").write_text(text)
        return typed("list", "images", "in.yaml")

    return images


PODS = """\
%YAML 1.2
---
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      initContainers: [{name: a, image: "quay.io/init/a:v1"}]
      containers:
      - name: b
        image: nginx:1.25
      - name: c
        image: nginx:1.25
      ephemeralContainers: [{name: e, image: busybox}]
      volumes: [{name: v, image: {reference: "quay.io/volume/v:v2", pullPolicy: Always}}]
status: {images: [{image: "quay.io/seen/only:v9"}]}
---
# nothing
--- # a CronJob
kind: CronJob
spec: {jobTemplate: {spec: {template: {spec: {containers: [{image: 'k8s.gcr.io/pause:3.9'}]}}}}}
---
kind: Prometheus
spec: {image: "quay.io/prometheus/prometheus:v2.53.0", reloaderImage: "quay.io/p/reloader:v1", someImage: logo}
---
kind: List
items:
- {kind: Pod, spec: {containers: [{image: "localhost:5000/x/y:v1@%s", env: [
    {name: RELATED_IMAGE_PROXY, value: "quay.io/o/proxy:v3"}, {name: OTHER, value: "quay.io/o/other:v3"}]}]}}
...
""".replace("%s", DIGEST)


def test_objects_of_kubernetes(listed: Callable[[str], Said]) -> None:
    """Containers of all kinds, volumes, jobs, lists and custom resources: sorted, in full names, each once."""
    assert listed(PODS) == Said(
        0,
        "docker.io/library/busybox\ndocker.io/library/nginx:1.25\n"
        f"localhost:5000/x/y:v1@{DIGEST}\nquay.io/init/a:v1\nquay.io/o/proxy:v3\nquay.io/p/reloader:v1\n"
        "quay.io/prometheus/prometheus:v2.53.0\nquay.io/volume/v:v2\nregistry.k8s.io/pause:3.9\n",
        "",
    )


def test_a_list_needs_no_formatting(listed: Callable[[str], Said], typed: Typed, desk: Desk) -> None:
    """What is printed is what `mirrord list fmt` writes."""
    (desk.folder / "list.txt").write_text(listed(PODS).out)
    assert typed("list", "fmt", "--check", "list.txt") == Said(0, "", "")


def test_compose_with_anchors(listed: Callable[[str], Said]) -> None:
    """Services of compose are read, with anchors, merge keys and extensions; a variable is named and left out."""
    said = listed(
        "x-base: &base {image: 'redis:7'}\nservices:\n  a: {<<: *base}\n  b: {image: quay.io/b/b, build: .}\n"
        "  c:\n    image: app:${TAG:-1}\n"
    )
    assert (said.status, said.out) == (1, "docker.io/library/redis:7\nquay.io/b/b\n")
    assert said.err == "in.yaml: image 'app:${TAG:-1}' has a template; render it first\n"


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("{registry: docker.io, repository: bitnami/redis, tag: 7.20, digest: ''}", "docker.io/bitnami/redis:7.20"),
        ("{repository: grafana/grafana, tag: ''}", "docker.io/grafana/grafana"),
        ("{repository: quay.io/a/b, tag: null, pullPolicy: Always}", "quay.io/a/b"),
        ("{registry: ghcr.io, repository: quay.io/a/b, tag: v1}", "quay.io/a/b:v1"),
        ("{registry: 'localhost:5000/', repository: a, tag: v1}", "localhost:5000/a:v1"),
        (f"{{repository: quay.io/a/b, tag: v1, digest: '{DIGEST}'}}", f"quay.io/a/b:v1@{DIGEST}"),
        (f"{{repository: quay.io/a/b, tag: '{DIGEST}'}}", f"quay.io/a/b@{DIGEST}"),
        ("{image: quay.io/a/b, tag: 1.10}", "quay.io/a/b:1.10"),
        ("{image: quay.io/a/b:v1, tag: v2}", "quay.io/a/b:v1"),
        ("{name: sub, repository: 'https://charts.example', version: 1.0.0}", None),
        ("{name: sub, repository: 'oci://r.example/charts', tag: v1}", None),
        ("{repository: just/this}", None),
        ("{image: ''}", None),
        ("{image: {registry: {type: string}, repository: {type: string}, tag: {type: string}}}", None),
    ],
)
def test_values_of_charts(listed: Callable[[str], Said], text: str, image: str | None) -> None:
    """Registry, repository, tag and digest of values are one image, a tag stays the text that was written."""
    assert listed(f"a: {{b: [{text}]}}\n") == Said(0, f"{image}\n" if image else "", "")


def test_what_cannot_be_read_costs_itself(listed: Callable[[str], Said]) -> None:
    """A document that is no YAML is named with its line in the file, and the others are read."""
    said = listed(
        "image: quay.io/a/a:v1\n---\nspec:\n  image: {{ .Values.image }}\n---\nimage: quay.io/a/b:v1\n---\n"
        "- ]\n---\na: *x\n---\nimage: '{{ .Values.image }}'\n---\nimage: Not/An/Image\n---\nimage: quay.io/a/c:v1\n"
    )
    assert (said.status, said.out) == (1, "quay.io/a/a:v1\nquay.io/a/b:v1\nquay.io/a/c:v1\n")
    lines = said.err.splitlines()
    assert lines[0] == "in.yaml:4: has a template, {{ }}; render it first"
    assert [line.split(" ")[0] for line in lines[1:3]] == ["in.yaml:8:", "in.yaml:10:"]
    assert lines[3] == "in.yaml: image '{{ .Values.image }}' has a template; render it first"
    assert lines[4].startswith("in.yaml: image 'Not/An/Image' is left out: ")
    assert len(lines) == 5


def test_a_text_that_is_no_image(listed: Callable[[str], Said]) -> None:
    """An `image:` that is a picture is named, and is no reason to fail."""
    said = listed("image: https://site.example/logo.png\nother: {image: quay.io/a/a}\n")
    assert (said.status, said.out) == (0, "quay.io/a/a\n")
    assert said.err.startswith("in.yaml: image 'https://site.example/logo.png' is left out: ")


@pytest.mark.parametrize(
    "text", ["ann:hunter2@quay.io/a", "https://ann:hunter2@quay.io/a", "ann:hunter2@{{ .host }}/a"]
)
def test_a_password_in_a_name_is_not_printed(listed: Callable[[str], Said], text: str) -> None:
    """Someone's login in the name of an image does not reach the log of a pipeline."""
    said = listed(f"image: '{text}'\n")
    assert (said.out, said.err.count("in.yaml: image ")) == ("", 1)
    assert "hunter2" not in said.err


def test_json_of_kubectl(listed: Callable[[str], Said]) -> None:
    """A List in JSON, and documents after one another, are read; numbers keep their digits."""
    pod: dict[str, Any] = {"spec": {"containers": [{"name": "a", "image": "quay.io/a/a:v1"}]}}
    seen = {"status": {"containerStatuses": [{"image": "quay.io/seen/b:v1", "imageID": f"x@{DIGEST}"}]}}
    text = json.dumps({"kind": "List", "items": [pod, seen]}) + '\n{"image": {"repository": "a/b", "tag": 1.20}}\n'
    assert listed(text) == Said(0, "docker.io/a/b:1.20\nquay.io/a/a:v1\n", "")
    assert listed("[]") == Said(0, "", "")
    assert listed("{image: quay.io/a/a}") == Said(0, "quay.io/a/a\n", "")
    said = listed('{"image": "a"')
    assert (said.status, said.out) == (1, "")
    assert said.err.startswith("in.yaml:1: is not JSON (")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "{" * 5000, "a: " + "[" * 5000])
def test_what_is_nested_without_end(listed: Callable[[str], Said], text: str) -> None:
    """Nesting is bounded, and the answer is one line."""
    said = listed(text)
    assert (said.status, said.out) == (1, "")
    assert said.err.count("\n") == 1
    assert said.err.startswith("in.yaml:1: is ")


def test_aliases_that_multiply_are_bounded(listed: Callable[[str], Said]) -> None:
    """A few lines that stand for billions of values are refused."""
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
    said = listed(f"a0: &a0 {{image: quay.io/a/a}}\n{levels}")
    assert (said.status, said.out) == (1, "")
    assert "values once its aliases are resolved" in said.err


def test_what_cannot_be_opened(typed: Typed) -> None:
    """A file that is not there and a device are one line each, with one advice."""
    absent, device = typed("list", "images", "absent.yaml"), typed("list", "images", "/dev/zero")
    assert (absent.status, absent.err) == (64, "mirrord: absent.yaml: no such file; correct the path\n")
    wanted = "give a file of YAML or JSON, or - for standard input"
    assert (device.status, device.err) == (64, f"mirrord: /dev/zero: not a regular file; {wanted}\n")


@pytest.mark.parametrize("program", ["helm3", "helm4"])
async def test_a_rendered_chart(desk: Desk, program: str) -> None:
    """What a real `helm template` renders is read, and so are the values of the chart; a raw template is named."""
    require(program)
    environ = {"HOME": str(desk.folder), "PATH": desk.environ["PATH"]}
    created = await run(program, "create", desk.folder / "app", env=environ)
    assert created.status == 0, created.output
    rendered = await run(program, "template", desk.folder / "app", env=environ)
    (desk.folder / "rendered.yaml").write_text(rendered.output)
    said = await desk.run("list", "images", "rendered.yaml")
    assert said.status == 0, said.err
    assert said.out.split() == re.findall(r"^docker.io/library/(?:busybox|nginx:[0-9.]+)$", said.out, re.MULTILINE)
    assert len(said.out.split()) == 2
    assert await desk.run("list", "images", "app/values.yaml") == Said(0, "docker.io/library/nginx\n", "")
    raw = await desk.run("list", "images", "app/templates/deployment.yaml")
    assert (raw.status, raw.out, raw.err.count("\n")) == (1, "", 1)
    assert "has a template, {{ }}; render it first" in raw.err


def test_standard_input(desk: Desk) -> None:
    """Without a file, and for `-`, standard input is read."""
    for words in ([], ["-"]):
        done = subprocess.run(
            [sys.executable, "-m", "mirrord", "list", "images", *words],
            input=b"image: quay.io/a/a:v1\n",
            env=desk.environ,
            capture_output=True,
            check=True,
        )
        assert done.stdout == b"quay.io/a/a:v1\n"


def test_a_large_answer_of_kubectl(desk: Desk) -> None:
    """50 MB of JSON take memory for their text a few times, and not for objects."""
    env = [{"name": f"VARIABLE_{number}", "value": "x" * 20} for number in range(30)]
    pod = {
        "kind": "Pod",
        "metadata": {"labels": {"a": "b" * 100}},
        "spec": {"containers": [{"env": env, "image": "%"}]},
    }
    one = json.dumps(pod)
    count = 50_000_000 // len(one)
    pods = (one.replace("%", f"quay.io/a/i{number % 700}:v{number % 20}") for number in range(count))
    (desk.folder / "pods.json").write_text('{"kind": "List", "items": [' + ",\n".join(pods) + "]}")
    assert (desk.folder / "pods.json").stat().st_size > 49_000_000
    script = (
        "import sys; from mirrord.cli import main\n"
        "try: main(['list', 'images', 'pods.json'])\n"
        "finally: sys.stderr.write(open('/proc/self/status').read())"
    )
    environ = {**desk.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=desk.folder, env=environ, capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) == 700
    most = re.search(r"VmHWM:\s+(\d+) kB", done.stderr)
    assert most is not None
    assert int(most[1]) < 250_000
