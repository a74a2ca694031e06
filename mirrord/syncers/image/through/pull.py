"""One request for something that may be pulled through, and what operators are told of it."""

from __future__ import annotations

from dataclasses import dataclass

from mirrord.errors import MirrordError
from mirrord.events import FrontFailed, FrontRefused
from mirrord.syncer.serving import Request
from mirrord.syncer.values import Services
from mirrord.syncers.image.front.path import RegistryPath
from mirrord.syncers.image.through.asked import AskedName
from mirrord.syncers.image.through.clients import ClientKey, client_of
from mirrord.syncers.image.through.failures import upstream_failed
from mirrord.syncers.image.through.rules import PullRules
from mirrord.wire.oci.reference import Reference


@dataclass(frozen=True, slots=True)
class FrontPull:
    """What a request asks for, and what holds for it.

    Attributes:
        request: of the client.
        services: in use.
        rules: in use.
        path: what the client wrote; links to further pages have it.
        reference: the repository at its upstream.
        called: what messages to the client call it.
    """

    request: Request
    services: Services
    rules: PullRules
    path: RegistryPath
    reference: Reference
    called: AskedName

    @property
    def whole(self) -> bool:
        """Whether the client wants the content, too."""
        return self.request.method != "HEAD"

    @property
    def client(self) -> ClientKey:
        """Whose limits count."""
        return client_of(self.request.client, self.request.token)

    def report_refused(self, reason: str) -> None:
        """Report to the operator that the client was refused."""
        self.services.events.emit(FrontRefused(reason, self.client.name, self.reference.name, self.path.ref))

    def report_failed(self, error: MirrordError) -> None:
        """Report to the operator what upstream did, unless that is an answer as any other."""
        if not upstream_failed(error):
            return
        path, name = self.path, self.reference.name
        asked = f"{'@' if path.digest else ':'}{path.ref}" if path.verb in ("manifests", "blobs") else f" {path.verb}"
        failure = FrontFailed(self.reference.domain, f"{name}{asked}", self.called.name, error.code, str(error))
        self.services.events.emit(failure)
