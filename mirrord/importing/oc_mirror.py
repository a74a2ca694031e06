"""oc-mirror: `additionalImages` and `helm` of an ImageSetConfiguration, and the mapping.txt that it writes."""

from __future__ import annotations

from mirrord.config.foreign import Node
from mirrord.errors import MirrordError, UsageError
from mirrord.importing import lists, platforms
from mirrord.importing.draft import Draft
from mirrord.importing.section import Section
from mirrord.importing.values import ImageCopy, OtherMirror, single
from mirrord.model.origin import ConfigOrigin
from mirrord.patterns import Pattern, compiled
from mirrord.wire.oci.reference import valid_repository
from mirrord.wire.secret import redact

_SCHEME = "docker://"
_GRAPH = "the content comes from a release graph or catalogue, which mirrord does not read; keep oc-mirror for it"
_FILE = "mirrord writes to registries, and not to archives"


def fits(node: Node) -> bool:
    """Whether a document is of this format."""
    return node.text("apiVersion").startswith("mirror.openshift.io/")


def read(root: Section, draft: Draft) -> None:
    """Add what a document has to the draft.

    Raises:
        UsageError: there are images, and their target is not known.
    """
    root = Section(_lowered(root.node), root.file, root.key, root.report)  # oc-mirror reads keys in any case
    root.ignore("apiversion", "kind")
    root.lose("archivesize", _FILE)
    root.lose("storageconfig", _FILE)
    mirror = root.section("mirror")
    for key in ("platform", "operators", "samples"):
        mirror.lose(key, _GRAPH)
    blocked = _blocked(mirror)
    for image in mirror.sections("additionalimages"):
        _image(image, blocked, draft)
    _helm(mirror.section("helm"), draft)
    mirror.end()
    root.end()


def _lowered(node: Node) -> Node:
    if isinstance(node.value, dict):
        return Node(node.line, {key.lower(): _lowered(value) for key, value in node.value.items()}, node.size)
    if isinstance(node.value, tuple):
        return Node(node.line, tuple(map(_lowered, node.value)), node.size)
    return node


def _blocked(mirror: Section) -> list[tuple[Pattern, ConfigOrigin]]:
    found = []
    for entry in mirror.sections("blockedimages"):
        try:
            found.append((compiled(entry.text("name")), entry.origin("name")))
        except MirrordError as error:
            entry.lose("name", str(error))
        entry.end()
    return found


def _image(image: Section, blocked: list[tuple[Pattern, ConfigOrigin]], draft: Draft) -> None:
    name, repository, tag = (image.text(key) for key in ("name", "targetrepo", "targettag"))
    own = platforms.read(image, "platforms", platforms.SPARSE.format("oc-mirror"))
    image.end()
    source = draft.reference(name.removeprefix(_SCHEME), image.origin("name"), image.path("name"))
    if source is None:
        return
    if origin := next((origin for pattern, origin in blocked if pattern.search(str(source))), None):
        image.tell("name", f"is left out, because {origin} blocks it")
        return
    if not draft.options.to:
        raise UsageError(f"{image.file}: oc-mirror has the destination on its command line; add --to HOST/PATH")
    place = f"{draft.options.to}/{(repository or source.path).strip('/')}"
    target = draft.reference(place, image.origin(), image.path("targetrepo"))
    if target:
        draft.copy(ImageCopy(image.origin(), image.key, source, target, single(source, tag or None), own))


def _helm(helm: Section, draft: Draft) -> None:
    for repository in helm.sections("repositories"):
        name, url = repository.text("name"), repository.text("url")
        charts: dict[str, str] = {}
        for chart in repository.sections("charts"):
            called, version = chart.text("name"), chart.text("version")
            if valid_repository(called.lower()):
                charts[called] = version
            else:
                chart.refuse("name", "is not the name of a chart")
            chart.lose("imagepaths", "mirrord does not look for the images of a chart; list them as images")
            chart.end()
        keys: dict[str, object] = {"kind": "helm", "from": url}
        if charts:
            keys["charts"] = list(charts)
        if exact := {chart: f"={version.removeprefix('v')}" for chart, version in charts.items() if version}:
            keys["versions"] = exact
        if redact(url) != url:
            repository.lose("url", "has a login in it; write the URL without, and auth: for the host")
        elif repository.items("charts") and not charts:
            repository.lose("charts", "has no chart that can be named")
        elif url:
            repository.tell("", "the charts go to the store of mirrord, which serves them; their images are not copied")
            draft.others.append(OtherMirror(repository.origin(), name or url, keys))
        else:
            repository.refuse("url", "is missing")
        repository.end()
    helm.lose("local", "mirrord reads charts from repositories; put them into one")
    helm.end()


def fits_mapping(text: str, file: str) -> bool:
    """Whether a text is a mapping.txt: `docker://source=docker://target`, in older ones without the schemes.

    Half of the lines suffices, as for lists, and the others are reported.
    """
    if not lists.fits(text, file):
        return False
    lines = [line for _, line in lists.lines_of(text, file)]
    return 2 * sum("=" in line.strip("=") for line in lines) >= len(lines)


def read_mapping(text: str, file: str, draft: Draft) -> None:
    """Add the images of a mapping.txt to the draft."""
    for number, line in lists.lines_of(text, file):
        origin = ConfigOrigin(file, number)
        written, _, there = line.rpartition("=")  # a digest has no `=`, a query of a URL might
        if not written:
            draft.report.lose(origin, "", "has no `=` between source and target; write SOURCE=TARGET")
            continue
        source, target = (
            draft.reference(text.strip().removeprefix(_SCHEME).removeprefix("file://"), origin, line)
            for text in (written, there)
        )
        if source is None or target is None:
            continue
        rule = single(source, target.tag)
        if source.digest and target.tag and source.digest.endswith(target.tag):
            rule = single(source, None)  # older ones make a tag of the digest
        draft.copy(ImageCopy(origin, line, source, target, rule))
