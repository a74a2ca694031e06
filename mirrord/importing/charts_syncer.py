"""charts-syncer: charts of one repository that are copied to another."""

from __future__ import annotations

from mirrord.config.foreign import Node
from mirrord.importing.draft import Draft
from mirrord.importing.hosts import host_name
from mirrord.importing.section import Section
from mirrord.importing.values import OtherMirror
from mirrord.wire.secret import redact

_IMAGES = "mirrord does not look for the images of charts; list them as images"


def fits(node: Node) -> bool:
    """Whether a document is of this format."""
    return all(side in node.mapping and "repo" in node.mapping[side].mapping for side in ("source", "target"))


def read(root: Section, draft: Draft) -> None:
    """Add what a document has to the draft."""
    addresses = [_side(root.section(side), draft) for side in ("source", "target")]
    charts, skipped = root.texts("charts"), root.texts("skipCharts")
    root.lose("containerPlatforms", _IMAGES)
    root.ignore("skipArtifacts")
    root.end()
    if not all(addresses):
        return
    source, target = addresses
    keys: dict[str, object] = {"kind": "helm", "from": source}
    if charts:
        keys["charts"] = list(charts)
    if skipped:
        keys["exclude"] = list(skipped)
    root.tell(
        "source", "charts-syncer rewrites the values of charts; mirrord keeps each archive as it is, byte by byte"
    )
    where = {f"{target}-charts": {"kind": "helm", "to": target}}
    draft.others.append(OtherMirror(root.origin("source"), source.partition("://")[2], keys, where))


def _side(section: Section, draft: Draft) -> str:
    """Return the URL of a repository, "" when it cannot be used."""
    section.lose("containers", _IMAGES)
    repo = section.section("repo")
    kind, url, path = repo.text("kind").upper(), repo.text("url").rstrip("/"), repo.text("path").strip("/")
    repo.ignore("disableChartsIndex", "chartsIndex")
    auth = repo.section("auth")
    user, _ = auth.text("username"), auth.text("password")
    auth.end()
    repo.end()
    section.end()
    if kind == "LOCAL" or redact(url) != url or not url.startswith(("https://", "http://", "oci://")):
        repo.refuse("url", "is not the URL of a repository without a login; write from and to by hand")
        return ""
    if user:
        host = host_name(url.split("/")[2], repo, "url")
        if not host:
            return ""
        draft.login(host, auth.origin("username"), user, {"env": f"{section.key.upper()}_REPO_AUTH_PASSWORD"})
    if kind == "OCI":
        url = f"oci://{url.partition('://')[2]}"
    return f"{url}/{path}" if path else url
