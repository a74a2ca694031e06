"""The page about kinds of registries, made from the profiles."""

from __future__ import annotations

from mirrord.wire.oci.profiles import GENERIC, PROFILES, Profile
from mirrord.wire.vendors.known import VENDORS

_HEAD = """\
# Kinds of registries

Registries differ. What mirrord does differently for one is listed here, with where the difference is written down. The
kind of a registry is known by its host; for a registry of your own, write it under `hosts:`. A registry that is not
listed, and any with `profile: generic`, is taken to follow the distribution-spec. To find out what a registry can do,
[ask it](../how-to/probe-a-registry.md).

```yaml
hosts:
  docker.corp.example: {profile: artifactory}
```

GitLab, Harbor, Quay and Docker Hub also have an API of their own, which lists repositories and dates: see
[configuration](configuration.md#lists-and-dates-of-registries).

zot needs no profile. It was tried by hand (2026-11-28, revision 6d19b445): images went from docker-registry to zot and
back with their signatures, `cosign verify` passed there, oras and regctl listed the same referrers on both sides,
skopeo and crane read a choice of platforms, and `mirrord probe` with `--push` left nothing but the repository.

| `profile` | registry | hosts | what mirrord does | why |
|---|---|---|---|---|
"""
_AMAZON = ("ecr", "ecr-public")


def page() -> str:
    """Return the page."""
    return _HEAD + "".join(map(_row, PROFILES.values()))


def _row(profile: Profile) -> str:
    hosts = ", ".join(f"`{host}`" for host in profile.hosts) or "by hand"
    kind = "any other" if profile is GENERIC else profile.title
    done = "; ".join(_differences(profile)) or "nothing else"
    return f"| `{profile.name}` | {kind} | {hosts} | {done} | {profile.why} |\n"


def _differences(profile: Profile) -> list[str]:
    found = []
    if profile.missing != GENERIC.missing:
        found.append("before a push, 403 means that something is not there")
    if not profile.head:
        found.append("manifests are read by GET only")
    if profile.put_limit:
        found.append(f"blobs above {profile.put_limit >> 20} MiB are sent in chunks")
    if not profile.chunk:
        found.append("blobs are never sent in chunks")
    if not profile.referrers:
        found.append("referrers are found by their tag alone")
    if deletion := _deletion(profile):
        found.append(deletion)
    if profile.visible:
        found.append("`check` says who sees a new repository")
    if profile.uncreated:
        found.append("what a push needs is created, with `create:` at the target")
    if profile.refusals:
        found.append("a refusal says what to do")
    return found


def _deletion(profile: Profile) -> str:
    vendor = VENDORS.get(profile.name)
    if profile.name in _AMAZON or (vendor and vendor.deletes):
        return "[`prune` and `takedown`](../explanation/deletion.md#mirrord-prune) delete tags by its own API"
    return "nothing is deleted; the error says where to do it" if profile.deletes else ""
