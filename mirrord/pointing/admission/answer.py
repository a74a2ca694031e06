"""How an admission review is answered: with a patch that was applied to its Pod before. Pure."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from mirrord.config.lines import masked
from mirrord.errors import UsageError
from mirrord.pointing.admission.review import EPHEMERAL, ORIGINALS, OddError, PodImage, Review
from mirrord.pointing.json_patch import Operation, PatchError, apply, pointer
from mirrord.pointing.places import Decision, Direct, MirrorPlace
from mirrord.wire.oci.reference import Reference

Outcome = Literal["pointed", "unchanged", "ignored", "odd"]

_ANNOTATIONS: Final = 256 << 10  # bytes that the annotations of an object may have
AUDITED: Final = "original-images"
"""What the audit log calls the originals of ephemeral containers, with whose update no annotation is kept."""
_LONGEST: Final = 256  # characters of a warning
_MOST_WARNINGS: Final = 8
_SHOWN: Final = 200  # characters of an image
_TOLD: Final = frozenset({"invalid", "template", "unknown"})
"""Reasons that the author of a Pod should hear; the others are as the operator of the mirror wants them."""


@dataclass(frozen=True, slots=True)
class ReviewAnswer:
    """An answer.

    Attributes:
        body: the JSON document.
        outcome: `pointed`, `unchanged`, `ignored` or `odd`.
        images: how many images were `pointed`, `direct`, or left for the reasons of `Left`.
        warnings: what the author of the Pod is told.
    """

    body: bytes
    outcome: Outcome
    images: Mapping[str, int] = field(default_factory=dict)
    warnings: Sequence[str] = ()


def answered(review: Review, decisions: Mapping[str, Decision]) -> ReviewAnswer:
    """Answer a review; `decisions` has one for the text of each image."""
    if review.odd or review.ignored:
        warnings = [_warning(review.odd)] if review.odd else []
        return ReviewAnswer(_document(review, (), warnings), "odd" if review.odd else "ignored", {}, warnings)
    changes, counts, warnings = dict[PodImage, str](), Counter[str](), list[str]()
    for image in review.images:
        decision = decisions[image.text]
        new, reason, why = _new_text(decision)
        counts[reason] += 1
        if new:
            changes[image] = new
        elif reason in _TOLD and len(warnings) < _MOST_WARNINGS:
            warnings.append(_warning(f"{image.key}: {masked(image.text[:_SHOWN])} stays as it is: {masked(why)}"))
    if not changes:
        return ReviewAnswer(_document(review, (), warnings), "unchanged", counts, warnings)
    try:
        operations = _patch(review, changes)
    except (OddError, PatchError) as error:
        warnings = [_warning(str(error))]
        return ReviewAnswer(_document(review, (), warnings), "odd", {}, warnings)
    passing = {one.key: one.text for one in changes if one.key.startswith(f"{EPHEMERAL}/")}
    audit = {AUDITED: _text(passing)} if passing else {}
    return ReviewAnswer(_document(review, operations, warnings, audit), "pointed", counts, warnings)


def _new_text(decision: Decision) -> tuple[str, str, str]:
    """Return what an image becomes ("": it stays), and the word and sentence for why it does."""
    if isinstance(decision, MirrorPlace):
        return str(decision.reference), "pointed", ""
    if not isinstance(decision, Direct):
        return "", decision.reason, decision.text
    try:
        Reference.parse(decision.text)
    except UsageError as error:
        return "", "invalid", str(error)
    return decision.text, "direct", ""


def _patch(review: Review, changes: Mapping[PodImage, str]) -> Sequence[Operation]:
    """Return the operations, when they were applied to the Pod.

    Raises:
        PatchError: one cannot be applied.
        OddError: the annotation would make the Pod invalid.
    """
    kept = _text({**review.originals, **{one.key: one.text for one in changes}})
    annotations: Mapping[str, str] = review.pod["metadata"].get("annotations") or {}
    size = sum(
        len(key.encode(errors="replace")) + len(value.encode(errors="replace")) for key, value in annotations.items()
    )
    if size + len(ORIGINALS) + len(kept) > _ANNOTATIONS:
        raise OddError("the Pod has no room for an annotation with the original images")
    operations: list[Operation] = [
        {"op": "replace", "path": pointer(one.path), "value": new} for one, new in changes.items()
    ]
    if annotations:
        operations.append({"op": "add", "path": pointer(("metadata", "annotations", ORIGINALS)), "value": kept})
    else:
        operations.append({"op": "add", "path": "/metadata/annotations", "value": {ORIGINALS: kept}})
    apply(review.pod, operations)
    return operations


def _text(originals: Mapping[str, str]) -> str:
    return json.dumps(originals, sort_keys=True, separators=(",", ":"))


def _document(
    review: Review, operations: Sequence[Operation], warnings: Sequence[str], audit: Mapping[str, str] | None = None
) -> bytes:
    response: dict[str, Any] = {"uid": review.uid, "allowed": True}
    if operations:
        patch = json.dumps(operations, separators=(",", ":")).encode()
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch).decode()}
    if warnings:
        response["warnings"] = list(warnings)
    if audit:
        response["auditAnnotations"] = audit
    return json.dumps({"apiVersion": review.version, "kind": "AdmissionReview", "response": response}).encode()


def _warning(text: str) -> str:
    """Return a warning that fits into a header of HTTP."""
    return "mirrord: " + ascii(text)[1:-1][: _LONGEST - len("mirrord: ")]
