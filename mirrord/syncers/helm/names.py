"""What one chart version is called: in an index, on a target, in a file name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, cast

from mirrord.errors import ConfigError, MirrordError
from mirrord.model.digest import Digest
from mirrord.plan.naming import target_text
from mirrord.syncer.values import LOCAL, Mirror, Target
from mirrord.wire.oci.reference import Reference, valid_repository, valid_tag
from mirrord.wire.origin import check_url

if TYPE_CHECKING:
    from mirrord.syncers.helm.spec import HelmSpec, HelmTarget

INDEX = "index.yaml"
CHARTS = "charts"
PROVENANCE = ".prov"
OCI = "oci://"
EARLIER = "earlier"  # below a repository in `local`: archives that its index does not list any more
LONGEST_NAME = 250  # bytes
LARGEST_INDEX = 64 << 20  # bytes, unpacked; bitnami's, the largest known, had 28 MiB
LONGEST_ARCHIVE = 100 << 20  # bytes: what helm's loader lets it unpack to
LONGEST_PROVENANCE = 1 << 20  # bytes; the text holds one Chart.yaml

_SOURCES = "https://host/path or oci://host/path"
_TARGETS = f"{_SOURCES}, or the absolute path of a folder"

CONFIG_TYPE = "application/vnd.cncf.helm.config.v1+json"
CHART_TYPES = ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", "application/tar+gzip")
"""Media types of archives in a registry; the second one is that of helm 3.6 and earlier."""
PROVENANCE_TYPE = "application/vnd.cncf.helm.chart.provenance.v1.prov"

_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]+))?(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
_NAME = re.compile(r"\w[\w. -]*")


def valid_name(name: str) -> bool:
    """Whether `name` may name a chart: letters and digits of any script, `.`, `_`, `-`, spaces, and never a path.

    A chart's name becomes a file name and a part of a URL, and comes from upstream (CVE-2026-35206). helm takes
    nearly everything else too; no repository is known to use it.
    """
    return _NAME.fullmatch(name) is not None and not name.endswith(" ") and len(name.encode()) <= LONGEST_NAME


def oci_tag(version: str) -> str:
    """Return the tag that `helm push` gives a version: `+` is not allowed in tags and becomes `_`."""
    return version.replace("+", "_")


def instant(created: str) -> tuple[datetime, str] | None:
    """Read RFC 3339 as strictly as helm does (RFC 3339 §5.6): the second in UTC and the digits of its fraction.

    Both together sort by time, to the nanosecond. None: that is no such time, and helm rejects an index for it.
    """
    found = _RFC_3339.fullmatch(created)
    if found is None:
        return None
    clock, fraction, sign, hours, minutes = found.groups()
    try:
        second = datetime.fromisoformat(clock).replace(tzinfo=UTC)
        if sign:
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            second = second.replace(tzinfo=timezone(offset if sign == "+" else -offset)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return second, (fraction or "").rstrip("0")


@dataclass(frozen=True, slots=True)
class ChartVersion:
    """One entry of an index, validated."""

    name: str  # of the chart; a safe file name
    version: str  # exactly as written, `v` and all: it is the identity, and semver only its order (charts-syncer#284)
    digest: Digest | None  # of the archive, or None when the index has none
    urls: tuple[str, ...]  # where the archive can be had, exactly as written; helm uses the first
    created: str | None  # RFC 3339 exactly as written, or None
    deprecated: bool  # whether the chart is
    # every key that helm allows, as plain data: texts, flags, numbers nowhere, lists and mappings
    entry: Mapping[str, object] = field(hash=False, repr=False)
    # the charts under which an index lists it when that is not its name alone: what helm looks it up by
    keys: tuple[str, ...] = ()
    elsewhere: bool = False  # whether others listed it in an index of ours, with an archive at a place of theirs

    @property
    def reference(self) -> str:
        """Its name in the ledger, which gives chart and version; an item does not always."""
        return f"{self.name}:{self.version}"

    @property
    def listed(self) -> tuple[str, ...]:
        """The charts under which it is listed."""
        return self.keys or (self.name,)

    @property
    def file(self) -> str:
        """The archive's file name, as `helm package` makes it: `.prov` files name the archive by it."""
        return f"{self.name}-{self.version}.tgz"

    @property
    def path(self) -> str:
        """The archive's name in a repository of ours."""
        return f"{CHARTS}/{self.file}"

    @property
    def tag(self) -> str:
        """Its tag in a registry."""
        return oci_tag(self.version)

    @property
    def item(self) -> str:
        """What plans, reports and the record call it."""
        return f"{self.name}-{self.version}"


def below(path: str, chart: str) -> str:
    """Return the repository of a chart below a path of a registry, which may be empty."""
    return f"{path}/{chart}" if path else chart


def registry_paths(mirror: Mirror) -> Mapping[str, str]:
    """Return the paths of those targets that are registries, by name."""
    places = {target.name: place_of(mirror, target) for target in mirror.targets}
    return {name: Reference.parse(place[len(OCI) :]).path for name, place in places.items() if is_oci(place)}


def registry_lacks(path: str, chart: ChartVersion) -> str:
    """Say what a registry cannot have of a chart below a path: its `repository`, the `tag` of its version, or ""."""
    if not valid_repository(below(path, chart.name)):
        return "repository"
    return "" if valid_tag(chart.tag) else "tag"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in an index that helm would not have taken."""

    where: str  # the chart and version, or the place in the file when these are what is wrong
    what: str  # one clause: what is wrong
    left_out: bool  # whether the entry was left out; otherwise it was put right
    chart: str = ""  # the name of the chart, or "" when that is not known
    version: str = ""  # its version, or "" when all of the chart is meant
    code: str = ""  # of the error when it could not be read

    def __str__(self) -> str:
        """Return one sentence for people."""
        return f"{self.where}: {self.what}; {'left out' if self.left_out else 'put right'}"

    @property
    def items(self) -> tuple[str, ...]:
        """Return the items that may be meant by chart and version; none when all of the chart is."""
        version = self.version.removeprefix("v")
        return (f"{self.chart}-{version}", f"{self.chart}-v{version}") if version else ()


def repository_of(mirror: Mirror) -> str:
    """Return the repository of the `local` store that holds a mirror's charts; no image can be called so."""
    return f"_helm/{mirror.name}"


def item_of(path: str) -> str:
    """Return the item of an archive or its provenance in a repository of ours."""
    return path.removeprefix(f"{CHARTS}/").removesuffix(PROVENANCE).removesuffix(".tgz")


def address(mirror: Mirror, url: str) -> str:
    """Return the URL of the repository that `local` serves, for `helm repo add`."""
    return f"{url}/helm/{mirror.name}"


def source_of(mirror: Mirror) -> str:
    """Return the URL of the repository that a mirror reads, without a slash at its end.

    Raises:
        ConfigError: that is no URL of a chart repository.
    """
    return _url(spec_of(mirror).source.strip(), f"{mirror.origin}: mirrors.{mirror.name}.from", _SOURCES)


def spec_of(mirror: Mirror) -> HelmSpec:
    """Return the mirror's own part with its type."""
    return cast("HelmSpec", mirror.spec)


def api_of(mirror: Mirror, target: Target) -> str:
    """Return what is spoken at a target: `local`, `directory`, `oci`, `coding` or `chartmuseum`.

    Raises:
        ConfigError: it cannot be known.
    """
    if target.name == LOCAL:
        return LOCAL
    place = place_of(mirror, target)
    api = cast("HelmTarget", target.options).api
    where = f"{target.origin}: targets.{target.name}"
    if api != "chartmuseum" and cast("HelmTarget", target.options).context_path is not None:
        raise ConfigError(f"{where}.context_path: needs `api: chartmuseum`; remove it")
    if is_oci(place) or place.startswith("/"):
        implied = "oci" if is_oci(place) else "directory"
        if api not in (None, implied):
            raise ConfigError(f"{where}.api: {place} does not fit {api!r}; remove `api`")
        return implied
    if api not in ("coding", "chartmuseum"):
        raise ConfigError(f"{where}.api: is missing for {place}; write `coding` or `chartmuseum`")
    return api


def place_of(mirror: Mirror, target: Target) -> str:
    """Return where a target is: a URL, `oci://…`, or an absolute path.

    Raises:
        ConfigError: it is none of these.
    """
    if target.name == LOCAL:
        return f"{LOCAL}/{mirror.name}"
    text = target_text(mirror, target, mirror.name).rstrip("/")
    if text.startswith("/"):
        return text
    return _url(text, f"{target.origin}: targets.{target.name}.to", _TARGETS)


def places(mirror: Mirror) -> tuple[str, Mapping[str, str]]:
    """Return origin and targets in canonical spelling.

    Raises:
        ConfigError: one of them cannot be read, or a target's `api` does not fit.
    """
    for target in mirror.targets:
        api_of(mirror, target)
    return source_of(mirror), {target.name: place_of(mirror, target) for target in mirror.targets}


def hosts(mirror: Mirror) -> frozenset[str]:
    """Return the servers and registries that a mirror names."""
    named = [place_of(mirror, target) for target in mirror.targets if target.name != LOCAL]
    urls = (url for url in (source_of(mirror), *named) if "://" in url)
    return frozenset(
        Reference.parse(url[len(OCI) :]).domain if is_oci(url) else check_url(url).authority for url in urls
    )


def is_oci(url: str) -> bool:
    """Whether a URL leads to an OCI registry."""
    return url[: len(OCI)].lower() == OCI


def _url(text: str, where: str, wanted: str) -> str:
    text = text.rstrip("/")
    if "://" not in text:
        raise ConfigError(f"{where}: {text[:80]!r} is not a URL; write {wanted}")
    try:
        if not is_oci(text):
            check_url(text)
            return text
        reference = Reference.parse(text[len(OCI) :])
    except MirrordError as error:
        raise ConfigError(f"{where}: {error}") from error
    if reference.tag or reference.digest:
        raise ConfigError(f"{where}: {text} has a tag; write the repository only")
    return text
