"""`mirrord webhook`: what the cluster has to trust, and a policy for clusters without a webhook."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

from tests.support.commands import Desk, Said
from tests.support.tls import Authority

Typed = Callable[..., Said]
FRONT = "settings: {url: 'https://m.example'}\nfront: {image: {upstreams: [quay.io], allow: [quay.io/a/*]}}\n"


def test_the_bundle_stays_the_same(desk: Desk, typed: Typed) -> None:
    """It is one line of base64 on standard output, the same each time; its key is never printed."""
    desk.configure("mirrors: []\n")
    first, again, whole = (
        typed("webhook", "certificate"),
        typed("webhook", "certificate"),
        typed("webhook", "certificate", "--json"),
    )
    assert (first.status, first.out) == (0, again.out)
    pem = base64.b64decode(first.out, validate=False)
    assert (pem.count(b"BEGIN CERTIFICATE"), b"PRIVATE" in pem) == (1, False)
    assert "lasts until" in first.err
    assert whole.document["caBundle"] == first.out.strip()


def test_a_certificate_of_somebody_else_has_another_bundle(desk: Desk, typed: Typed) -> None:
    """With files of the operator there is nothing to print, and nothing is made."""
    certificate, key = Authority(desk.folder).pair("w")
    desk.configure(f"webhook: {{listen: '127.0.0.1:0', certificate: {certificate}, key: {key}}}\n")
    said = typed("webhook", "certificate")
    assert (said.status, said.out) == (64, "")
    assert "so the caBundle is the certificate of its issuer" in said.err
    assert not (desk.folder / "state" / "webhook").exists()


def test_a_policy(desk: Desk, typed: Typed) -> None:
    """A list of the policy and its binding for kubectl; namespaces of `webhook.except` and our own are left alone."""
    desk.configure(f"{FRONT}webhook: {{listen: '127.0.0.1:0', names: [w], except: [team]}}\n")
    said = typed("webhook", "policy")
    assert (said.status, said.err) == (0, "")
    policy, binding = said.document["items"]
    assert (policy["kind"], binding["spec"]["policyName"]) == ("MutatingAdmissionPolicy", policy["metadata"]["name"])
    assert policy["spec"]["failurePolicy"] == "Ignore"
    assert '"values": ["team", "mirrord"]' in json.dumps(policy)
    assert '"m.example/quay.io/a"' in policy["spec"]["mutations"][0]["applyConfiguration"]["expression"]


def test_no_policy(desk: Desk, typed: Typed) -> None:
    """Where names alone say nothing, the error says what does."""
    desk.configure("targets: {t: {kind: image, to: x.example}}\npointing: {to: t}\n")
    said = typed("webhook", "policy")
    assert (said.status, said.out) == (64, "")
    assert said.err == "mirrord: no image has a place that follows from its name alone; use the webhook\n"
