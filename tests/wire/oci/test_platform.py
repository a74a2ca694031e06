"""What an image runs on, by the words of strangers."""

from __future__ import annotations

import pytest

from mirrord.wire.oci.descriptor import read_descriptor
from mirrord.wire.oci.platform import config_platform, platform_name

DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("written", "platform"),
    [
        ({"os": "linux", "architecture": "amd64"}, "linux/amd64"),
        ({"os": "linux", "architecture": "arm", "variant": "v7", "os.version": "1"}, "linux/arm/v7"),
        ({"os": "unknown", "architecture": "unknown"}, ""),
        ({"os": "linux"}, ""),
        ({"os": "linux", "architecture": 64}, ""),
        ({"os": "linux", "architecture": "<b>,x"}, ""),
        ({"os": "linux", "architecture": "a" * 41}, ""),
        ({"os": "linux", "architecture": "amd64", "variant": "v\n1"}, "linux/amd64"),
        ({}, ""),
    ],
)
def test_platforms_are_words(written: dict[str, object], platform: str) -> None:
    """Only short plain words become a platform; anything else is as if it was not written, in an index and a config."""
    entry = {"mediaType": "application/x", "digest": DIGEST, "size": 1, "platform": written}
    assert platform_name(written) == platform
    assert read_descriptor(entry, "entry").platform == platform


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"os": "linux", "os": "windows"}', b"[" * 100_000])
def test_a_config_that_is_none_has_no_platform(data: bytes) -> None:
    """Wrong configs are no error: they are content, and are copied."""
    assert config_platform(data) == ""


def test_a_config_has_a_platform() -> None:
    """The platform is beside the other keys of a config."""
    assert (
        config_platform(b'{"architecture": "arm64", "os": "linux", "variant": "v8", "rootfs": {}}') == "linux/arm64/v8"
    )
