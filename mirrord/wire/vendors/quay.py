"""Quay, at quay.io or a host of one's own (docs.redhat.com, Red Hat Quay API reference: repository, tag)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from mirrord.wire.oci.paging import ListPage
from mirrord.wire.vendors import port
from mirrord.wire.vendors.pages import FIRST, SIZE, counted, entries_of, texts, token_of

if TYPE_CHECKING:
    from mirrord.model.digest import Digest
    from mirrord.wire.secret import Credential

_OAUTH: Final = "$oauthtoken"
_MOST: Final = 2**33  # seconds since 1970: a date that is later is none


class Quay(port.Vendor):
    """Namespaces of repositories. Its API takes OAuth tokens, and neither robot accounts nor passwords."""

    name = "quay"
    title = "Quay"
    scoped = True
    deletes = (
        "its API wants `username: $oauthtoken` with an OAuth token that may write to the repository; a tag that is"
        " immutable there stays"
    )
    hint = (
        "for what is not public, its API wants `username: $oauthtoken` with an OAuth token that may view repositories"
    )

    def authorization(self, credential: Credential | None) -> str | None:
        """Return an OAuth token; without one only what is public is listed."""
        return credential.token("Bearer") if credential and credential.username == _OAUTH else None

    def place_of_tag(self, path: str, tag: str, digest: Digest) -> str:  # noqa: ARG002 - the port's signature
        """Return `/api/v1/repository/{repository}/tag/{tag}` (deleteFullTag)."""
        return f"/api/v1/repository/{quote(path)}/tag/{quote(tag, safe='')}"

    async def names(self, api: port.VendorApi, space: str, cursor: str) -> ListPage[str]:
        """Read `GET /api/v1/repository` (listRepos)."""
        what = f"{api.domain}: repositories of {space}"
        following = "" if cursor == FIRST else f"&next_page={quote(cursor, safe='')}"
        answer = await api.get(f"/api/v1/repository?namespace={quote(space, safe='')}&public=true{following}")
        entries = entries_of(answer.document, what, "repositories")
        found = [f"{space}/{name}" for name in texts(entries, "name")]
        return ListPage(found, entries, token_of(answer.document, "next_page", what))

    async def times(self, api: port.VendorApi, path: str, cursor: str) -> ListPage[port.Dated]:
        """Read `GET /api/v1/repository/{repository}/tag/` (listRepoTags)."""
        what = f"{api.domain}: tags of {path}"
        answer = await api.get(f"/api/v1/repository/{quote(path)}/tag/?onlyActiveTags=true&limit={SIZE}&page={cursor}")
        entries = entries_of(answer.document, what, "tags")
        more = isinstance(answer.document, Mapping) and answer.document.get("has_additional") is True
        found = [(name, _started(one)) for one in entries for name in texts([one], "name")]
        return ListPage(found, entries, counted(cursor, more=more))


def _started(entry: object) -> datetime | None:
    seconds = entry.get("start_ts") if isinstance(entry, Mapping) else None
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 0 < seconds < _MOST:
        return None
    return datetime.fromtimestamp(seconds, UTC)
