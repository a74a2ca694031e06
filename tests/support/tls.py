"""A certificate authority for one test."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import trustme


class Authority:
    """Signs certificates for servers and clients on loopback.

    Attributes:
        ca: PEM file that clients must be told to believe.
    """

    def __init__(self, folder: Path) -> None:
        """Make a new authority and write its certificate into `folder`."""
        self._authority = trustme.CA()
        self._folder = folder
        self.ca = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca))

    def server(self, *names: str, demand_client: bool = False) -> ssl.SSLContext:
        """Return what a server needs to be `names` (default: 127.0.0.1 and localhost).

        Args:
            names: addresses and host names in its certificate.
            demand_client: accept only clients with a certificate of this authority.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._authority.issue_cert(*(names or ("127.0.0.1", "localhost"))).configure_cert(context)
        if demand_client:
            self._authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def pair(self, name: str, **more: Any) -> tuple[Path, Path]:
        """Write a certificate for `name` and its key, for servers that read files; `more` as trustme takes it."""
        issued = self._authority.issue_cert(name, **more)
        files = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        issued.cert_chain_pems[0].write_to_path(str(files[0]))
        issued.private_key_pem.write_to_path(str(files[1]))
        return files

    def client(self, name: str = "client@example.test") -> Path:
        """Write a client certificate and its key into one PEM file and return it."""
        issued = self._authority.issue_cert(name)
        file = self._folder / "client.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(str(file))
        return file
