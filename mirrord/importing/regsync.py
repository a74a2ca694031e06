"""regsync of regclient: `regsync.yaml`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mirrord.config.foreign import Node
from mirrord.importing import platforms, ranges, regexes, timing, variables
from mirrord.importing.draft import Draft
from mirrord.importing.hosts import host_name
from mirrord.importing.section import Section
from mirrord.importing.values import ALL, ImageCopy, Keys, TagFilter, single, united

_DEFAULTS = {
    "backup": "mirrord does not back up a tag before it moves it",
    "ratelimit": "mirrord waits when a registry limits the rate, and leaves a fifth of a quota to people",
    "referrerFilters": "mirrord copies all referrers of an image",
    "referrerSource": "mirrord takes referrers from the repository of their image",
    "referrerTarget": "mirrord writes referrers to the repository of their image",
    "includeExternal": "mirrord does not copy layers that have URLs of their own",
    "mediaTypes": "mirrord copies images and artifacts of every media type",
    "hooks": "mirrord starts no programs",
}
_ALWAYS = ("referrers", "digestTags", "referrerSlow")  # mirrord copies what is about an image, unless told otherwise
_HOST = {
    "token": "mirrord takes a user name and a password; write an identity token as password of the user <token>",
    "regcert": "mirrord takes a file; write the certificate to one, and ca: FILE",
    "clientCert": "mirrord takes a file; write the certificate to one, and certificate: FILE",
    "clientKey": "mirrord takes a file; write the key to one, and key: FILE",
    "hostname": "mirrord connects to the host that the reference names",
    "pathPrefix": "mirrord has no prefix for a host; write it in from and to",
    "mirrors": "mirrord reads from the host that the reference names",
    "reqPerSec": "mirrord limits how many requests run at a time, not how many a second",
    "credHelper": "mirrord uses the helpers of docker's config.json; name it there",
    "credExpire": "mirrord uses the helpers of docker's config.json",
    "credHost": "mirrord uses one credential for a host",
}
_SOURCE = re.compile(r"\{\{-?\s*\.Sync\.Source\s*-?\}\}")
_TYPES = ("registry", "repository", "image")


def fits(node: Node) -> bool:
    """Whether a document is of this format."""
    steps = node.mapping.get("sync", node).value
    return isinstance(steps, tuple) and all({"source", "type"} <= step.mapping.keys() for step in steps)


def read(root: Section, draft: Draft) -> None:
    """Add what a document has to the draft."""
    root.lose("version", "is a version that mirrord import does not know", unless=("", "1"))
    for creds in root.sections("creds"):
        _creds(creds, draft)
    defaults = root.section("defaults")
    for key, why in _DEFAULTS.items():
        defaults.lose(key, why)
    defaults.ignore(*_ALWAYS, "fastCheck", "forceRecursive", "blobLimit", "cacheCount", "cacheTime", "userAgent")
    defaults.lose("skipDockerConfig", "mirrord uses docker's config.json for hosts without auth")
    if defaults.text("parallel") not in ("", "0", "1"):
        defaults.tell(
            "parallel", "counts images; mirrord counts requests, hosts.HOST.requests, which are 8 if not written"
        )
    usual = _timing(defaults)
    for step in root.sections("sync"):
        _step(step, usual, draft)
    defaults.end()
    root.end()


def _creds(creds: Section, draft: Draft) -> None:
    text = _expanded(creds, "registry", draft)
    host = host_name(text, creds, "registry") if text else ""
    if not host:
        return
    variables.add_login(creds, ("user", "pass"), host, variables.TEMPLATE, draft)
    tls = creds.text("tls")
    if tls == "insecure":
        creds.lose("tls", "mirrord always checks certificates; write ca: FILE for the host")
    requests = creds.text("reqConcurrent")
    keys: dict[str, object] = {"insecure": True} if tls == "disabled" else {}
    if requests.isdecimal() and 1 <= int(requests) <= 256:
        keys["requests"] = int(requests)
    if keys:
        draft.host(host, creds.origin(), keys)
    for key, why in _HOST.items():
        creds.lose(key, why)
    creds.ignore("priority", "repoAuth", "blobChunk", "blobMax", "api", "apiOpts")
    creds.end()


def _timing(section: Section) -> Keys:
    cron, pause = section.text("schedule"), section.text("interval")
    key = "schedule" if cron else "interval"
    try:
        if cron:
            section.tell(
                key, "regsync keeps to the time zone of its machine, mirrord to UTC unless timezone: is written"
            )
            return timing.schedule(cron)
        return timing.interval(pause) if pause and pause != "0" else {}
    except ValueError as error:
        section.lose(key, str(error))
        return {}


def _step(step: Section, usual: Keys, draft: Draft) -> None:
    for key, why in _DEFAULTS.items():
        step.lose(key, why)
    step.ignore(*_ALWAYS, "fastCheck", "forceRecursive")
    kind = step.text("type")
    own = _timing(step) if step.text("schedule") or step.text("interval") else usual
    own = {**own, **platforms.read(step, "platforms", platforms.SPARSE.format("regsync"))}
    own = {**own, **platforms.read(step, "platform", platforms.ALONE.format("regsync"))}
    rule = _rule(step)
    places = [_expanded(step, key, draft) for key in ("source", "target")]
    if kind not in _TYPES:
        step.refuse("type", f"is none of {', '.join(_TYPES)}")
    elif all(places) and rule:
        convert = _registry if kind == "registry" else _images
        convert(step, places, rule, own, draft)
    step.ignore("repos")
    step.end()


def _expanded(step: Section, key: str, draft: Draft) -> str:
    """Return a registry or a place with its variables replaced, "" when it cannot be used."""
    try:
        text = variables.expanded(step.text(key), variables.TEMPLATE, draft.options.environ)
    except ValueError as error:
        step.lose(key, str(error))
        return ""
    if key == "target":
        text = _SOURCE.sub(lambda _: step.text("source"), text)
    if not text:
        step.refuse(key, "is missing")
    elif "{{" in text:
        step.lose(key, "has a template that mirrord import does not read; write its result")
    elif text.startswith("ocidir://"):
        step.lose(key, "is an OCI layout; write from: {layout: DIR}, or a target with to: oci:DIR")
    else:
        return text
    return ""


def _images(step: Section, places: Sequence[str], rule: TagFilter, own: Keys, draft: Draft) -> None:
    found = zip(("source", "target"), places, strict=True)
    source, target = (draft.reference(text, step.origin(key), step.path(key)) for key, text in found)
    if source is None or target is None:
        return
    if step.text("type") == "image":
        rule = single(source, target.tag or "latest")  # regsync takes no tag for latest, as docker does
    elif source.tag or source.digest or target.tag:
        step.tell("source", "regsync ignores the tag of a repository, and so does the import")
    draft.copy(ImageCopy(step.origin(), step.key, source, target, rule, own))


def _registry(step: Section, places: Sequence[str], rule: TagFilter, own: Keys, draft: Draft) -> None:
    repos = step.section("repos")
    patterns = _patterns(repos)
    repos.end()
    source, target = host_name(places[0], step, "source"), places[1]
    if not source or draft.reference(f"{target}/repository", step.origin("target"), step.path("target")) is None:
        return
    if patterns is not None:
        draft.repositories(step.origin(), source, rule.of_registry(source, *patterns), target, own)


def _rule(step: Section) -> TagFilter | None:
    """Return the rule of `tags` and `tagSets`, or None when it has no equivalent."""
    sets = [one for one in (step.section("tags"), *step.sections("tagSets")) if one.values]
    rules = [rule for one in sets if (rule := _tags(one)) is not None]
    if len(rules) < len(sets):
        return None
    whole = united(rules)
    if whole is None:
        step.lose("tagSets", "mirrord cannot join filters that have deny or semverRange; write a repository for each")
    return whole


def _patterns(section: Section) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Return what is allowed and what is denied, or None when one of the two has no equivalent."""
    found: dict[str, tuple[str, ...]] = {}
    for key in ("allow", "deny"):
        patterns = section.texts(key)
        for text in patterns:
            if regexes.split(text):
                what = "means ^{0}$ without a group, so that ^ and $ belong to its first and last part; kept so"
                section.tell(key, f"{text[:60]!r} {what.format(text[:60])}")
        try:
            found[key] = tuple(regexes.framed(text) for text in patterns)
        except ValueError as error:
            section.lose(key, str(error))
            return None
    return found["allow"], found["deny"]


def _tags(tags: Section) -> TagFilter | None:
    patterns = _patterns(tags)
    if patterns is None:
        return None
    match, exclude = patterns
    if not (texts := tags.texts("semverRange")):
        tags.end()
        return TagFilter(match=match or ALL, exclude=exclude) if match or exclude else TagFilter(ALL)
    try:
        versions = " || ".join(map(ranges.loose, texts))
    except ValueError as error:
        tags.lose("semverRange", str(error))
        return None
    tags.tell("semverRange", ranges.SUFFIXES)
    tags.end()
    if match:
        return TagFilter(match=match, exclude=(ranges.NOT_LOOSE, *exclude), versions=versions)
    return TagFilter(match=(ranges.LOOSE_VERSION,), exclude=exclude, versions=versions)
