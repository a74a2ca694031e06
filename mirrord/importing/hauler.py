"""Manifests of Hauler: images and charts. The registry to which they are copied is on its command line."""

from __future__ import annotations

from mirrord.config.foreign import Node
from mirrord.errors import UsageError
from mirrord.importing import platforms
from mirrord.importing.draft import Draft
from mirrord.importing.section import Section
from mirrord.importing.values import ImageCopy, Keys, OtherMirror, single
from mirrord.wire.secret import redact

_VERSION = "content.hauler.cattle.io/"
_REGISTRY, _PLATFORM = "hauler.dev/registry", "hauler.dev/platform"
_SIGNED = "write signatures: {require: {key: FILE}} in the mirror, which then copies only what is signed"


def fits(node: Node) -> bool:
    """Whether a document is of this format."""
    return node.text("apiVersion").startswith(_VERSION)


def read(root: Section, draft: Draft) -> None:
    """Add what a document has to the draft.

    Raises:
        UsageError: there are images, and their target is not known.
    """
    root.ignore("apiVersion")
    kind, spec, data = root.text("kind"), root.section("spec"), root.section("metadata")
    data.ignore("name")
    notes = data.section("annotations")
    usual = platforms.read(notes, _PLATFORM, platforms.ALONE.format("Hauler"))
    registry = notes.text(_REGISTRY)
    notes.end("has no equivalent")
    data.end()
    if kind == "Images":
        for image in spec.sections("images"):
            _image(image, registry, usual, draft)
    elif kind == "Charts":
        for chart in spec.sections("charts"):
            _chart(chart, draft)
    else:
        root.refuse("kind", "mirrord mirrors images, charts and Git repositories")
        return
    spec.end()
    root.end()


def _image(image: Section, registry: str, usual: Keys, draft: Draft) -> None:
    name, rewrite = image.text("name"), image.text("rewrite").strip("/")
    own = platforms.read(image, "platform", platforms.ALONE.format("Hauler")) or usual
    for key in list(image.values):
        if key == "key" or key.startswith(("certificate", "use-tlog")):
            image.lose(key, _SIGNED)
    image.end()
    first, slash, _ = name.partition("/")
    hosted = slash and ("." in first or ":" in first or first == "localhost")
    text = f"{registry}/{name}" if registry and not hosted else name
    source = draft.reference(text, image.origin("name"), image.path("name"))
    if source is None:
        return
    if not draft.options.to:
        raise UsageError(f"{image.file}: Hauler has the destination on its command line; add --to HOST/PATH")
    target = draft.reference(f"{draft.options.to}/{rewrite or source.path}", image.origin(), image.path("rewrite"))
    if target:
        rule = single(source, target.tag or source.tag)
        draft.copy(ImageCopy(image.origin(), image.key, source, target, rule, own))


def _chart(chart: Section, draft: Draft) -> None:
    name, url, version = (chart.text(key) for key in ("name", "repoURL", "version"))
    for key in ("add-images", "add-dependencies"):
        chart.lose(key, "mirrord does not look for what a chart needs; list the images and charts")
    chart.lose("rewrite", "charts keep their names")
    chart.end("has no equivalent")
    if not name or not url or redact(url) != url or "/" in name:
        chart.refuse("name", "mirrord reads charts from a repository, whose URL has no login; put the chart into one")
        return
    keys: dict[str, object] = {"kind": "helm", "from": url, "charts": [name]}
    if version:
        keys["versions"] = {name: f"={version.removeprefix('v')}"}
    chart.tell("", "the chart goes to the store of mirrord, which serves it")
    draft.others.append(OtherMirror(chart.origin(), name, keys))
