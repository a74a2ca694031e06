"""What the API of a registry offers besides the distribution-spec; one small module for each vendor."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from mirrord.errors import MissingError, RefusedError, UnsupportedError, UsageError
from mirrord.patterns import alternatives, as_expression
from mirrord.wire.http.client import Http, base_url
from mirrord.wire.oci.paging import ListPage

if TYPE_CHECKING:
    from mirrord.model.digest import Digest
    from mirrord.wire.api import ApiAnswer
    from mirrord.wire.host import HostBook
    from mirrord.wire.secret import Credential

# The folder that a regular expression begins with: plain text, and a `/` that is not optional.
_FOLDER = re.compile(r"\^?((?:[a-z0-9_/-]|\\[.-])+)/(?![*+?{])")
Dated = tuple[str, datetime | None]
"""A tag, and when it was pushed."""


@dataclass(frozen=True, slots=True)
class VendorApi:
    """The API of one registry.

    Attributes:
        http: the way to it.
        domain: the registry, as in `Reference`.
        base: scheme and authority of the API, without a slash at the end.
        host: key into the `HostBook` of the API: whose rules apply.
        authorization: value of the header; None asks without a credential.
        attempts: tries of a request in all, or None for the usual number.
    """

    http: Http
    domain: str
    base: str
    host: str
    authorization: str | None = field(default=None, repr=False)
    attempts: int | None = None

    async def get(self, path: str) -> ApiAnswer:
        """Read what is at a path, which begins with a slash. Raises as `mirrord.wire.api.read`."""
        from mirrord.wire.api import read  # noqa: PLC0415 - httpx takes 0.1 s to load, and most runs ask no API

        return await read(
            self.http,
            self.base + path,
            host=self.host,
            authorization=self.authorization,
            attempts=self.attempts,
        )


class Vendor(ABC):
    """One kind of registry. Stateless.

    Attributes:
        name: that of its profile, the word in `profile:` under `hosts:`.
        title: for people.
        scoped: whether it lists the repositories of one namespace only, never all.
        dated: whether it lists dates of tags.
        deletes: what its API needs to delete a tag, for an error; "" where the registry's protocol deletes.
        hint: what to do when a list is refused.
    """

    name = ""
    title = ""
    scoped = False
    dated = True
    deletes = ""
    hint = ""

    async def open(self, http: Http, domain: str, repository: str = "", *, login: bool = True) -> VendorApi:
        """Return the API of a registry, with the credential for a repository unless `login` is False.

        Raises:
            MirrordError: a login failed.
        """
        credential = await http.book.credential(domain, repository) if login else None
        return VendorApi(http, domain, self.base(http.book, domain), domain, self.authorization(credential))

    def base(self, book: HostBook, domain: str) -> str:
        """Return scheme and authority of the API; by itself, those of the registry."""
        return base_url(book, domain)

    def authorization(self, credential: Credential | None) -> str | None:
        """Return the header's value for a credential, None where the API takes no such credential."""
        return credential.basic if credential and not credential.identity else None

    def space(self, folder: str) -> str:
        """Return what is listed as a whole for repositories below a folder; by itself, its first segment."""
        return folder.partition("/")[0]

    @abstractmethod
    async def names(self, api: VendorApi, space: str, cursor: str) -> ListPage[str]:
        """Read one page of the repositories of a namespace; "" stands for all."""

    async def times(self, api: VendorApi, path: str, cursor: str) -> ListPage[Dated]:
        """Read one page of the dates of a repository's tags, those that were pushed last first.

        Raises:
            UnsupportedError: it lists none.
        """
        raise UnsupportedError(f"{api.domain}: {self.title} lists no dates of tags, such as those of {path} ({cursor})")

    async def delete_tag(self, api: VendorApi, path: str, tag: str, digest: Digest) -> None:
        """Delete a tag, and nothing else, by the method DELETE; see `place_of_tag`.

        Raises:
            MissingError: it is not there.
            RefusedError: the API does not delete it.
            TransportError: it cannot be reached, fails or limits the rate.
        """
        from mirrord.wire.api import delete  # noqa: PLC0415 - as in `VendorApi.get`

        url = api.base + self.place_of_tag(path, tag, digest)
        try:
            await delete(api.http, url, host=api.host, authorization=api.authorization)
        except MissingError:
            raise
        except RefusedError as error:
            raise type(error)(f"{error}; {self.deletes}", error.status) from error

    def place_of_tag(self, path: str, tag: str, digest: Digest) -> str:
        """Return the path of a tag at its API, which begins with a slash.

        Raises:
            UnsupportedError: it deletes none.
        """
        raise UnsupportedError(f"{self.title} has no API to delete {path}:{tag} ({digest})")

    @contextmanager
    def advised(self) -> Iterator[None]:
        """Add the next step to a refusal."""
        try:
            yield
        except RefusedError as error:
            raise type(error)(f"{error}; {self.hint}", error.status) from error


def folders(patterns: Collection[str]) -> Collection[str]:
    """Return the folders that patterns of repositories begin with, each once; "" for what begins with a glob."""
    return dict.fromkeys(folder for pattern in patterns for folder in _folders(pattern))


def _folders(pattern: str) -> Iterator[str]:
    """Yield the folder of a glob, or that of each alternative of a `/regular expression/`."""
    expression = as_expression(pattern)
    if expression is None:
        end = min((pattern.find(mark) for mark in "*?[" if mark in pattern), default=len(pattern))
        yield pattern[:end].rpartition("/")[0]
        return
    for part in alternatives(expression):
        found = _FOLDER.match(part)
        yield found[1].replace("\\", "") if found else ""


def check_listable(vendor: Vendor | None, patterns: Collection[str]) -> None:
    """Check that a vendor can list what patterns want.

    Raises:
        UsageError: a pattern begins in the namespace, and the vendor lists one namespace at a time.
    """
    for pattern in patterns:
        if vendor and vendor.scoped and "" in folders((pattern,)):
            where = f"in front of the glob, such as team/{pattern.rpartition('/')[2] or '*'}"
            if as_expression(pattern) is not None:
                where = "in front of each alternative, such as /team/app-.*/"
            raise UsageError(f"{pattern}: {vendor.title} lists one namespace at a time; write it {where}")
