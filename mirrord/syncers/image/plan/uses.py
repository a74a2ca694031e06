"""How clients use the images of a target: commands, and its page in a browser. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mirrord.plan.naming import page_text
from mirrord.syncer.values import LOCAL, Mirror, Target, Usage
from mirrord.syncers.image.names import image_name, is_many, places, spec_of, target_place
from mirrord.syncers.image.plan.called import called
from mirrord.wire.host import HostBook
from mirrord.wire.oci.reference import Reference, valid_tag
from mirrord.wire.trust import scheme_of
from mirrord.wire.vendors.website import repository_page

if TYPE_CHECKING:
    from mirrord.syncers.image.names import Source


def uses(mirror: Mirror, target: Target, url: str, book: HostBook, item: str) -> Sequence[Usage]:
    """Return how to pull an item; of the mirror its first literal tag, and what lists all tags. See `Syncer.uses`."""
    scheme, _, host = url.partition("://")

    def at(place: str) -> str:
        return f"{host}{place.removeprefix(LOCAL)}" if target.name == LOCAL else place

    def insecure(name: str) -> Sequence[str]:
        """Return what makes podman and skopeo speak plain HTTP: to `local` if its URL does, else as `hosts:` says."""
        here = scheme if target.name == LOCAL else scheme_of(book.policy(name.partition("/")[0]))
        return ["--tls-verify=false"] if here == "http" else []

    def pulls(name: str) -> Sequence[Usage]:
        if _is_layout(target):
            return () if "@" in name else (Usage.of("podman", "pull", f"oci:{name}"),)
        return Usage.of("docker", "pull", name), Usage.of("podman", "pull", *insecure(name), name)

    if item:
        place = called(mirror)(item)[1].get(target.name)
        return pulls(at(place)) if place else ()
    if is_many(mirror):
        return ()
    place = at(places(mirror)[1][target.name])
    tag = _first_tag(spec_of(mirror).source)
    first = pulls(f"{place}:{tag}") if tag else ()
    if _is_layout(target):
        return first
    return (*first, Usage.of("skopeo", "list-tags", *insecure(place), f"docker://{place}"))


def link(mirror: Mirror, target: Target) -> str:
    """Return the page of the repository; see `Syncer.link`."""
    if target.page:
        return page_text(mirror, target, None if is_many(mirror) else image_name(mirror, target))
    place = None if is_many(mirror) else target_place(mirror, target)
    return repository_page(place) if isinstance(place, Reference) else ""


def _is_layout(target: Target) -> bool:
    return target.to.strip().startswith("oci:")


def _first_tag(source: Source) -> str:
    """Return a tag that the mirror surely has, or ""."""
    if source.names:
        return source.names[0]
    if source.choice or source.tags:
        return next((tag for tag in (source.choice.match if source.choice else source.tags) if valid_tag(tag)), "")
    if source.repository is None:
        return source.tag or ""
    last = source.repository.rpartition("/")[2].partition("@")[0]
    return last.partition(":")[2] or ("" if "@" in source.repository else "latest")
