"""What an import costs, counted in modules and calls rather than in time."""

import subprocess
import sys
import textwrap


def run(code: str) -> str:
    """Run `code` in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


def test_deciding_modules_import_no_network() -> None:
    """auth, host, message and pace decide; they need no client (asyncio comes with the lock of the host book)."""
    out = run("""
        import sys
        import mirrord.wire.http.auth, mirrord.wire.host, mirrord.wire.http.message, mirrord.wire.http.pace
        print([name for name in ("aiohttp", "httpx", "mirrord.wire.http.transport") if name in sys.modules])
    """)
    assert out == "[]"


def test_the_client_is_imported_without_authorities() -> None:
    """Aiohttp's own contexts read no certificates; ours have those of the system, and the environment is as it was."""
    out = run("""
        import os, ssl
        before = dict(os.environ)
        import mirrord.wire.http.transport
        from aiohttp import connector
        from mirrord.wire.http.transport import Tls
        empty = [connector._SSL_CONTEXT_VERIFIED, connector._SSL_CONTEXT_UNVERIFIED]
        print([context.cert_store_stats()["x509_ca"] for context in empty], before == dict(os.environ))
        ours, default = Tls().context().cert_store_stats(), ssl.create_default_context().cert_store_stats()
        print(ours == default)
    """)
    assert out.splitlines() == ["[0, 0] True", "True"]
