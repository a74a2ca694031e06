"""What an image runs on, by the words of strangers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.errors import UsageError
from mirrord.wire.oci.descriptor import read_descriptor
from mirrord.wire.oci.platform import config_platform, parse_platform, platform_name, platform_of

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


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("windows/amd64:10.0.17763", "windows/amd64:10.0.17763"),
        ("linux/riscv64", "linux/riscv64"),
    ],
)
def test_platforms_have_one_spelling(text: str, written: str) -> None:
    """Variants are spelled as containerd compares them, and what is written is read as the same."""
    platform = parse_platform(text)
    assert str(platform) == written
    assert parse_platform(written) == platform


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("amd64", "write os/architecture in lower case, such as linux/amd64"),
        ("linux", "write os/architecture"),
        ("", "write os/architecture"),
        ("Linux/AMD64", "in lower case"),
        ("linux/amd64/", "write os/architecture"),
        ("linux/amd64 ", "write os/architecture"),
        ("windows/amd64:10..1", "windows/amd64:10.0.17763"),
        ("windows/amd64:", "windows/amd64:10.0.17763"),
        ("windows(10.0.17763)/amd64", "write windows/amd64:10.0.17763"),
        ("linux/x86_64", "write linux/amd64"),
        ("linux/aarch64", "write linux/arm64"),
        ("linux/armv7", "write linux/arm/v7"),
        ("linux/arm32v6", "write linux/arm/v6"),
        ("linux/arm64v8", "write linux/arm64"),
        ("linux/armhf", "write linux/arm/v7"),
        ("linux/i386", "write linux/386"),
        ("macos/arm64", "write darwin/arm64"),
        ("lnux/amd64", "write linux/amd64"),
        ("linux/amd46/v3", "write linux/amd64/v3"),
        ("linux/" + "a" * 41, "write os/architecture"),
        ("all", "write os/architecture"),
    ],
)
def test_what_is_no_platform(text: str, said: str) -> None:
    """What is not a platform, or another tool's word for one, is refused with what to write."""
    with pytest.raises(UsageError) as caught:
        parse_platform(text)
    assert str(caught.value).startswith(repr(text[:80]))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "written", "taken"),
    [
        ("linux/amd64", ("linux", "amd64"), True),
        ("linux/amd64", ("Linux", "x86_64"), True),
        ("linux/amd64", ("linux", "amd64", "v2"), False),
        ("linux/amd64", ("windows", "amd64"), False),
        ("linux/arm64", ("linux", "arm64", "v8"), True),
        ("linux/arm64/v8", ("linux", "arm64"), True),
        ("linux/arm64", ("linux", "aarch64"), True),
        ("linux/arm", ("linux", "arm", "v7"), True),
        ("linux/arm/v7", ("linux", "arm"), True),
        ("linux/arm/v7", ("linux", "arm", "v6"), False),
        ("linux/arm/v6", ("linux", "armel"), True),
        ("windows/amd64", ("windows", "amd64", "", "10.0.17763.6532"), True),
        ("windows/amd64:10.0.17763", ("windows", "amd64", "", "10.0.17763.6532"), True),
        ("windows/amd64:10.0.17763", ("windows", "amd64", "", "10.0.17763"), True),
        ("windows/amd64:10.0.1776", ("windows", "amd64", "", "10.0.17763.6532"), False),
        ("windows/amd64:10.0.17763", ("windows", "amd64", "", "10.0.20348.1"), False),
        ("windows/amd64:10.0.17763", ("windows", "amd64"), False),
    ],
)
def test_what_is_taken(wanted: str, written: tuple[str, ...], taken: bool) -> None:
    """Bad input 47: variants match exactly, a version by its first parts; without one all versions match."""
    parts = dict(zip(("os", "architecture", "variant", "os.version"), written, strict=False))
    found = platform_of(parts)
    assert found
    assert parse_platform(wanted).takes(found) is taken


_TEXT = st.text(alphabet=st.sampled_from("linuxarm64/:.v7()AÉ\n "), max_size=30)


@given(_TEXT | st.from_regex(r"[a-z0-9_]{1,9}/[a-z0-9_]{1,9}(/v?[0-9])?(:[0-9.]{1,9})?", fullmatch=True))
def test_any_text_is_a_platform_or_refused(text: str) -> None:
    """What is taken has one spelling, which takes itself; all else is refused."""
    try:
        platform = parse_platform(text)
    except UsageError:
        return
    assert parse_platform(str(platform)) == platform
    assert platform.takes(platform)


_JSON = st.none() | st.booleans() | st.integers() | _TEXT | st.lists(_TEXT, max_size=2)


@given(st.dictionaries(st.sampled_from(("os", "architecture", "variant", "os.version", "features")), _JSON))
def test_platforms_of_strangers(written: dict[str, object]) -> None:
    """Whatever an entry says, it names a platform exactly where `platform_name` has one, in one spelling."""
    found = platform_of(written)
    assert bool(found) == bool(platform_name(written))
    assert found is None or platform_of(written) == found
    assert found is None or "," not in str(found)
