"""What a source is called at a target: `docker.io/library/nginx` → `dockerhub/library/nginx`, and back.

A `Naming` is a list of rules; the first whose prefix covers the source gives its name. Everything that needs a name
asks this module, so what is copied, served, rewritten and printed agrees. A host is one segment of a name: the colon
of a port becomes `_` (`localhost_5000`), and an IPv6 address its eight groups with dashes (`0-0-0-0-0-0-0-1_5000`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

from mirrord.errors import UsageError
from mirrord.wire.host import HUB, HUB_ALIASES
from mirrord.wire.oci.reference import NAME_LIMIT, Reference, valid_repository

FIELDS: Final = ("host", "path", "name", "mirror", "flat")
"""Placeholders of a template."""
OTHERS: Final = "*"
"""The prefix of a table that covers every source."""
_FIELD = re.compile(r"\{([^{}]*)\}")
_GROUPS = re.compile(r"[0-9a-f]{1,4}(?:-[0-9a-f]{1,4}){7}")
_SAMPLE = Reference(HUB, "library/nginx")


@dataclass(frozen=True, slots=True)
class _Rule:
    """One prefix and what sources below it are called.

    Attributes:
        prefix: `host` or `host/path`; "" covers every source.
        to: a template; without braces it replaces the prefix.
    """

    prefix: str
    to: str

    def name(self, source: Reference, mirror: str) -> str | None:
        rest = below(source.name, self.prefix)
        if rest is None:
            return None
        if "{" not in self.to:
            return "/".join(filter(None, (self.to, rest)))
        host = segment(source.domain)
        values = {
            "host": host,
            "path": source.path,
            "name": source.path.rpartition("/")[2],
            "mirror": mirror,
            "flat": f"{host}/{source.path}".replace("/", "__"),
        }
        parts = _FIELD.split(self.to)
        if "mirror" in parts[1::2] and not mirror:
            raise UsageError(f"{source.name}: the naming {self.to!r} needs a mirror; write {{path}} instead")
        parts[1::2] = [values[field] for field in parts[1::2]]
        return "".join(parts)

    @property
    def rank(self) -> tuple[int, bool]:
        """Order of rules on the way back: the longest beginning first, then those whose names have a host in them."""
        return -len(self.to.partition("{")[0]), "{host}" not in self.to and "{flat}" not in self.to

    def source(self, name: str) -> str | None:
        """Return the `host/path` that may have this name (the caller checks it), "" for no way back, None for none."""
        if "{" not in self.to:
            rest = below(name, self.to)
            return None if rest is None else "/".join(filter(None, (self.prefix, rest)))
        parts = _FIELD.split(self.to)
        found = _between(name, parts[0], parts[-1])
        fields, middle = parts[1::2], parts[2:-1]
        if found is None:
            return None
        if fields == ["path"] and self.prefix:
            return f"{self.prefix.partition('/')[0]}/{found}"
        if fields == ["flat"]:
            host, _, path = found.replace("__", "/").partition("/")
        elif fields == ["host", "path"] and middle[0].startswith("/"):
            host, _, path = found.partition(middle[0])
        elif fields == ["path", "host"] and middle[0].endswith("/"):
            path, _, host = found.rpartition(middle[0])
        else:
            return ""
        return f"{_host(host)}/{path}"


@dataclass(frozen=True, slots=True)
class Naming:
    """A way to call sources, made by `parse_naming`.

    Attributes:
        text: how people write it; equal namings have equal texts.
        rules: in order; the first that covers a source names it.
    """

    text: str
    rules: tuple[_Rule, ...]

    def name(self, source: Reference, mirror: str = "") -> str:
        """Return the repository below a target's `to`; `mirror` fills `{mirror}`.

        Raises:
            UsageError: no rule covers the source, or the result is no valid repository.
        """
        found = (rule.name(source, mirror) for rule in self.rules)
        name = next((one for one in found if one is not None), None)
        if name is None:
            raise UsageError(f"{source.name}: no prefix of the naming covers it; add its host, or '{OTHERS}'")
        if not valid_repository(name):
            what = f"has {len(name)} characters, at most {NAME_LIMIT}" if len(name) > NAME_LIMIT else "is no repository"
            raise UsageError(f"{source.name}: would be called {name[:80]!r}, which {what}; write another naming")
        return name

    def source(self, name: str) -> Reference | None:
        """Return a repository that is called `name`, or None where the naming does not say which.

        Several sources may have one name (`gcr.io/google-containers` and `k8s.gcr.io` of `nwcd`): the rule whose names
        begin with the longest text gives the answer, else the first. `flat` does not give back a path that has `__`.
        """
        for rule in sorted(self.rules, key=lambda rule: rule.rank):
            found = rule.source(name)
            if found == "":
                return None
            try:
                source = named(found) if found else None
                if source and self.name(source) == name:
                    return source
            except UsageError:
                continue
        return None


def below(name: str, prefix: str) -> str | None:
    """Return what follows a prefix of whole segments, "" when nothing does, and None when `name` is not below it."""
    if not prefix:
        return name
    if name == prefix:
        return ""
    return name[len(prefix) + 1 :] if name.startswith(f"{prefix}/") else None


def named(name: str) -> Reference:
    """Return the repository of a whole `host/path`; unlike `Reference.parse` it adds no host.

    Raises:
        UsageError: a part breaks the grammar.
    """
    host, _, path = name.partition("/")
    return Reference(host, f"library/{path}" if host == HUB and path and "/" not in path else path)


def registry_prefix(text: str) -> str:
    """Return `host` or `host/path` in the one spelling that references have: `Index.Docker.io/` → `docker.io`.

    Raises:
        UsageError: it is none; the text says what to write.
    """
    clean = text.strip().rstrip("/")
    tail = "/x/x"  # deep enough that no `library/` is put in front
    if not clean:
        raise UsageError(f"is empty; write a registry, such as {HUB} or {HUB}/library")
    try:
        reference = Reference.parse(f"{clean}{tail}")
    except UsageError as error:
        raise UsageError(str(error).replace(tail, "")) from error
    host = clean.partition("/")[0].lower()
    if reference.domain == HUB and host != HUB and host not in HUB_ALIASES:
        raise UsageError(f"{clean[:80]!r} does not begin with a registry; write a host, such as {HUB}/{clean[:80]}")
    return reference.name.removesuffix(tail)


def segment(domain: str) -> str:
    """Return a host as one segment of a repository's name: `localhost:5000` → `localhost_5000`."""
    if domain.startswith("["):
        six, _, port = domain[1:].partition("]")
        packed = IPv6Address(six).packed.hex()
        host = "-".join(f"{int(packed[place : place + 4], 16):x}" for place in range(0, len(packed), 4))
        port = port.removeprefix(":")
    else:
        host, _, port = domain.partition(":")
    return f"{host}_{port}" if port else host


def _host(text: str) -> str:
    """Return the host of a segment."""
    host, _, port = text.partition("_")
    if _GROUPS.fullmatch(host):
        host = f"[{IPv6Address(host.replace('-', ':')).compressed}]"
    return f"{host}:{port}" if port else host


def _between(text: str, begin: str, end: str) -> str | None:
    """Return what is between two texts, or None when there is nothing."""
    whole = text.startswith(begin) and text.endswith(end) and len(text) > len(begin) + len(end)
    return text[len(begin) : len(text) - len(end)] if whole else None


def parse_naming(value: str | Mapping[str, str]) -> Naming:
    """Read a naming: `path`, `nwcd`, `flat`, a template, or a table of prefixes.

    Raises:
        UsageError: it is none of these; the text says what is wrong, and what to write instead.
    """
    if not isinstance(value, str):
        return _table(value)
    text = value.strip()
    if text in BUILT_IN:
        return BUILT_IN[text]
    if "{" not in text:
        known = ", ".join(BUILT_IN)
        raise UsageError(f"{text[:80]!r} is not a naming; write {known}, or a template such as {{host}}/{{path}}")
    _check_template(text)
    return Naming(text, (_Rule("", text),))


def _table(table: Mapping[str, str]) -> Naming:
    if not table:
        raise UsageError("the table has no prefix; write one at least, such as docker.io: hub")
    rules: list[_Rule] = []
    for key, to in table.items():
        prefix = "" if key.strip() == OTHERS else registry_prefix(key)
        if first := next((rule for rule in rules if below(prefix, rule.prefix) is not None), None):
            covering = first.prefix or OTHERS
            raise UsageError(f"{key!r} is below {covering!r}, which comes first; write {key!r} before it, or remove it")
        clean = to.strip().strip("/")
        if "{" in clean or "}" in clean:
            _check_template(clean)
        elif clean and not valid_repository(clean):
            raise UsageError(f"{key!r}: {clean[:80]!r} is not the beginning of a repository; write lower-case words")
        elif not prefix:
            raise UsageError(f"{key!r} covers all hosts; write a template for it, such as others/{{host}}/{{path}}")
        rules.append(_Rule(prefix, clean))
    return Naming(_spelled(rules), tuple(rules))


def _spelled(rules: Iterable[_Rule]) -> str:
    return f"{{{', '.join(f'{rule.prefix or OTHERS}: {rule.to}' for rule in rules)}}}"


def _check_template(text: str) -> None:
    parts = _FIELD.split(text)
    fields = parts[1::2]
    known = ", ".join(f"{{{field}}}" for field in FIELDS)
    if wrong := next((field for field in fields if field not in FIELDS), None):
        raise UsageError(f"{text[:80]!r} has an unknown placeholder {{{wrong[:40]}}}; write {known}")
    if any("{" in literal or "}" in literal for literal in parts[::2]):
        raise UsageError(f"{text[:80]!r} has a brace without its counterpart; write {known}")
    if set(fields) <= {"host"}:
        raise UsageError(f"{text[:80]!r} calls all repositories of a host the same; add {{path}}")
    name = _Rule("", text).name(_SAMPLE, "mirror") or ""
    if not valid_repository(name):
        raise UsageError(
            f"{text[:80]!r} calls {_SAMPLE.name} {name[:80]!r}, which is no repository; write lower-case words and /"
        )


def _built_in(text: str, table: Mapping[str, str]) -> Naming:
    return Naming(text, _table(table).rules)


_NWCD: Final = {
    "k8s.gcr.io": "gcr/google_containers",
    "gcr.io/google-containers": "gcr/google_containers",
    **dict.fromkeys(("gcr.io", "asia.gcr.io", "eu.gcr.io", "us.gcr.io"), "gcr"),
    "quay.io": "quay",
    "602401143452.dkr.ecr.us-west-2.amazonaws.com": "amazonecr",
    f"{HUB}/library": "dockerhub/library",
    HUB: "dockerhub",
    "public.ecr.aws/docker/library": "dockerhub/library",
    "public.ecr.aws": "ecrpublic",
    "registry.k8s.io": "registryk8sio",
    "ghcr.io": "ghcr",
    "docker.elastic.co": "elastic",
    OTHERS: "dockerhub/{host}/{path}",
}
"""Of nwcdlabs' container-mirror at ECR, and its successor; where its tables differ, the one that stored the images."""

BUILT_IN: Final[Mapping[str, Naming]] = {
    "path": _built_in("path", {OTHERS: "{host}/{path}"}),
    "nwcd": _built_in("nwcd", _NWCD),
    "flat": _built_in("flat", {OTHERS: "{flat}"}),
}
"""Namings with a name of their own."""
