"""A MutatingAdmissionPolicy (admissionregistration.k8s.io/v1): the API server itself points images, and asks nobody.

It can only say what follows from a name: images that the front allows, and those that a mirror copies, whatever their
tag. Where each of them is at the mirror is asked of `Places`, so there is one mapping.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mirrord.config.load import Configuration
from mirrord.config.pointing import FRONT
from mirrord.errors import UsageError
from mirrord.names.allows import AllowEntry
from mirrord.names.denied import parted
from mirrord.names.naming import below
from mirrord.pointing.admission.review import IGNORE, MARK
from mirrord.pointing.image_mirrors import KIND
from mirrord.pointing.places import DIRECT, Left, Places
from mirrord.syncers.image.upstream.allow_file import FrontLists, read_lists
from mirrord.wire.host import HUB
from mirrord.wire.oci.reference import Reference

MOST_RULES: Final = 200
"""Names, also those that stay: the API server bounds how deep an expression may be, and what it may cost."""
LARGEST: Final = 100_000
"""Characters of an expression that the API server takes."""
OWN: Final = "mirrord"
"""The namespace of mirrord in our manifests: it has to start while the mirror is away."""
_OFFICIAL: Final = f"{HUB}/library"
_SAMPLES: Final = {"": ("",), "/*": ("/sample",), "/**": ("/sample", "/one/more")}
_NORMAL: Final = (
    f'!{{image}}.contains("/") ? "{_OFFICIAL}/" + {{image}} : '
    '["docker.io/", "index.docker.io/", "registry-1.docker.io/"].exists(h, {image}.startsWith(h))'
    f' ? ({{image}}.split("/").size() == 2 ? "{_OFFICIAL}/" : "{HUB}/")'
    ' + {image}.substring({image}.indexOf("/") + 1) : '
    '{image}.split("/")[0].contains(".") || {image}.split("/")[0].contains(":") || {image}.startsWith("localhost/")'
    f' ? {{image}} : "{HUB}/" + {{image}}'
)
"""`host/path`, `:tag` and `@digest` of what people write, by Docker's rules."""


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """Names that begin alike, and what that beginning becomes.

    Attributes:
        begin: `host/path` as it is written.
        wildcard: as of an `AllowEntry`.
        becomes: the beginning of their names at the mirror.
    """

    begin: str
    wildcard: str
    becomes: str


@dataclass(frozen=True, slots=True)
class NamePolicy:
    """What follows from names alone.

    Attributes:
        rules: what is pointed, the first that fits counts.
        stays: what is not.
        denied: digests of what is not, under whatever name.
        left: a sentence for each name that has no rule.
    """

    rules: Sequence[PolicyRule]
    stays: Sequence[AllowEntry]
    denied: Sequence[str]
    left: Sequence[str]


def name_policy(read: Configuration, places: Places) -> NamePolicy:
    """Return the rules that `places` has for all that the configuration names.

    Reads the allow list of the front. Blocking.

    Raises:
        UsageError: there is none, or there are too many.
    """
    rules, left = dict[tuple[str, str], PolicyRule](), list[str]()
    lists = _front_lists(read, places)
    for entry in (*lists.allow.entries(), *(AllowEntry(0, source.name) for source in places.sources())):
        for begin in _spellings(entry, read.names.aliases):
            found = _rule(places, begin, entry.wildcard)
            if isinstance(found, PolicyRule):
                rules.setdefault((begin, entry.wildcard), found)
            elif found:
                left.append(f"{begin}{entry.wildcard}: {found}")
    if not rules:
        raise UsageError("no image has a place that follows from its name alone; use the webhook")
    # A name beside a wildcard that has it, too, comes first: it may be called otherwise.
    ordered = sorted(rules.values(), key=lambda one: (one.wildcard, -len(one.begin), one.begin))
    ours = (AllowEntry(0, begin, "/**") for begin in places.ours if begin)
    kept = (*places.excepted, *lists.deny.entries(), *read.denied.names())
    spelled = (AllowEntry(0, name, one.wildcard) for one in kept for name in _spellings(one, read.names.aliases))
    stays = [*ours, *(one for one in dict.fromkeys(spelled) if _meets(one, ordered))]
    if (count := len(rules) + len(stays)) > MOST_RULES:
        raise UsageError(f"{count} names are more than the {MOST_RULES} that a policy can have; use the webhook")
    return NamePolicy(ordered, stays, [*read.denied.digests()], left)


def image_expression(policy: NamePolicy, image: str) -> str:
    """Return an expression of CEL for what an image becomes; `image` is its text, such as `c.image`.

    A list of one element stands for a variable: `[value].map(name, …)[0]`.
    """
    lines = [f"{_matches(one.name, one.wildcard)} ? {image} :" for one in policy.stays]
    lines += (
        f'{_matches(one.begin, one.wildcard)} ? "{one.becomes}" + n.substring({len(one.begin)}) :'
        for one in policy.rules
    )
    body = "".join(f"  {line}\n" for line in lines)
    direct = f'{image}.startsWith("{DIRECT}") ? {image}.substring({len(DIRECT)}) :'
    if policy.denied:
        direct += f'\n{image}.substring({image}.lastIndexOf("@") + 1) in {json.dumps(policy.denied)} ? {image} :'
    return f"{direct}\n[{_NORMAL.format(image=image)}].map(n,\n{body}  {image})[0]"


def policy_objects(policy: NamePolicy, namespaces: Sequence[str]) -> Sequence[Mapping[str, object]]:
    """Return the policy and its binding as objects of Kubernetes; Pods in these `namespaces` stay, as ours do.

    Raises:
        UsageError: it is too large for an API server.
    """
    metadata = {"name": "mirrord", "labels": {"app.kubernetes.io/name": "mirrord"}}
    unmarked = {"key": MARK, "operator": "NotIn", "values": [IGNORE]}
    outside = {
        "key": "kubernetes.io/metadata.name",
        "operator": "NotIn",
        "values": [*dict.fromkeys((*namespaces, OWN))],
    }
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    ignored = f' || object.metadata.annotations["{MARK}"] != "{IGNORE}"'
    expressions = [_applied(part, image_expression(policy, "c.image")) for part in ("containers", "initContainers")]
    if (size := max(map(len, expressions))) > LARGEST:
        what = f"its {size} characters are more than the {LARGEST} that an API server takes of a policy"
        raise UsageError(f"{what}, with names and digests that were taken down; use the webhook")
    mutations = [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": one}} for one in expressions]
    spec = {
        "failurePolicy": "Ignore",
        "reinvocationPolicy": "Never",  # `direct.to/` is taken away once
        "matchConstraints": {
            "namespaceSelector": {"matchExpressions": [outside, unmarked]},
            "objectSelector": {"matchExpressions": [unmarked]},
            "resourceRules": [pods],
        },
        "matchConditions": [
            {"name": "not-ignored", "expression": _unlike(MARK) + ignored},
            {"name": "not-static", "expression": _unlike("kubernetes.io/config.mirror")},
        ],
        "mutations": mutations,
    }
    api = "admissionregistration.k8s.io/v1"
    binding = {"policyName": "mirrord"}
    return (
        {"apiVersion": api, "kind": "MutatingAdmissionPolicy", "metadata": metadata, "spec": spec},
        {"apiVersion": api, "kind": "MutatingAdmissionPolicyBinding", "metadata": metadata, "spec": binding},
    )


def _applied(part: str, image: str) -> str:
    """Return the expression for one list of the spec; one that a Pod does not have stays away."""
    each = f"Object.spec.{part}{{name: c.name, image: {image}}}"
    field = f"?{part}: object.spec.?{part}.optMap(l, l.filter(c, has(c.image)).map(c, {each}))"
    return f"Object{{spec: Object.spec{{\n{field}}}}}"


def _unlike(key: str) -> str:
    return f'!has(object.metadata.annotations) || !("{key}" in object.metadata.annotations)'


def _front_lists(read: Configuration, places: Places) -> FrontLists:
    rules = read.fronts.get(KIND)
    if rules is None or FRONT not in places.to:
        return FrontLists()
    lists, _, problems = read_lists(rules, read.names)
    if problems:
        raise UsageError(problems[0])
    return lists


def _spellings(entry: AllowEntry, aliases: Mapping[str, str]) -> Iterator[str]:
    """Yield the name of an entry, and those that aliases give it."""
    name = _OFFICIAL if (entry.name, entry.wildcard) == (HUB, "/*") else entry.name
    yield name
    for alias, meant in aliases.items():
        if name == meant or name.startswith(f"{meant}/"):
            yield alias + name.removeprefix(meant)
        elif entry.wildcard == "/**" and meant.startswith(f"{name}/"):
            yield alias


def _meets(entry: AllowEntry, rules: Sequence[PolicyRule]) -> bool:
    """Whether an entry may have a name that a rule has, too."""
    name = entry.name if entry.wildcard else parted(entry.name)[0]
    return any(below(*pair) is not None for one in rules for pair in ((name, one.begin), (one.begin, name)))


def _rule(places: Places, begin: str, wildcard: str) -> PolicyRule | str:
    """Return the rule for names that begin so, or why there is none."""
    becomes = set[str]()
    for tail in _SAMPLES[wildcard]:
        try:
            found = places.candidates(Reference.parse(f"{begin}{tail}"))
        except UsageError as error:
            return str(error)
        if isinstance(found, Left):
            return found.text
        name = found[0].reference.name
        if not name.endswith(tail):
            return "its name at the mirror does not begin alike for all"
        becomes.add(name.removesuffix(tail))
    return PolicyRule(begin, wildcard, becomes.pop()) if len(becomes) == 1 else "its names at the mirror differ"


def _matches(begin: str, wildcard: str) -> str:
    """Return the condition that a normal name is one of these, whatever its tag and digest if `begin` has no tag."""
    if not wildcard:
        name, tag = parted(begin)
        if tag:  # of what was taken down; beside a digest it does not count
            return f"n in {json.dumps([begin, name] if tag == 'latest' else [begin])}"
        return f'(n + ":").replace("@", ":").startsWith("{begin}:")'
    deeper = f'n.startsWith("{begin}/")'
    return deeper if wildcard == "/**" else f'({deeper} && !n.substring({len(begin) + 1}).contains("/"))'
