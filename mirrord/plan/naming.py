"""How branches, commits and pull requests become tags, and how a target's `to` is expanded for a mirror."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

from mirrord.errors import ConfigError, UsageError
from mirrord.syncer.values import Mirror, Target

LONGEST = 128  # characters of a tag (distribution-spec, <reference>)
SHORT_COMMIT = 7  # hex digits of a commit that go into a tag
COMMIT = re.compile(r"[0-9a-f]{7,64}", re.IGNORECASE)

_NOT_IN_A_TAG = re.compile(r"[^A-Za-z0-9_.-]+")
_PULL_REQUEST = re.compile(r"pr-(?P<number>[0-9]+)(?:-|\Z)")
_FULL_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def tag_of(text: str, room: int = LONGEST) -> str:
    """Turn a branch name into a tag: `feature/x` → `feature-x`.

    Each run of characters that are not allowed in a tag becomes one `-`; a leading `-` or `.` is
    dropped; the result is cut to `room` characters.

    Raises:
        UsageError: nothing is left.
    """
    tag = _NOT_IN_A_TAG.sub("-", text).lstrip("-.")[:room]
    if not tag:
        raise UsageError(f"no tag can be made from {text!r}; use letters, digits, `_`, `.` or `-`")
    return tag


def short_commit(text: str) -> str:
    """Return the first seven digits of a commit, whole or shortened; text that is no commit is returned as it is."""
    return text[:SHORT_COMMIT].lower() if COMMIT.fullmatch(text) else text


def build_tags(branch: str, build: str) -> tuple[str, str]:
    """Return the fixed tag and the moving tag: `main`, `abc123` → `main-abc123`, `main`.

    A full commit hash is cut to its first seven digits; any other build name (the output of `git
    describe`) is taken as it is. The branch is cut so that the build always fits.

    Raises:
        UsageError: no tag can be made of them, or the branch would get the tags of a pull request.
    """
    if taken := _PULL_REQUEST.match(tag_of(branch)):
        raise UsageError(
            f"branch {branch} would get the tag {tag_of(branch)}; {taken[0].rstrip('-')} and tags that begin with it "
            f"belong to pull request {taken['number']}; rename the branch"
        )
    return _tags(branch, build)


def pull_request_tags(number: int, build: str) -> tuple[str, str]:
    """Return the tags of a pull request's build: `7`, `v1-3-gabc` → `pr-7-v1-3-gabc`, `pr-7`."""
    return _tags(f"pr-{number}", build)


def _tags(branch: str, build: str) -> tuple[str, str]:
    short = build[:SHORT_COMMIT] if _FULL_COMMIT.fullmatch(build) else tag_of(build, LONGEST - 2)
    return f"{tag_of(branch, LONGEST - 1 - len(short))}-{short}", tag_of(branch)


def page_text(mirror: Mirror, target: Target, name: str | None) -> str:
    """Return a target's `page` with `{name}` and `{mirror}` filled in; "" where it needs a name, and there is none."""
    if name is None and "{name}" in target.page:
        return ""
    return target.page.replace("{name}", quote(name or "")).replace("{mirror}", mirror.name)


def target_text(mirror: Mirror, target: Target, name: str, *, below: bool = False) -> str:
    """Return a target's `to` with `{name}` and `{mirror}` filled in; with `below` and no braces, `<to>/<name>`.

    Raises:
        ConfigError: there is another placeholder.
    """
    text = target.to.strip()
    if below and "{" not in text:
        text = f"{text.rstrip('/')}{'' if text.endswith(':') else '/'}{{name}}"
    text = text.replace("{name}", name).replace("{mirror}", mirror.name)
    if "{" in text or "}" in text:
        wrong = f"{target.to[:80]!r} has an unknown placeholder; write {{name}} or {{mirror}}"
        raise ConfigError(f"{target.origin}: targets.{target.name}.to: {wrong}")
    return text


def layout_folder(path: str, source: Path | None) -> Path:
    """Return the folder of a layout in canonical form, which skopeo accepts after `oci:`, too.

    Args:
        path: what stands behind `oci:`.
        source: the folder of builds that the mirror reads, or None.

    Raises:
        UsageError: it is none.
    """
    if path.startswith("//"):
        raise UsageError(f"oci:{path}: is a URL; write {path[2:]} for a registry, or oci:/DIR for OCI layouts")
    if not path.startswith("/"):
        raise UsageError(f"oci:{path}: is not an absolute path; write oci:/DIR")
    if ".." in path.split("/"):
        raise UsageError(f"oci:{path}: contains `..`; write the path without `..`")
    if ":" in path:
        raise UsageError(f"oci:{path}: has a colon; write the folder only, each tag of the mirror is a name in it")
    if not path.isprintable():
        raise UsageError(f"oci:{ascii(path)[1:-1]}: has characters that cannot be displayed; write a plain path")
    if source is not None and (folder := Path(path)).is_relative_to(source):
        raise UsageError(f"oci:{folder}: is below from.layouts, and would be read as a build; write another folder")
    return Path(path)
