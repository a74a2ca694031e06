"""image-syncer: the file of images, the file of logins, and the old file that has both."""

from __future__ import annotations

from mirrord.config.foreign import Node
from mirrord.errors import MirrordError
from mirrord.importing import regexes, variables
from mirrord.importing.draft import Draft
from mirrord.importing.hosts import host_name
from mirrord.importing.section import Section
from mirrord.importing.values import ALL, ImageCopy, TagFilter
from mirrord.model.origin import ConfigOrigin
from mirrord.wire.oci.reference import Reference

_OLD = frozenset({"auth", "images", "defaultRegistry", "defaultNamespace"})


def fits(node: Node) -> bool:
    """Whether a document is of this format."""
    found = node.mapping
    if "images" in found and found.keys() <= _OLD:
        return _images_fit(found["images"]) or _logins_fit(found.get("auth", Node(0, None)))
    return _images_fit(node) or _logins_fit(node)


def _images_fit(node: Node) -> bool:
    places = [one.value for key, node in node.mapping.items() if "/" in key for one in _list(node)]
    return any(isinstance(place, str) and "/" in place for place in places)


def _logins_fit(node: Node) -> bool:
    return any({"username", "password"} <= one.mapping.keys() for one in node.mapping.values())


def _list(node: Node) -> tuple[Node, ...]:
    return node.value if isinstance(node.value, tuple) else (node,)


def read(root: Section, draft: Draft) -> None:
    """Add what a document has to the draft."""
    if "images" in root.values and root.values.keys() <= _OLD:
        root.lose("defaultRegistry", "write the registry into each destination")
        root.lose("defaultNamespace", "write the namespace into each destination")
        _logins(root.section("auth"), draft)
        _images(root.section("images"), draft)
    elif _logins_fit(root.node):
        _logins(root, draft)
    else:
        _images(root, draft)


def _logins(root: Section, draft: Draft) -> None:
    for name, login in root.named():
        written, _, namespace = name.partition("/")
        host = host_name(written, root, name)
        if not host:
            continue
        if namespace:
            root.tell(name, f"mirrord has one login for a host; this one is used for all of {host}")
        variables.add_login(login, ("username", "password"), host, variables.SHELL, draft)
        login.lose("insecure", "mirrord always checks certificates; write insecure: true for plain HTTP, or ca: FILE")
        login.end()


def _images(root: Section, draft: Draft) -> None:
    for written in root.values:
        origin = root.origin(written)
        try:
            repository, rule = _source(written)
        except (ValueError, MirrordError) as error:
            draft.report.lose(origin, written, str(error))
            root.ignore(written)
            continue
        source = draft.reference(repository, origin, written)
        nodes = root.items(written)
        if source is None:
            continue
        if "/" not in repository:
            what = f"image-syncer reads docker.io/{repository}, which Docker Hub does not have; {source} is used"
            root.tell(written, what)
        if not nodes:
            root.refuse(written, "has no destination; write one")
        for node in nodes:
            if isinstance(node.value, str):
                _destination(source, rule, node.value, ConfigOrigin(root.file, node.line), draft)
            else:
                draft.report.lose(origin, written, "has a destination that is not text")


def _source(text: str) -> tuple[str, TagFilter]:
    """Return the repository and the rule of a source.

    Raises:
        ValueError: its regular expression cannot be read.
        UsageError: what follows its `@` is no digest.
    """
    repository, at, _ = text.partition("@")
    if at:  # parsed as a whole: what stands before the @ may be a password
        return repository, TagFilter(digest=str(Reference.parse(text).digest))
    repository, colon, pattern = text.partition(":/")
    if colon and text.endswith("/"):
        return repository, TagFilter(match=(regexes.searched(pattern[:-1]),))
    folder, slash, last = text.rpartition("/")
    name, colon, tags = last.partition(":")
    return f"{folder}{slash}{name}", TagFilter(tuple(tags.split(",")) if colon else ALL)


def _destination(source: Reference, rule: TagFilter, written: str, origin: ConfigOrigin, draft: Draft) -> None:
    key = f"{source.name} → {written}"
    try:
        text = variables.expanded(written, variables.SHELL, draft.options.environ)
    except ValueError as error:
        draft.report.lose(origin, key, str(error))
        return
    folder, slash, last = text.rpartition("/")
    name, colon, tags = last.partition(":")
    target = draft.reference(f"{folder}{slash}{name}", origin, key)
    if target is None:
        return
    for each in _renamed(rule, tuple(tags.split(",")) if colon else ()):
        if each is None:
            draft.report.lose(origin, key, "has not as many tags as its source")
        else:
            draft.copy(ImageCopy(origin, key, source, target, each))


def _renamed(rule: TagFilter, names: tuple[str, ...]) -> list[TagFilter | None]:
    """Return one rule for each tag that has another name at the target, and one for the others."""
    if not names or names == rule.tags:
        return [rule]
    if rule.digest and len(names) == 1:
        return [TagFilter(digest=rule.digest, named=names[0])]
    if rule.tags == ALL or len(names) != len(rule.tags):
        return [None]
    pairs = list(zip(rule.tags, names, strict=True))
    same = tuple(tag for tag, name in pairs if tag == name)
    others = [TagFilter((tag,), named=name) for tag, name in pairs if tag != name]
    return [TagFilter(same), *others] if same else [*others]
