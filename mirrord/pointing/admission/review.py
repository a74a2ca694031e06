"""What an admission review of Kubernetes asks: which images of a Pod may be changed. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mirrord.pointing.json_patch import Path
from mirrord.pointing.places import DIRECT

LARGEST: Final = 3 << 20
"""Bytes of a review, which has an object and perhaps its older state; the API server takes objects of half as much."""
MOST_IMAGES: Final = 500
"""Images of a Pod that are looked at."""
MARK, IGNORE = "mirrord/webhook", "ignore"
"""The label or annotation, and its value, of a Pod that stays what it is."""
EPHEMERAL: Final = "ephemeralContainers"
ORIGINALS: Final = "mirrord/original-images"
"""The annotation with what a Pod named: a JSON object such as `{"containers/app": "nginx:1"}`."""

_NAME: Final = 400  # characters of a Pod and its namespace; the API server checks them after this
_VERSION: Final = "admission.k8s.io/v1"
_STATIC: Final = "kubernetes.io/config.mirror"  # the API's copy of a Pod that a node has in a file
_RULES: Final = "correct `rules` of the MutatingWebhookConfiguration"


class ReviewError(ValueError):
    """The request is no admission review."""


class OddError(Exception):
    """Something in a review is not as Kubernetes writes it."""


@dataclass(frozen=True, slots=True)
class PodImage:
    """An image of a Pod.

    Attributes:
        path: where its text stands in the Pod.
        key: such as `containers/app`; each is there once.
        text: the reference.
    """

    path: Path
    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Review:
    """What matters of a review.

    Attributes:
        version: its `apiVersion`, which the answer has, too.
        uid: of the request.
        pod: the object, which an answer may change.
        name: `namespace/name` of the Pod, for logs; a name that is generated ends with `*`.
        images: what is to be decided about.
        originals: what the Pod named before, by key.
        ignored: whether somebody said that it stays what it is.
        odd: what is not as Kubernetes writes it, or "".
    """

    version: str
    uid: str
    pod: Any = None
    name: str = ""
    images: Sequence[PodImage] = ()
    originals: Mapping[str, str] = field(default_factory=dict)
    ignored: bool = False
    odd: str = ""


def read_review(body: bytes, namespaces: Collection[str] = ()) -> Review:
    """Read a review; Pods in these `namespaces` stay what they are.

    Raises:
        ReviewError: it is no review, or has no `uid` that an answer could have.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ReviewError("the body is not JSON; only the API server of Kubernetes should ask here") from error
    request = document.get("request") if isinstance(document, dict) else None
    uid = request.get("uid") if isinstance(request, dict) else None
    if not isinstance(request, dict) or document.get("kind") != "AdmissionReview" or not isinstance(uid, str):
        raise ReviewError("the body is not an AdmissionReview with a request and its uid")
    version = document.get("apiVersion")
    review = Review(version if isinstance(version, str) else _VERSION, uid)
    try:
        return _read(version, request, review, namespaces)
    except OddError as error:
        return Review(review.version, uid, odd=str(error))


def _read(version: object, request: Mapping[str, Any], review: Review, namespaces: Collection[str]) -> Review:
    if version != _VERSION:
        raise OddError(f"this review is not of {_VERSION}; write admissionReviewVersions: [v1]")
    pod, images = _asked(request)
    metadata = _map(pod, "metadata", "the Pod")
    labels, annotations = _texts(metadata, "labels"), _texts(metadata, "annotations")
    namespace = _text(request, "namespace", "the request")
    name = metadata.get("name") or f"{metadata.get('generateName', '')}*"
    marked = IGNORE in (labels.get(MARK), annotations.get(MARK))
    ignored = marked or _STATIC in annotations or namespace in namespaces
    originals = _originals(annotations.get(ORIGINALS, ""))
    left = [one for one in images if not _was_direct(originals.get(one.key, ""), one.text)]
    shown = f"{namespace}/{name}"[:_NAME]
    return Review(review.version, review.uid, pod, shown, () if ignored else left, originals, ignored)


def _asked(request: Mapping[str, Any]) -> tuple[Mapping[str, Any], Sequence[PodImage]]:
    """Return the Pod, and those of its images that may be changed."""
    operation, part = request.get("operation"), request.get("subResource") or ""
    resource, kind = (_map(request, key, "the request") for key in ("resource", "kind"))
    if resource.get("resource") != "pods" or kind.get("kind") != "Pod" or resource.get("group") or kind.get("group"):
        raise OddError(f"only Pods are looked at; {_RULES}")
    if [operation, part] not in (["CREATE", ""], ["UPDATE", "ephemeralcontainers"]):
        raise OddError(f"only new Pods and new ephemeral containers are looked at; {_RULES}")
    pod = _map(request, "object", "the request")
    spec = _map(pod, "spec", "the Pod")
    if operation == "UPDATE":  # the containers that are there cannot be changed
        before = _map(_map(request, "oldObject", "the request"), "spec", "the Pod before")
        there = {name for name, _, _ in _named(before, EPHEMERAL)}
        found = [one for one in _containers(spec, EPHEMERAL) if one.key.partition("/")[2] not in there]
    else:
        found = [*_containers(spec, "initContainers"), *_containers(spec, "containers"), *_volumes(spec)]
    if len(found) > MOST_IMAGES:
        raise OddError(f"the Pod has more than {MOST_IMAGES} images")
    return pod, found


def _containers(spec: Mapping[str, Any], part: str) -> Iterator[PodImage]:
    for name, at, one in _named(spec, part):
        if one.get("image"):
            yield PodImage(("spec", part, at, "image"), f"{part}/{name}", _text(one, "image", f"{part}/{name}"))


def _volumes(spec: Mapping[str, Any]) -> Iterator[PodImage]:
    for name, at, one in _named(spec, "volumes"):
        if one.get("image") and (image := _map(one, "image", f"volumes/{name}")).get("reference"):
            path = ("spec", "volumes", at, "image", "reference")
            yield PodImage(path, f"volumes/{name}", _text(image, "reference", f"volumes/{name}"))


def _named(spec: Mapping[str, Any], part: str) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """Yield name, index and value of each entry of a list in a Pod's spec."""
    entries = spec.get(part) or []
    if not isinstance(entries, list):
        raise OddError(f"spec.{part} is not a list")
    names = set[str]()
    for at, one in enumerate(entries):
        if not isinstance(one, dict):
            raise OddError(f"spec.{part} has an entry that is not an object")
        name = _text(one, "name", f"an entry of spec.{part}")
        if name in names:
            raise OddError(f"spec.{part} has a name twice")
        names.add(name)
        yield name, at, one


def _map(value: Mapping[str, Any], key: str, whose: str) -> Mapping[str, Any]:
    found = value.get(key)
    if not isinstance(found, dict):
        raise OddError(f"{whose} has no {key}")
    return found


def _text(value: Mapping[str, Any], key: str, whose: str) -> str:
    found = value.get(key)
    if not isinstance(found, str):
        raise OddError(f"{whose} has no {key}")
    return found


def _texts(metadata: Mapping[str, Any], key: str) -> Mapping[str, str]:
    """Return labels or annotations."""
    found = metadata.get(key) or {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise OddError(f"metadata.{key} has a value that is not a text")
    return found


def _originals(text: str) -> Mapping[str, str]:
    """Return what the annotation says; what is not ours says nothing."""
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    valid = isinstance(found, dict) and all(isinstance(value, str) for value in found.values())
    return found if valid else {}


def _was_direct(original: str, text: str) -> bool:
    """Whether this very text was written with `direct.to/` when we were asked before."""
    return original.startswith(DIRECT) and original.removeprefix(DIRECT) == text
