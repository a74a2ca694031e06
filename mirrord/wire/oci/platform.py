"""What an image runs on (image-spec, image-index.md and config.md): `linux/amd64`, `linux/arm/v7`.

Platforms are equal where containerd finds an exact match: `linux/arm64` is `linux/arm64/v8`, `linux/arm` is
`linux/arm/v7` and `linux/amd64` is `linux/amd64/v1`. No other variant stands in for one that is asked for. The version
of Windows comes after a colon, as crane and oras write it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mirrord.errors import ContentError, UsageError
from mirrord.wire.oci.document import read_object

PLATFORM_KEYS: Final = ("os", "architecture", "variant", "os.version")

_ALIKE: Final = 0.7  # of `difflib`: from there on a word is taken for a mistyped one
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_NONE: Final = "unknown"  # buildx writes it for attestations
_WRITTEN: Final = re.compile(
    r"([a-z0-9_.-]{1,40})/([a-z0-9_.-]{1,40})(?:/([a-z0-9_.-]{1,40}))?(?::([0-9]{1,9}(?:\.[0-9]{1,9}){0,3}))?"
)
_IN_PARENTHESES: Final = re.compile(r"([a-z]{1,40})\(([0-9.]{1,40})\)/([a-z0-9_]{1,40})")
_SAME_SYSTEM: Final = {"macos": "darwin"}
_SAME_MACHINE: Final = {
    **dict.fromkeys(("x86_64", "x86-64"), ("amd64", "")),
    "i386": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_RUN_TOGETHER: Final = {  # nobody's images are called so, but their repositories and tags are
    **dict.fromkeys(("armv5", "arm32v5"), ("arm", "v5")),
    **dict.fromkeys(("armv6", "arm32v6"), ("arm", "v6")),
    **dict.fromkeys(("armv7", "armv7l", "arm32v7"), ("arm", "v7")),
    **dict.fromkeys(("armv8", "arm64v8"), ("arm64", "")),
}
_SYSTEMS: Final = (  # GOOS and GOARCH, go.dev/src/internal/syslist
    "aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris wasip1 windows "
    "zos"
)
_MACHINES: Final = (
    "386 amd64 amd64p32 arm armbe arm64 arm64be loong64 mips mipsle mips64 mips64le mips64p32 mips64p32le ppc ppc64 "
    "ppc64le riscv riscv64 s390 s390x sparc sparc64 wasm"
)
_USUAL: Final = {"amd64": "v1", "arm64": "v8"}  # variants that are as good as none


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """What an image runs on, in the one spelling that this is compared in; made by `parse_platform` and `platform_of`.

    Attributes:
        system: `linux`.
        machine: `amd64`.
        variant: `v7`, or "" for the usual one.
        version: of Windows, `10.0.17763.6532`; "" if it is not said, or does not matter.
    """

    system: str
    machine: str
    variant: str = ""
    version: str = ""

    def __str__(self) -> str:
        """Write it as `parse_platform` reads it."""
        parts = (self.system, self.machine, self.variant) if self.variant else (self.system, self.machine)
        return "/".join(parts) + (f":{self.version}" if self.version else "")

    def takes(self, other: Platform) -> bool:
        """Whether who asks for this wants an image for `other`; a version takes all that begin with its parts."""
        same = (self.system, self.machine, self.variant) == (other.system, other.machine, other.variant)
        return same and (not self.version or f"{other.version}.".startswith(f"{self.version}."))


def parse_platform(text: str) -> Platform:
    """Read a platform as an operator writes it.

    Raises:
        UsageError: it is none.
    """
    found = _WRITTEN.fullmatch(text)
    if not found:
        usual = _IN_PARENTHESES.fullmatch(text)
        better = f"{usual[1]}/{usual[3]}:{usual[2]}" if usual else "os/architecture in lower case, such as linux/amd64,"
        better += "" if usual else " linux/arm/v7 or windows/amd64:10.0.17763"
        raise UsageError(f"{text[:80]!r} is not a platform; write {better}")
    system, machine, variant, version = found.groups(default="")
    platform = _platform(system, *_RUN_TOGETHER.get(machine, (machine, variant)), version)
    if (platform.system, platform.machine) != (system, machine):
        raise UsageError(f"{text[:80]!r} is not how images write it; write {platform}")
    if meant := _meant(platform):
        raise UsageError(f"{text[:80]!r} is not a platform that images have; write {meant}")
    return platform


def _meant(platform: Platform) -> Platform | None:
    """Return the known platform that was probably meant, None for a known one, and for one that is like no other."""
    systems, machines = _SYSTEMS.split(), _MACHINES.split()
    if platform.system in systems and platform.machine in machines:
        return None
    from difflib import get_close_matches  # noqa: PLC0415 - only mistakes need it

    def known(word: str, words: Sequence[str]) -> str:
        return word if word in words else next(iter(get_close_matches(word, words, 1, _ALIKE)), word)

    meant = replace(platform, system=known(platform.system, systems), machine=known(platform.machine, machines))
    return None if meant == platform else meant


def platform_of(written: Mapping[str, object]) -> Platform | None:
    """Return the platform that these keys of a config, or of an entry of an index, name; None if they name none."""
    system, machine, variant, version = (_word(written.get(part)).lower() for part in PLATFORM_KEYS)
    if not system or not machine or _NONE in (system, machine):
        return None
    return _platform(system, machine, variant, version)


def platform_name(written: Mapping[str, object]) -> str:
    """Return the platform that these keys name as they write it, without a version; "" for none."""
    system, machine, variant, _ = (_word(written.get(part)) for part in PLATFORM_KEYS)
    if not system or not machine or _NONE in (system, machine):
        return ""
    return f"{system}/{machine}/{variant}" if variant else f"{system}/{machine}"


def config_platform(data: bytes) -> str:
    """Return the platform of an image by its config; "" if that does not say it, or is no config."""
    try:
        return platform_name(read_object(data, "config"))
    except ContentError:
        return ""


def _platform(system: str, machine: str, variant: str, version: str) -> Platform:
    """Return the platform in the one spelling; see containerd's `platforms.Normalize`."""
    machine, variant = _SAME_MACHINE.get(machine, (machine, variant))
    if machine == "arm":
        variant = variant or "v7"
    if machine in ("arm", "arm64") and variant.isdecimal():
        variant = f"v{variant}"
    variant = "" if variant == _USUAL.get(machine) else variant
    return Platform(_SAME_SYSTEM.get(system, system), machine, variant, version)


def _word(value: object) -> str:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else ""
