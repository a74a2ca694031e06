"""The JSON Schema of a configuration file, made from the models that read it: for editors, and for the manual."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from mirrord.config.asking import AskingKeys
from mirrord.config.check import schema_of
from mirrord.config.envelopes import NAME_PATTERN, Envelope, TargetEnvelope
from mirrord.config.hosts import Host
from mirrord.config.names import NameKeys
from mirrord.config.notify import ReceiverKeys
from mirrord.config.pointing import PointingKeys
from mirrord.config.pull_requests import PullRequestKeys
from mirrord.config.settings import Settings
from mirrord.config.units import SPELLED, spell_duration, spell_size
from mirrord.config.webhook import WebhookKeys
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import LOCAL

Schema = dict[str, Any]
_SPELL = {"duration": spell_duration, "size": spell_size}
_JOINED = ("properties", "required", "type", "additionalProperties", "description")


def file_schema(syncers: Mapping[str, Syncer]) -> Schema:
    """Return the schema (draft 2020-12) of one `*.yaml` of a folder, with the keys of these kinds."""
    defined = {"host": _tidy(Host), "receiver": _tidy(ReceiverKeys)}
    for kind, syncer in syncers.items():
        defined[f"{kind}-target"] = _joined(TargetEnvelope, syncer.target_spec, kind)
        defined[f"{kind}-mirror"] = _joined(Envelope, syncer.spec, kind)
    targets, mirrors = ([{"$ref": f"#/$defs/{kind}-{what}"} for kind in syncers] for what in ("target", "mirror"))
    named = {"pattern": NAME_PATTERN, "not": {"const": LOCAL}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mirrord configuration",
        "description": "One file of the configuration folder. The sections may be spread over several files.",
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {
            "settings": _section("object", "The program itself.", **_tidy(Settings)),
            "hosts": _section(
                "object",
                "How to talk to a host, wherever it appears. Each key is a `host` or `host:port`.",
                additionalProperties={"$ref": "#/$defs/host"},
            ),
            "names": _section("object", "What names mean, and what images are called.", **_tidy(NameKeys)),
            "front": _section("object", "What clients may pull through, by kind.", **_fronts(syncers)),
            "targets": _section(
                "object", "Where mirrors write, by name.", propertyNames=named, additionalProperties={"oneOf": targets}
            ),
            "mirrors": _section("array", "What is mirrored.", items={"oneOf": mirrors}),
            "pointing": _section("object", "Where users of images are pointed at.", **_tidy(PointingKeys)),
            "asking": _section("object", "Which images people may ask for.", **_tidy(AskingKeys)),
            "pull_requests": _section(
                "object",
                "Which pull requests get a comment about their builds, by name.",
                propertyNames={"pattern": NAME_PATTERN},
                additionalProperties=_tidy(PullRequestKeys),
            ),
            "webhook": _section("object", "Where Kubernetes asks about new Pods.", **_tidy(WebhookKeys)),
            "notify": _section(
                "object",
                "Who is notified of failures and recoveries, by name.",
                propertyNames={"pattern": NAME_PATTERN},
                additionalProperties={"$ref": "#/$defs/receiver"},
            ),
        },
        "$defs": defined,
    }


def _fronts(syncers: Mapping[str, Syncer]) -> Schema:
    models = {kind: _tidy(syncer.through.model()) for kind, syncer in syncers.items() if syncer.through}
    return {"properties": models, "additionalProperties": False}


class Key(NamedTuple):
    """A key for people."""

    name: str  # as people write it: `spool.budget`
    description: str
    default: Any  # None if there is none or it depends on something, see the end of the description
    required: bool
    inner: bool  # whether it has keys of its own


def keys_of(model: type[BaseModel]) -> Iterator[Key]:
    """Yield every key that a model reads, nested ones after the one that they are in."""
    yield from _keys(_tidy(model), "")


def _keys(node: Schema, prefix: str) -> Iterator[Key]:
    for name, below in node.get("properties", {}).items():
        needed = name in node.get("required", ())
        text, default = below.get("description", ""), below.get("default")
        forms = [form for key in ("oneOf", "anyOf") for form in below.get(key, ()) if "properties" in form]
        forms += [below] if "properties" in below else []
        yield Key(f"{prefix}{name}", text, default, needed, below in forms)
        for form in forms:
            yield from _keys(form, f"{prefix}{name}.")


def _section(kind: str, text: str, **keys: Any) -> Schema:
    return {**keys, "description": text, "type": [kind, "null"]}  # a section that is all comments is empty


def _tidy(model: type[BaseModel]) -> Schema:
    shape = schema_of(model)
    return _tidied(shape, shape.get("$defs", {}), ())


def _tidied(node: Mapping[str, Any], defined: Mapping[str, Any], above: tuple[str, ...]) -> Schema:
    """Return a schema without references, titles and null, with defaults as people write them."""
    whole: Schema = dict(node)
    while reference := whole.pop("$ref", None):
        name = str(reference).rpartition("/")[2]
        if name in above:
            return {}  # a model that contains itself: anything
        above = (*above, name)
        whole = {**defined[name], **whole}
    forms = [form for form in whole.get("anyOf", ()) if form.get("type") != "null"]
    if len(forms) == 1:
        del whole["anyOf"]
        return _tidied({**forms[0], **whole}, defined, above)
    _spell_values(whole)
    if "properties" in whole:
        whole["properties"] = {name: _tidied(one, defined, above) for name, one in whole["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(whole.get(key), Mapping):
            whole[key] = _tidied(whole[key], defined, above)
    for key in {"anyOf", "oneOf", "allOf"}.intersection(whole):
        whole[key] = [_tidied(form, defined, above) for form in whole[key]]
    return whole


def _spell_values(node: Schema) -> None:
    """Let default and examples of a value be what people write, and take out what only programs need."""
    for key in ("title", "format", "$defs"):
        node.pop(key, None)
    spell, default, examples = node.pop(SPELLED, ""), node.pop("default", None), node.pop("examples", ())
    if default not in (None, [], ()) and not isinstance(default, dict):  # a mapping: its keys have defaults
        node["default"] = _SPELL[spell](default) if spell in _SPELL else default
    if examples and node.get("type") == "string":
        node["examples"] = [text.strip("'\"") for text in examples]  # as values, not as YAML


def _joined(envelope: type[BaseModel], own: type[BaseModel], kind: str) -> Schema:
    """Return one schema for what two models read from the same mapping."""
    outer, inner = _tidy(envelope), _tidy(own)
    properties = {**outer["properties"], **inner.get("properties", {})}
    properties["kind"] = {"const": kind, "description": properties["kind"]["description"]}
    rules = [{key: value for key, value in one.items() if key not in _JOINED} for one in (outer, inner)]
    joined: Schema = {
        "type": "object",
        "description": f"Kind `{kind}`.",
        "properties": properties,
        "required": [*outer.get("required", ()), *inner.get("required", ())],
        "additionalProperties": False,
    }
    return {**joined, "allOf": found} if (found := [rule for rule in rules if rule]) else joined
