"""The proxies of docs/how-to/pull-from-another-machine.md, as they are typed there, before a server of a test."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

from mirrord.testing import require
from mirrord.testing.ports import free_port
from mirrord.testing.running import Ran, run, started

PAGE: Final = Path(__file__).parents[2] / "docs" / "how-to" / "pull-from-another-machine.md"
_AROUND: Final = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {server}
}}
"""
_BEFORE: Final = "{{\n\tadmin off\n\tauto_https off\n}}\nhttps://{address} {{\n"
_INSIDE: Final = "\ttls {folder}/mirror.pem {folder}/mirror.key\n\tlog {{\n\t\toutput file {folder}/access.log\n\t}}\n"
_ASKED: Final = re.compile(r'"(?:GET|POST) (\S+) HTTP/[0-9.]+" 200|"uri":"([^"]+)".*"status":200')


def fences(language: str) -> list[str]:
    """Return the examples of the page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class FrontProxy:
    """A proxy with TLS that listens at `address`; clients trust its certificate by `environ`."""

    address: str
    folder: Path
    environ: Mapping[str, str]

    async def run(self, *command: str) -> Ran:
        """Run a client to its end; it has to succeed."""
        ran = await run(*command, env=self.environ)
        assert ran.status == 0, ran.output
        return ran

    def asked(self) -> set[str]:
        """Return the paths that the proxy was asked for with success."""
        return {one[1] or one[2] for one in _ASKED.finditer((self.folder / "access.log").read_text())}


@contextlib.asynccontextmanager
async def fronted(kind: str, server: str, folder: Path) -> AsyncIterator[FrontProxy]:
    """Run `nginx` or `caddy` before `server` (`host:port`), by the page's example, with files in `folder`."""
    require(kind, "curl")
    folder.mkdir()
    address, environ = f"127.0.0.1:{free_port()}", _certificates(folder)
    if kind == "nginx":
        (example,) = fences("nginx")
        typed = example.replace("listen 443 ssl", f"listen {address} ssl").replace("/etc/ssl", str(folder))
        text = _AROUND.format(folder=folder, server=typed)
        command: tuple[str | Path, ...] = ("nginx", "-c", folder / "conf", "-e", folder / "error.log")
    else:
        (example,) = fences("caddyfile")
        inside = _BEFORE.format(address=address) + _INSIDE.format(folder=folder)
        text = example.replace("mirror.example.com {\n", inside)
        command = ("caddy", "run", "--adapter", "caddyfile", "--config", folder / "conf")
    assert "127.0.0.1:8080" in text
    (folder / "conf").write_text(text.replace("127.0.0.1:8080", server))
    around = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "said").open("wb") as said:
        async with started(*command, env=around, stdout=said, stderr=said):
            proxy = FrontProxy(address, folder, environ)
            retried = ("--retry", "20", "--retry-delay", "1", "--retry-connrefused")
            await proxy.run("curl", "--silent", "--show-error", "--fail", *retried, f"https://{address}/v2/")
            yield proxy


def _certificates(folder: Path) -> Mapping[str, str]:
    """Write what a proxy needs, and return the environment of those who trust it."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    (folder / "mirror.pem").write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(folder / "mirror.key"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    return dict.fromkeys(("SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"), str(folder / "ca.pem"))
