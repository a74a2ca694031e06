"""Whether a client takes a manifest as it is (T6)."""

from __future__ import annotations

import pytest

from mirrord.syncers.image.through.accept import accepts
from mirrord.wire.oci.descriptor import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST


@pytest.mark.parametrize(
    ("fields", "accepted"),
    [
        ((), True),
        (("",), True),
        (("*/*",), True),
        (("text/html, */*;q=0.8",), True),
        (("application/*",), True),
        ((OCI_INDEX,), True),
        ((OCI_MANIFEST, OCI_INDEX), True),  # two fields are one list: the conformance program sends them so
        ((f"{OCI_MANIFEST};q=0.5,{OCI_INDEX} ; q=0.1",), True),
        ((OCI_INDEX.upper(),), True),
        ((f"{OCI_INDEX}; charset=utf-8",), True),
        ((OCI_MANIFEST, DOCKER_MANIFEST), False),
        (("application/json",), False),
        (("image/*",), False),
        ((f"{OCI_INDEX};q=0",), False),
        ((f"{OCI_INDEX}; q=0.000, {OCI_MANIFEST}",), False),
        ((",;,=;q",), False),
        ((",".join([OCI_MANIFEST] * 100_000),), False),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_a_client_accepts(fields: tuple[str, ...], accepted: bool) -> None:
    """Several fields, weights, parameters and wildcards are read as the RFC says, and an endless field is cut."""
    assert accepts(fields, OCI_INDEX) is accepted
