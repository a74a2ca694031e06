"""MutatingAdmissionPolicies: the API server's own evaluator points images where `Places` does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from mirrord.config.load import Configuration, read_folder
from mirrord.errors import UsageError
from mirrord.pointing.admission import policy as module
from mirrord.pointing.admission.policy import name_policy, policy_objects
from mirrord.pointing.places import Direct, MirrorPlace, Places
from mirrord.syncer.port import load_syncers
from mirrord.testing import require
from mirrord.wire.oci.reference import Reference
from tests.support.judges import admission_judge
from tests.support.pods import DIGEST, pod

SYNCERS = load_syncers()
CONFIGURATION = """
settings: {url: "https://m.example", denied: DENIED}
names: {aliases: {k8s.gcr.io: registry.k8s.io, dhub.example/x: docker.io, c.example: quay.io/calico/v3}}
front:
  image:
    upstreams: [docker.io, quay.io, registry.k8s.io, ghcr.io]
    allow: [docker.io/*, docker.io/bitnami/**, quay.io/calico/**, quay.io/a/*, registry.k8s.io/pause, ghcr.io/a/b-c]
targets:
  hub: {kind: image, to: docker.io/corp}
  harbor: {kind: image, to: harbor.example/m}
mirrors:
  - {name: team, kind: image, from: {repository: team.example:5000/app/web}, to: [hub], as: web}
  - {name: lib, kind: image, from: {repository: docker.io/other/lib}, to: [harbor], as: ours/lib}
pointing: {to: [front, hub, harbor], except: [quay.io/calico/secret/**, docker.io/library/alpine]}
"""
DENIED = "".join(
    f"- {{image: {image}, reason: r}}\n"
    for image in (
        "quay.io/calico/bad",
        "quay.io/calico/bad/**",
        "quay.io/calico/part:1.0",
        "docker.io/bitnami/bad:latest",
        "ghcr.io/a/b-c:1.0",
    )
)
BAD = f"sha256:{'cd' * 32}"
DENIED += f"- {{digests: ['{BAD}'], reason: r}}\n"
NAMES = [
    *("nginx", "library/nginx", "docker.io/nginx", "docker.io/library/nginx", "index.docker.io/nginx", "bitnami/redis"),
    *(
        "registry-1.docker.io/bitnami/a/b",
        "docker.io/other/lib",
        "other/lib",
        "docker.io/other/libs",
        "corp/web",
        "a/b",
    ),
    *("quay.io/calico/node", "quay.io/calico/a/b", "quay.io/calico/secret/x", "quay.io/calico", "c.example/node"),
    *("quay.io/a/b", "quay.io/a/b/c", "registry.k8s.io/pause", "registry.k8s.io/pause/x", "registry.k8s.io/pause-a"),
    *(
        "k8s.gcr.io/pause",
        "ghcr.io/a/b-c",
        "ghcr.io/a/b",
        "team.example:5000/app/web",
        "team.example/app/web",
        "alpine",
    ),
    *(
        "localhost/nginx",
        "localhost:5000/nginx",
        "m.example:443/docker.io/library/nginx",
        "docker.io/corp/web",
        "alpine",
    ),
    *(
        "direct.to/nginx",
        "direct.to/quay.io/calico/node",
        "dhub.example/x/bitnami/redis",
        "mcr.example/x",
        "dhub.example/x/library/alpine",
    ),
    *("quay.io/calico/bad", "quay.io/calico/bad/x", "quay.io/calico/bad-x", "quay.io/calico/part", "bitnami/bad"),
    "dhub.example/x/bitnami/bad",
]
IMAGES = [
    f"{name}{end}"
    for name in NAMES
    for end in ("", ":1.0", ":latest", f"@{DIGEST}", f":1@{DIGEST}", f"@{BAD}", f":1@{BAD}")
]


def loaded(folder: Path, text: str = CONFIGURATION) -> Configuration:
    denied = folder / "denied"
    denied.write_text(DENIED)
    denied.chmod(0o600)
    (folder / "a.yaml").write_text(text.replace("DENIED", str(denied)))
    return read_folder(folder, SYNCERS, {})


def expected(places: Places, image: str) -> str:
    """Return what an image becomes by the mapping that all share."""
    read = places.read(image)
    if isinstance(read, Direct):
        return read.text
    assert isinstance(read, Reference)
    found = places.of(read)
    return str(found.reference) if isinstance(found, MirrorPlace) else image


async def judged(policy: dict[str, Any], pods: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Let the API server's evaluator apply a policy to Pods."""
    require(admission_judge())
    (folder / "policy.json").write_text(json.dumps(policy))
    process = await asyncio.create_subprocess_exec(
        admission_judge(), folder / "policy.json", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate("".join(f"{json.dumps(one)}\n" for one in pods).encode())
    assert process.returncode == 0
    return [json.loads(line) for line in out.splitlines()]


async def test_the_api_server_points_where_places_does(tmp_path: Path) -> None:
    """Every spelling of every name, with tags and digests, also one taken down, in both kinds of containers."""
    read = loaded(tmp_path)
    places = Places(read, policy="always")
    found = name_policy(read, places)
    assert found.left == []
    policy, binding = policy_objects(found, ("kube-system",))
    for one in (policy, binding):
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
    both = pod(*IMAGES)
    both["spec"]["initContainers"] = [{"name": "i", "image": "nginx"}, {"name": "none"}]
    marked = pod("nginx", annotations={"mirrord/webhook": "ignore"})
    changed, same, bare = await judged(dict(policy), [both, marked, pod("nginx")], tmp_path)
    assert [one["image"] for one in changed["spec"]["containers"]] == [expected(places, image) for image in IMAGES]
    assert [one.get("image") for one in changed["spec"]["initContainers"]] == [expected(places, "nginx"), None]
    assert [one["image"] for one in same["spec"]["containers"]] == ["nginx"]
    assert "initContainers" not in bare["spec"]
    assert sum(one != expected(places, one) for one in IMAGES) > len(IMAGES) / 3


def test_what_no_name_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a rule, or with too many names or digests, also of what stays, the webhook is the way."""
    read = loaded(tmp_path, "targets: {t: {kind: image, to: x.example}}\nmirrors: []\npointing: {to: t}\n")
    with pytest.raises(UsageError, match="use the webhook"):
        name_policy(read, Places(read, policy="always"))
    stay = ", ".join(f"quay.io/calico/x{number}" for number in range(module.MOST_RULES))
    read = loaded(tmp_path, CONFIGURATION.replace("except: [", f"except: [{stay}, "))
    with pytest.raises(UsageError, match="are more than the 200 that a policy can have"):
        name_policy(read, Places(read, policy="always"))
    read = loaded(tmp_path)
    monkeypatch.setattr(module, "LARGEST", 1000)
    with pytest.raises(UsageError, match=r"its \d+ characters are more than the 1000 that an API server takes"):
        policy_objects(name_policy(read, Places(read, policy="always")), ())
    monkeypatch.setattr(module, "MOST_RULES", 3)
    with pytest.raises(UsageError, match="are more than the 3 that a policy can have; use the webhook"):
        name_policy(read, Places(read, policy="always"))
