"""A certificate authority for registries of a benchmark, at an address of this machine that is not loopback."""

from __future__ import annotations

import socket
from pathlib import Path

import trustme


class Certificates:
    """Certificates of one address.

    Attributes:
        address: of this machine.
        ca: PEM file that clients must be told to believe.
        server: PEM files with the certificates and the key of the server.
    """

    def __init__(self, folder: Path, address: str) -> None:
        """Make a new authority, and write its files into `folder`."""
        authority = trustme.CA()
        issued = authority.issue_cert(address)
        self.address, self.ca = address, folder / "ca.pem"
        self.server = (folder / "server.pem", folder / "server.key")
        authority.cert_pem.write_to_path(str(self.ca))
        self.server[0].write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(self.server[1]))


def own_address() -> str:
    """Return the address that this machine would use to the outside, "" without one; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: nobody's
        except OSError:
            return ""
        found = str(probe.getsockname()[0])
        return "" if found.startswith("127.") else found
