"""The manifest and the config of a chart in a registry, byte for byte as `helm push` makes them (helm pkg/registry)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mirrord.errors import ContentError
from mirrord.syncers.helm import names
from mirrord.syncers.helm.names import ChartVersion
from mirrord.wire.oci.descriptor import OCI_MANIFEST, Descriptor
from mirrord.wire.oci.manifest import Manifest

_PREFIX = "org.opencontainers.image."
_FIXED = frozenset({f"{_PREFIX}title", f"{_PREFIX}version"})
# In the order of helm's structures, and whether helm cleans the text (Metadata.Validate, Dependency.Validate).
_METADATA = (
    "name", "home", "sources", "version", "description", "keywords", "maintainers", "icon", "apiVersion", "condition",
    "tags", "appVersion", "deprecated", "annotations", "kubeVersion", "dependencies", "type",
)  # fmt: skip
_RAW = frozenset({"version", "apiVersion", "type", "annotations", "import-values", "alias"})
_MAINTAINER = ("name", "email", "url")
_DEPENDENCY = ("name", "version", "repository", "condition", "tags", "enabled", "import-values", "alias")


def config_of(entry: Mapping[str, object]) -> bytes:
    """Return the config blob: Go's JSON of the chart's metadata, empty fields left out."""
    return _go_json(_metadata(entry))


def manifest_of(chart: ChartVersion, config: Descriptor, layers: Sequence[Descriptor]) -> Manifest:
    """Return the manifest; the same for the same chart, always.

    `layers` are archive and provenance, in any order.
    """
    body = {
        "schemaVersion": 2,
        "config": _descriptor(config),
        "layers": [_descriptor(layer) for layer in sorted(layers, key=lambda layer: layer.digest)],
        "annotations": annotations_of(chart.entry, chart.created),
    }
    return Manifest.parse(_go_json(body), OCI_MANIFEST)


def annotations_of(entry: Mapping[str, object], created: str | None) -> Mapping[str, str]:
    """Return the manifest's annotations; those of the chart win, except over name and version."""
    metadata = _metadata(entry)
    sources, people = metadata.get("sources", []), metadata.get("maintainers", [])
    moment = names.instant(created or "")  # which helm writes to the second, in UTC
    made = {
        "description": metadata.get("description", ""),
        "title": metadata.get("name", ""),
        "version": metadata.get("version", ""),
        "url": metadata.get("home", ""),
        "created": moment[0].isoformat(timespec="seconds").replace("+00:00", "Z") if moment else "",
        "source": sources[0] if sources else "",
        "authors": ", ".join(
            one.get("name", "") + (f" ({one['email']})" if one.get("email") else "") for one in people
        ),
    }
    found = {f"{_PREFIX}{key}": value for key, value in made.items() if value.strip()}
    found |= {key: value for key, value in metadata.get("annotations", {}).items() if key not in _FIXED}
    return dict(sorted(found.items()))


def _metadata(entry: Mapping[str, object]) -> dict[str, Any]:
    found = _fields(entry, _METADATA)
    for key, order in (("maintainers", _MAINTAINER), ("dependencies", _DEPENDENCY)):
        if key in found:
            found[key] = [_fields(one, order) for one in found[key]]
    for dependency in found.get("dependencies", ()):  # the only two that Go writes even when they are empty
        given = {"name": "", "repository": "", **dependency}
        dependency.clear()
        dependency.update({key: _ordered(given[key]) for key in _DEPENDENCY if key in given})
    return {key: _ordered(value) if key == "annotations" else value for key, value in found.items()}


def _fields(mapping: object, order: Sequence[str]) -> dict[str, Any]:
    if not isinstance(mapping, Mapping):
        raise ContentError("helm would not have accepted the chart's metadata")
    return {key: mapping[key] if key in _RAW else _clean(mapping[key]) for key in order if mapping.get(key)}


def _ordered(value: object) -> object:
    """Sort the keys of mappings as Go does; those of its structures are in order already."""
    if isinstance(value, Mapping):
        return {key: _ordered(value[key]) for key in sorted(value)}
    return [_ordered(one) for one in value] if isinstance(value, list | tuple) else value


def _clean(value: object) -> object:
    """Do what helm does to texts before it uses them: white space becomes a space, the unprintable goes."""
    if isinstance(value, str):
        spaced = (" " if c.isspace() and c not in "\x1c\x1d\x1e\x1f" else c for c in value)
        return "".join(c for c in spaced if c.isprintable())
    if isinstance(value, list | tuple):
        return [_clean(one) for one in value]
    return value


def _descriptor(descriptor: Descriptor) -> dict[str, object]:
    return {"mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size}


def _go_json(value: object) -> bytes:
    """Return what Go's `json.Marshal` writes: no white space, and `<`, `>`, `&` escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for c in "<>&\u2028\u2029":
        text = text.replace(c, f"\\u{ord(c):04x}")
    return text.encode("utf-8", "replace")
