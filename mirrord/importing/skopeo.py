"""`skopeo sync --src yaml`: a mapping of registries. Where to copy to is on its command line."""

from __future__ import annotations

from mirrord.config.foreign import Node
from mirrord.errors import MirrordError, UsageError
from mirrord.importing import ranges, regexes, variables
from mirrord.importing.draft import Draft
from mirrord.importing.hosts import host_name
from mirrord.importing.section import Section
from mirrord.importing.values import ALL, ImageCopy, TagFilter

_IMAGES = frozenset({"images", "images-by-tag-regex", "images-by-semver"})


def fits(node: Node) -> bool:
    """Whether a document is of this format."""
    hosts = [one for name, one in node.mapping.items() if "." in name or ":" in name or name == "localhost"]
    return any(not _IMAGES.isdisjoint(one.mapping) for one in hosts)


def read(root: Section, draft: Draft) -> None:
    """Add what a document has to the draft.

    Raises:
        UsageError: the target is not known.
    """
    if not draft.options.to:
        raise UsageError(f"{root.file}: skopeo sync has the destination on its command line; add --to HOST/PATH")
    root.tell("", "skopeo sync copies one platform without --all, mirrord all, or those of platforms:")
    for name, section in root.named():
        host = host_name(name, root, name)
        if not host:
            continue
        login = section.section("credentials")
        variables.add_login(login, ("username", "password"), host, variables.SHELL, draft)
        login.end()
        if section.text("tls-verify").lower() == "false":
            what = "mirrord always checks certificates; write insecure: true for plain HTTP, or ca: FILE"
            section.refuse("tls-verify", what)
        section.lose("cert-dir", "write the files of the folder as ca: FILE, certificate: FILE and key: FILE")
        _images(name, section, draft)
        section.end()


def _images(host: str, section: Section, draft: Draft) -> None:
    images = section.section("images")
    for repository in images.values:
        texts = images.texts(repository)
        digests = [text for text in texts if text.startswith("sha256:")]
        tags = tuple(text for text in texts if text not in digests)
        rules = [TagFilter(tags)] if tags else []
        for rule in [*rules, *(TagFilter(digest=digest) for digest in digests)] or [TagFilter(ALL)]:
            _copy(host, repository, rule, images, draft)
    for key in ("images-by-tag-regex", "images-by-semver"):
        chosen = section.section(key)
        for repository in chosen.values:
            try:
                text = chosen.text(repository)
                rule = _by_regex(text) if key.endswith("regex") else _by_range(text, chosen, repository)
            except (ValueError, MirrordError) as error:
                chosen.refuse(repository, str(error))
                continue
            _copy(host, repository, rule, chosen, draft)


def _by_regex(text: str) -> TagFilter:
    return TagFilter(match=(regexes.searched(text),))


def _by_range(text: str, section: Section, repository: str) -> TagFilter:
    named = ranges.names_prerelease(text)
    if named:
        section.tell(repository, ranges.SUFFIXES)
    return TagFilter(match=(ranges.ANY_VERSION if named else ranges.PLAIN_VERSION,), versions=ranges.checked(text))


def _copy(host: str, repository: str, rule: TagFilter, section: Section, draft: Draft) -> None:
    origin, key = section.origin(repository), section.path(repository)
    source = draft.reference(f"{host}/{repository}", origin, key)
    if source is None:
        return
    below = f"{host}/{repository}" if draft.options.scoped else repository.rpartition("/")[2]
    target = draft.reference(f"{draft.options.to}/{below}", origin, key)
    if target is None:
        return
    if target.tag:
        draft.report.lose(origin, key, "a path cannot have a port; write as: for this image")
        return
    draft.copy(ImageCopy(origin, key, source, target, rule))
