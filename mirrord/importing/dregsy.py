"""dregsy: tasks with mappings."""

from __future__ import annotations

import base64
import json

from mirrord.config.foreign import Node
from mirrord.errors import MirrordError
from mirrord.importing import platforms, ranges, regexes, timing
from mirrord.importing.draft import Draft, variable
from mirrord.importing.hosts import host_name
from mirrord.importing.section import Section
from mirrord.importing.values import ALL, ImageCopy, Keys, TagFilter, united

_REGEX, _RANGE, _KEEP = "regex:", "semver:", "keep:"
_LATEST = "latest"
_FLAGS = ("", "none", "{}")


def fits(node: Node) -> bool:
    """Whether a document is of this format."""
    tasks = node.mapping.get("tasks", node).value
    return isinstance(tasks, tuple) and all("mappings" in task.mapping for task in tasks)


def read(root: Section, draft: Draft) -> None:
    """Add what a document has to the draft."""
    root.ignore("relay", "watch", "docker", "dockerhost", "api-version", "lister")  # how dregsy copies, not what
    skopeo = root.section("skopeo")
    skopeo.lose("certs-dir", "write the certificates as ca: FILE, certificate: FILE and key: FILE for the host")
    skopeo.ignore("binary", "mode")
    skopeo.end()
    for task in root.sections("tasks"):
        _task(task, draft)
    root.end()


def _task(task: Section, draft: Draft) -> None:
    task.ignore("name", "verbose")
    seconds = task.text("interval")
    own: Keys = {}
    if seconds.isdecimal() and len(seconds) < 10:
        own = timing.every(int(seconds)) if int(seconds) else {}
    else:
        task.lose("interval", "is not a number of seconds")
    source, target = (_host(task.section(key), draft) for key in ("source", "target"))
    for mapping in task.sections("mappings"):
        if source and target:
            _mapping(mapping, source, target, own, draft)
    task.end()


def _host(section: Section, draft: Draft) -> str:
    """Return the host of a source or target, "" when it cannot be used."""
    host = host_name(section.text("registry"), section, "registry")
    if not host:
        return ""
    auth = section.text("auth")
    if auth not in _FLAGS:
        if user := _user(auth):
            draft.login(host, section.origin("auth"), user, {"env": variable(host)})
        else:
            section.lose("auth", "is not the base64 text of a user name and a password; write auth: for the host")
    section.lose("auth-refresh", "mirrord asks docker's credential helpers again by itself; name the helper there")
    section.lose(
        "skip-tls-verify", "mirrord always checks certificates; write insecure: true for plain HTTP, or ca: FILE"
    )
    lister = section.section("lister")
    lister.ignore("type", "search", "maxItems", "cacheDuration")
    lister.end()
    section.end()
    return host


def _user(auth: str) -> str:
    """Return the user name in base64 of JSON; the password is not looked at."""
    try:
        found = json.loads(base64.b64decode(auth, validate=True))
    except (ValueError, RecursionError):
        return ""
    name = found.get("username") if isinstance(found, dict) else None
    return name if isinstance(name, str) else ""


def _mapping(mapping: Section, source: str, target: str, own: Keys, draft: Draft) -> None:
    platform = mapping.text("platform")
    if platform not in ("", "all"):
        own = {**own, **platforms.read(mapping, "platform", platforms.ALONE.format("dregsy"))}
    elif not platform:
        mapping.tell("platform", "dregsy copies the platform of its machine, mirrord all, or those of platforms:")
    origin, below, to = mapping.origin(), mapping.text("from"), mapping.text("to")
    rule = _rule(mapping)
    mapping.ignore("preserve-digests")
    mapping.end()
    if rule is None:
        return
    if below.startswith(_REGEX):
        _many(mapping, (source, target), rule, own, draft)
        return
    if to.startswith(_REGEX):
        mapping.lose("to", "mirrord replaces no patterns in names; write the name at the target")
        return
    from_ = draft.reference(f"{source}/{below.strip('/')}", origin, mapping.path("from"))
    there = draft.reference(f"{target}/{(to or below).strip('/')}", origin, mapping.path("to"))
    if from_ and there:
        draft.copy(ImageCopy(origin, mapping.key, from_, there, rule, own))


def _many(mapping: Section, hosts: tuple[str, str], rule: TagFilter, own: Keys, draft: Draft) -> None:
    source, target = hosts
    to = mapping.text("to")
    if to.startswith(_REGEX):
        mapping.lose("to", "mirrord replaces no patterns in names; each repository keeps its path: write a prefix")
        return
    try:
        repository = regexes.framed(mapping.text("from").removeprefix(_REGEX))
    except ValueError as error:
        mapping.lose("from", str(error))
        return
    place = f"{target}/{to.strip('/')}".rstrip("/")
    if draft.reference(f"{place}/repository", mapping.origin("to"), mapping.path("to")) is None:
        return
    draft.repositories(mapping.origin(), f"{source}-{mapping.key}", rule.of_registry(source, [repository]), place, own)


def _rule(mapping: Section) -> TagFilter | None:
    """Return the rule of `tags` and `digests`, or None when it has no equivalent."""
    texts, digests = mapping.texts("tags"), mapping.texts("digests")
    if digests:
        if len(digests) > 1 or texts:
            mapping.lose("digests", "a repository with several digests, or tags besides, needs a mirror for each")
        tag, _, digest = digests[0].rpartition("@")
        return TagFilter(digest=digest, named=tag) if not texts else _tags(mapping, texts)
    return _tags(mapping, texts) if texts else TagFilter(ALL)


def _tags(mapping: Section, texts: tuple[str, ...]) -> TagFilter | None:
    try:
        if any(text.startswith(_RANGE) for text in texts):
            mapping.tell("tags", ranges.SUFFIXES)
        rules = [_one(text) for text in texts if not text.startswith(_KEEP)]
        newest, excluded = _keep([text.removeprefix(_KEEP).strip() for text in texts if text.startswith(_KEEP)])
    except (ValueError, MirrordError) as error:
        mapping.lose("tags", str(error))
        return None
    whole = united(rules)
    if whole is None:
        mapping.lose("tags", "mirrord cannot join a range or an inverted pattern with others; give each a repository")
        return None
    if newest:
        mapping.tell("tags", "newest counts the versions of each variant (-alpine) apart")
    if not (newest or excluded):
        return whole
    match = whole.match or (() if whole.tags else ALL)
    return TagFilter(whole.tags, match, (*whole.exclude, *excluded), whole.versions, newest)


def _one(text: str) -> TagFilter:
    if text.startswith(_RANGE):
        versions = ranges.checked(text.removeprefix(_RANGE))
        return TagFilter(match=(ranges.ANY_VERSION,), versions=versions)
    if not text.startswith(_REGEX):
        return TagFilter((text,))
    pattern = text.removeprefix(_REGEX).strip()
    if pattern.startswith("!"):
        return TagFilter(match=ALL, exclude=(regexes.framed(pattern[1:]),))
    return TagFilter(match=(regexes.framed(pattern),))


def _keep(texts: list[str]) -> tuple[int, tuple[str, ...]]:
    """Return how many of the newest are kept, and patterns of what is left out.

    Raises:
        ValueError: it is a pattern that has to match besides others.
    """
    newest, excluded = 0, []
    for text in texts:
        word, _, number = text.partition(" ")
        if word == _LATEST and number.strip().isdecimal():
            newest = int(number)
        elif text.startswith("!"):
            excluded.append(regexes.framed(text[1:].strip()))
        else:
            raise ValueError("mirrord cannot ask for two patterns at once; write one pattern in place of keep")
    return newest, tuple(excluded)
