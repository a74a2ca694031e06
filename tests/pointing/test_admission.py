"""Admission reviews: what is patched, and that nothing refuses a Pod."""

from __future__ import annotations

import asyncio
import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import kubernetes_validate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrord.pointing.admission.answer import ReviewAnswer, answered
from mirrord.pointing.admission.review import IGNORE, MARK, MOST_IMAGES, ORIGINALS, ReviewError, read_review
from mirrord.pointing.json_patch import PatchError, apply, pointer
from mirrord.serve.own_certificate import OwnCertificate
from mirrord.testing import require
from mirrord.testing.running import run
from tests.support.judges import admission_judge
from tests.support.pods import DIGEST, HERE, decide, patch_in, pod, random_pod, review


def asked(document: Any, *namespaces: str) -> ReviewAnswer:
    """Answer a review, and check what every answer has."""
    read = read_review(json.dumps(document).encode(), namespaces)
    answer = answered(read, {image.text: decide(image.text) for image in read.images})
    found = json.loads(answer.body)
    assert (found["kind"], found["apiVersion"]) == ("AdmissionReview", document["apiVersion"])
    assert (found["response"]["uid"], found["response"]["allowed"]) == (document["request"]["uid"], True)
    assert bool(patch_in(answer.body)) is (answer.outcome == "pointed")
    warnings = found["response"].get("warnings", [])
    assert all(len(one) <= 256 and one.isascii() and one.isprintable() for one in warnings)
    assert warnings == [*answer.warnings]
    return answer


def pointed(target: dict[str, Any], **request: Any) -> dict[str, Any]:
    """Return the Pod as the API server has it after our patch."""
    changed = copy.deepcopy(target)
    apply(changed, patch_in(asked(review(target, **request)).body))
    return changed


def images_of(target: dict[str, Any]) -> list[str]:
    return [one["image"] for one in target["spec"]["containers"]]


@pytest.mark.parametrize(
    ("image", "expected", "decision"),
    [
        ("nginx", f"{HERE}/docker.io/library/nginx", "pointed"),
        ("nginx:1", f"{HERE}/docker.io/library/nginx:1", "pointed"),
        (f"nginx@{DIGEST}", f"{HERE}/docker.io/library/nginx@{DIGEST}", "pointed"),
        (f"quay.io/a/b:1@{DIGEST}", f"{HERE}/quay.io/a/b:1@{DIGEST}", "pointed"),
        ("docker.io/library/nginx", f"{HERE}/docker.io/library/nginx", "pointed"),
        ("localhost/x", f"{HERE}/localhost/x", "pointed"),
        ("HOST:5000/x", f"{HERE}/host-5000/x", "pointed"),
        (f"{HERE}/a/b:1", f"{HERE}/a/b:1", "at_mirror"),
        (":::", ":::", "invalid"),
        ("direct.to/busybox:1", "busybox:1", "direct"),
        ("direct.to/gcr.io/google_containers/pause:3.0", "gcr.io/google_containers/pause:3.0", "direct"),
        ("direct.to/", "direct.to/", "invalid"),
        ("direct.to/:::", "direct.to/:::", "invalid"),
        ("absent.example/b:1", "absent.example/b:1", "absent"),
        ("slow.example/b:1", "slow.example/b:1", "unknown"),
    ],
)
def test_each_image_has_its_answer(image: str, expected: str, decision: str) -> None:
    """It is pointed at the mirror with tag and digest, or stays; mistakes are warned of (bad input 76)."""
    answer = asked(review(pod(image)))
    assert b"auditAnnotations" not in answer.body
    assert images_of(pointed(pod(image))) == [expected]
    assert answer.images == {decision: 1}
    assert len(answer.warnings) == (decision in {"invalid", "unknown"})


def test_a_dry_run_is_answered_as_any_other() -> None:
    """Nothing is written here anyway (bad input 75)."""
    assert asked(review(pod("nginx"), dryRun=True)).body == asked(review(pod("nginx"))).body


def test_all_places_of_images() -> None:
    """Containers, init containers and image volumes; originals go to an annotation beside others (bad input 76)."""
    target = pod("nginx:1", "direct.to/a:1", "absent.example/b", annotations={"a/b~c": "x"})
    target["spec"] |= {
        "initContainers": [{"name": "first", "image": "busybox"}, {"name": "none"}],
        "volumes": [{"name": "data", "image": {"reference": "quay.io/a/data:1"}}, {"name": "tmp", "emptyDir": {}}],
    }
    changed = pointed(target)
    assert images_of(changed) == [f"{HERE}/docker.io/library/nginx:1", "a:1", "absent.example/b"]
    assert changed["spec"]["initContainers"][0]["image"] == f"{HERE}/docker.io/library/busybox"
    assert changed["spec"]["volumes"][0]["image"] == {"reference": f"{HERE}/quay.io/a/data:1"}
    assert changed["metadata"]["annotations"].pop("a/b~c") == "x"
    [(key, text)] = changed["metadata"]["annotations"].items()
    assert (key, json.loads(text)) == (
        ORIGINALS,
        {
            "containers/c0": "nginx:1",
            "containers/c1": "direct.to/a:1",
            "initContainers/first": "busybox",
            "volumes/data": "quay.io/a/data:1",
        },
    )


def test_only_new_ephemeral_containers() -> None:
    """Those that are there cannot be changed, and neither can anything else then: originals go to the audit log."""
    before = pod("nginx:1")
    before["spec"]["ephemeralContainers"] = [{"name": "old", "image": "busybox:1"}]
    after = copy.deepcopy(before)
    after["spec"]["ephemeralContainers"].append({"name": "new", "image": "busybox:2"})
    more: dict[str, Any] = {"operation": "UPDATE", "subResource": "ephemeralcontainers", "oldObject": before}
    answer = json.loads(asked(review(after, **more)).body)["response"]
    assert answer["auditAnnotations"] == {"original-images": '{"ephemeralContainers/new":"busybox:2"}'}
    changed = pointed(after, **more)
    images = [one["image"] for one in changed["spec"]["ephemeralContainers"]]
    assert images == ["busybox:1", f"{HERE}/docker.io/library/busybox:2"]
    assert images_of(changed) == ["nginx:1"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"labels": {MARK: IGNORE}},
        {"annotations": {MARK: IGNORE}},
        {"annotations": {"kubernetes.io/config.mirror": "hash"}},
        {"namespace": "kube-system"},
    ],
)
def test_opting_out(metadata: dict[str, Any]) -> None:
    """By label, annotation and namespace; the API's copy of a static Pod never changes. Nobody is warned."""
    answer = asked(review(pod("nginx", **metadata), namespace=metadata.get("namespace", "shop")), "kube-system")
    assert (answer.outcome, answer.warnings) == ("ignored", [])


ODD: list[dict[str, Any]] = [
    {**review(pod("nginx")), "apiVersion": "admission.k8s.io/v1beta1"},
    review(pod("nginx"), operation="DELETE"),
    review(None, operation="DELETE", oldObject=pod("nginx")),
    review(pod("nginx"), operation="UPDATE", oldObject=pod("nginx")),
    review(pod("nginx"), subResource="status"),
    review(pod("nginx"), operation="UPDATE", subResource="ephemeralcontainers"),
    review(None),
    review([]),
    review(pod("nginx"), kind={"group": "apps", "version": "v1", "kind": "Deployment"}),
    review(pod("nginx"), resource={"group": "", "version": "v1", "resource": "secrets"}),
    review(pod("nginx"), resource=None),
    review({"metadata": {}, "spec": None}),
    review({"spec": pod("nginx")["spec"]}),
    review({"metadata": {}, "spec": {"containers": {"a": "nginx"}}}),
    review({"metadata": {}, "spec": {"containers": ["nginx"]}}),
    review({"metadata": {}, "spec": {"containers": [{"image": "nginx"}]}}),
    review({"metadata": {}, "spec": {"containers": [{"name": "a", "image": 1}]}}),
    review({"metadata": {}, "spec": {"containers": [{"name": "a", "image": "nginx"}] * 2}}),
    review({"metadata": {}, "spec": {"volumes": [{"name": "a", "image": "nginx"}]}}),
    review({"metadata": {}, "spec": {"volumes": [{"name": "a", "image": {"reference": [1]}}]}}),
    review(pod("nginx", labels=["a"])),
    review(pod("nginx", annotations={"a": 1})),
    review(pod("nginx", annotations={"a": "x" * (256 << 10)})),
    review(pod(*["nginx"] * (MOST_IMAGES + 1))),
]


@pytest.mark.parametrize("document", ODD, ids=range(len(ODD)))
def test_what_is_odd_is_allowed_and_unchanged(document: dict[str, Any]) -> None:
    """With one warning, under its own `uid` and version (bad input 75)."""
    answer = asked(document)
    assert (answer.outcome, len(answer.warnings)) == ("odd", 1)


NOTHING = [b"", b"{", b"null", b"[]", b"\xff", b"[" * 100_000, b"1" * 5000, b"{}", b'{"kind": "AdmissionReview"}']
BROKEN: list[dict[str, Any]] = [{"kind": "X"}, {"request": {}}, {"request": 1}]
NOTHING += [json.dumps(review(pod("a")) | broken).encode() for broken in BROKEN]


@pytest.mark.parametrize("body", NOTHING, ids=range(len(NOTHING)))
def test_what_is_no_review_has_no_answer(body: bytes) -> None:
    """Without a `uid` there is nothing that an answer could be about (bad input 75)."""
    with pytest.raises(ReviewError):
        read_review(body)


def test_a_hostile_pod_gives_short_warnings() -> None:
    """Long and secret texts are not repeated, and no more than a few are."""
    answer = asked(review(pod("x" * 1_000_000, "\x1b[31m:::", "https://me:hunter2@h/x", *["é"] * 100)))
    assert (answer.outcome, len(answer.warnings)) == ("unchanged", 8)
    assert not any("hunter2" in one or "x" * 256 in one for one in answer.warnings)
    assert len(read_review(json.dumps(review(pod("nginx", name="x" * 100_000))).encode()).name) < 500


def test_5000_random_pods() -> None:
    """A patch changes images and one annotation, and nothing else; twice is once; the Pod stays valid."""
    random, results = Random(19), list[dict[str, Any]]()
    for _ in range(5000):
        target = random_pod(random)
        changed = pointed(target)
        assert pointed(changed) == changed
        assert _undone(changed, target) == target
        results.append(changed)
    listed = {"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": results[:300]}
    kubernetes_validate.validate(listed, kubernetes_validate.latest_version(), strict=True)


def _undone(changed: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
    """Return the Pod with the images of the annotation in place of ours, and without it."""
    undone = copy.deepcopy(changed)
    annotations = undone["metadata"].get("annotations", {})
    for key, image in json.loads(annotations.pop(ORIGINALS, "{}")).items():
        part, name = key.split("/")
        [one] = [one for one in undone["spec"][part] if one["name"] == name]
        if part == "volumes":
            one["image"]["reference"] = image
        else:
            one["image"] = image
    if not annotations and not target["metadata"].get("annotations"):
        undone["metadata"].pop("annotations", None)
        undone["metadata"] |= {key: {} for key in ("annotations",) if key in target["metadata"]}
    return undone


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*pod(), "name", "image"]), inner),
    max_leaves=10,
)


@settings(max_examples=150, deadline=None)
@given(JSON, st.sampled_from(["object", "oldObject", "kind", "resource", "operation", "namespace", "subResource"]))
def test_any_json_is_answered(value: Any, key: str) -> None:
    """Whatever stands in a place, the answer is a good one."""
    document = review(pod("nginx"))
    document["request"][key] = value
    asked(document)
    document = review(pod("nginx"))
    document["request"]["object"]["spec"] = {"containers": value, "volumes": value}
    asked(document)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(max_size=4) | st.integers(0, 2), min_size=1, max_size=5))
def test_pointers(path: list[str | int]) -> None:
    """RFC 6901: `apply` finds what `pointer` names, whatever is in a key."""
    document: Any = "old"
    for token in reversed(path):
        document = {token: document} if isinstance(token, str) else ["x"] * token + [document]
    apply(document, [{"op": "replace", "path": pointer(tuple(path)), "value": "new"}])
    found = document
    for token in path:
        found = found[token]
    assert found == "new"


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "/b", "value": 1},
        {"op": "replace", "path": "/list/2", "value": 1},
        {"op": "replace", "path": "/list/-1", "value": 1},
        {"op": "replace", "path": "/list/01", "value": 1},
        {"op": "replace", "path": "/list/-", "value": 1},
        {"op": "add", "path": "/list/0", "value": 1},
        {"op": "add", "path": "/b/c", "value": 1},
        {"op": "add", "path": "/text/c", "value": 1},
        {"op": "replace", "path": "a", "value": 1},
        {"op": "replace", "path": "", "value": 1},
        {"op": "test", "path": "/text", "value": "x"},
    ],
)
def test_what_cannot_be_applied(operation: dict[str, Any]) -> None:
    """It is an error, since the API server would refuse the Pod."""
    with pytest.raises(PatchError):
        apply({"text": "x", "list": [1, 2]}, [operation])


async def test_an_api_server_takes_every_answer() -> None:
    """5 000 random Pods: its own packages decode, apply and decode strictly, and come to the same Pod as we do."""
    require(admission_judge())
    random = Random(20)
    lines, expected = list[bytes](), list[dict[str, Any]]()
    for _ in range(5000):
        target = random_pod(random)
        answer = asked(review(target)).body
        lines.append(b'{"review": %b, "answer": %b}\n' % (json.dumps(review(target)).encode(), answer))
        apply(target, patch_in(answer))
        expected.append(target)
    process = await asyncio.create_subprocess_exec(
        admission_judge(), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(b"".join(lines))
    assert process.returncode == 0
    assert [json.loads(line) for line in out.splitlines()] == expected


async def test_an_api_server_takes_the_certificate(tmp_path: Path) -> None:
    """Go's verifier, which is strict about extensions, takes the certificate for the Service's name and no other."""
    require(admission_judge())
    own = OwnCertificate(tmp_path)
    own.renew(["mirrord-webhook.shop.svc"], datetime.now(UTC))
    (tmp_path / "ca.pem").write_bytes(own.authority(datetime.now(UTC)))
    for name, status in (("mirrord-webhook.shop.svc", 0), ("other.shop.svc", 1)):
        assert (await run(admission_judge(), tmp_path / "ca.pem", own.file, name)).status == status
