"""Harbor (github.com/goharbor/harbor, api/v2.0/swagger.yaml: repository, artifact)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from mirrord.wire.oci.created import moment
from mirrord.wire.oci.paging import ListPage
from mirrord.wire.vendors import port
from mirrord.wire.vendors.pages import SIZE, entries_of, linked, texts

if TYPE_CHECKING:
    from mirrord.model.digest import Digest


class Harbor(port.Vendor):
    """Projects of repositories; user name and password, or a robot account, as at the registry."""

    name = "harbor"
    title = "Harbor"
    deletes = (
        "let the account be a maintainer of the project, or the robot account delete tags (`tag: delete`); a tag that"
        " is immutable there stays"
    )
    hint = "check the project, and that the account may list its repositories"

    def place_of_tag(self, path: str, tag: str, digest: Digest) -> str:
        """Return `/projects/{project}/repositories/{repository}/artifacts/{reference}/tags/{tag_name}`."""
        return f"{_artifacts(path)}/{digest}/tags/{quote(tag, safe='')}"

    async def names(self, api: port.VendorApi, space: str, cursor: str) -> ListPage[str]:
        """Read `GET /projects/{project_name}/repositories`, or `GET /repositories` for all projects."""
        what = f"{api.domain}: repositories of {space or 'all projects'}"
        place = f"/projects/{quote(space, safe='')}/repositories" if space else "/repositories"
        answer = await api.get(f"/api/v2.0{place}?page_size={SIZE}&page={cursor}")
        entries = entries_of(answer.document, what)
        return ListPage(texts(entries, "name"), entries, linked(answer, entries, cursor, what))

    async def times(self, api: port.VendorApi, path: str, cursor: str) -> ListPage[port.Dated]:
        """Read `GET /projects/{project_name}/repositories/{repository_name}/artifacts`."""
        what = f"{api.domain}: artifacts of {path}"
        answer = await api.get(f"{_artifacts(path)}?with_tag=true&sort=-push_time&page_size={SIZE}&page={cursor}")
        entries = entries_of(answer.document, what)
        found = [dated for one in entries if isinstance(one, Mapping) for dated in _tags(one)]
        return ListPage(found, entries, linked(answer, entries, cursor, what))

    async def create_project(self, api: port.VendorApi, name: str, keys: Mapping[str, object]) -> None:
        """Create a project by `POST /projects`; one that is there already is left as it is.

        Args:
            api: with the credential of an account that may create projects.
            name: of the project.
            keys: further ones of `ProjectReq`.

        Raises:
            RefusedError: Harbor does not create it.
            TransportError: it cannot be reached, or fails.
        """
        from mirrord.wire.api import create  # noqa: PLC0415 - httpx takes 0.1 s to load

        request = {"project_name": name, **keys}
        url = f"{api.base}/api/v2.0/projects"
        await create(api.http, url, request, host=api.host, authorization=api.authorization)


def _artifacts(path: str) -> str:
    project, _, name = path.partition("/")
    encoded = quote(quote(name, safe=""), safe="")  # twice, as the document says
    return f"/api/v2.0/projects/{quote(project, safe='')}/repositories/{encoded}/artifacts"


def _tags(artifact: Mapping[str, object]) -> list[port.Dated]:
    """Return the tags of an artifact; a tag has the date of its own push, which an artifact that had it may lack."""
    tags = artifact.get("tags")
    listed = [one for one in tags if isinstance(one, Mapping)] if isinstance(tags, list) else []
    pushed = moment(artifact.get("push_time"))
    return [(name, moment(one.get("push_time")) or pushed) for one in listed for name in texts([one], "name")]
