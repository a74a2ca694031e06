"""Admission reviews as an API server writes them, and random Pods with images of all sorts."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from random import Random
from typing import Any, Final

from mirrord.errors import UsageError
from mirrord.pointing.places import DIRECT, Decision, Direct, Left, MirrorPlace
from mirrord.wire.oci.reference import Reference

HERE: Final = "mirror.example:5000"
DIGEST: Final = f"sha256:{'ab' * 32}"
IMAGES: Final = (
    *("nginx", "nginx:1.29", f"nginx@{DIGEST}", f"quay.io/a/b:1@{DIGEST}", "docker.io/library/nginx", "localhost/x"),
    *(
        "HOST:5000/x",
        f"{HERE}/docker.io/library/nginx:1",
        ":::",
        "",
        "direct.to/busybox:1",
        "direct.to/",
        "absent.example/b",
    ),
    *(
        "direct.to/direct.to/a:1",
        "{{ .image }}",
        "a" * 300,
        "nginx\ud800",
        "slow.example/b:1",
        "Ünicode:1",
        'a"b\\c~/d',
    ),
)
KEYS: Final = ("app", "a/b", "a~b", "~1", "kubernetes.io/x", "", "é", 'q"')
"""Keys of annotations; some are not valid ones."""


def decide(text: str) -> Decision:
    """Point all at one mirror but what stands for the reasons that there are."""
    if text.startswith(DIRECT):
        return Direct(text.removeprefix(DIRECT))
    if "{{" in text:
        return Left("template", "has a template; render it first")
    try:
        reference = Reference.parse(text)
        at = Reference(HERE, f"{reference.domain.replace(':', '-')}/{reference.path}", reference.tag, reference.digest)
    except UsageError as error:
        return Left("invalid", str(error))
    left: Mapping[str, Left] = {
        HERE: Left("at_mirror", "is at the mirror already"),
        "absent.example": Left("absent", "is not at the mirror"),
        "slow.example": Left("unknown", "could not be looked for: timed out"),
    }
    return left.get(reference.domain) or MirrorPlace(at, "front", None, listed=True)


def pod(*images: str, **metadata: Any) -> dict[str, Any]:
    """Return a Pod with a container for each image: `c0`, `c1` and so on."""
    containers = [{"name": f"c{at}", "image": image} for at, image in enumerate(images)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "shop", **metadata},
        "spec": {"containers": containers},
    }


def review(target: Any, operation: str = "CREATE", **request: Any) -> dict[str, Any]:
    """Return the review of an object; `request` are more fields of its request."""
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "name": "web",
            "namespace": "shop",
            "operation": operation,
            "userInfo": {"username": "jane"},
            "object": target,
            "oldObject": None,
            "dryRun": False,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": f"{operation.title()}Options"},
            **request,
        },
    }


def patch_in(answer: bytes) -> list[dict[str, Any]]:
    """Return the patch of an answer; none where it has none."""
    response = json.loads(answer)["response"]
    assert ("patch" in response) == ("patchType" in response)
    operations: list[dict[str, Any]] = json.loads(base64.b64decode(response.get("patch", "W10="), validate=True))
    return operations


def random_pod(random: Random) -> dict[str, Any]:
    """Return a Pod with images of all sorts in all places."""
    spec: dict[str, Any] = {"containers": [_container(random, "c", at) for at in range(random.randint(0, 4))]}
    if random.random() < 0.5:
        spec["initContainers"] = [_container(random, "i", at) for at in range(random.randint(0, 3))]
    if random.random() < 0.5:
        spec["volumes"] = [_volume(random, at) for at in range(random.randint(0, 3))]
    metadata: dict[str, Any] = {"namespace": "shop"}
    metadata |= {"name": "web"} if random.random() < 0.5 else {"generateName": "web-"}
    if random.random() < 0.6:
        metadata["annotations"] = dict.fromkeys(random.sample(KEYS, random.randint(0, 4)), "value")
    if random.random() < 0.3:
        metadata["labels"] = {"app": "web"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {}}


def _container(random: Random, begin: str, at: int) -> dict[str, Any]:
    container: dict[str, Any] = {"name": f"{begin}{at}", "resources": {}}
    if random.random() < 0.95:
        container["image"] = random.choice(IMAGES)
    if random.random() < 0.5:
        container["imagePullPolicy"] = "IfNotPresent"
    return container


def _volume(random: Random, at: int) -> dict[str, Any]:
    sources: list[dict[str, Any]] = [{"emptyDir": {}}, {"image": {"reference": random.choice(IMAGES)}}, {"image": {}}]
    source = random.choice(sources)
    return {"name": f"v{at}", **source}
