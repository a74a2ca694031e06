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


def test_no_authorities_are_loaded_by_an_import() -> None:
    """Aiohttp's two contexts stay empty, trusting nobody; everything is put back afterwards."""
    out = run("""
        import ssl
        loaded = []
        original = ssl.create_default_context
        before = ssl.SSLContext.set_default_verify_paths
        import mirrord.wire.http.client
        from aiohttp import connector
        assert ssl.create_default_context is original
        assert ssl.SSLContext.set_default_verify_paths is before
        verified = connector._SSL_CONTEXT_VERIFIED
        print(verified.verify_mode == ssl.CERT_REQUIRED, verified.cert_store_stats()["x509"])
    """)
    assert out == "True 0"


def test_deciding_modules_import_no_network() -> None:
    """trust, auth, grant, challenge, message and pace decide; they need no client and no event loop."""
    out = run("""
        import sys
        import mirrord.wire.http.auth, mirrord.wire.host, mirrord.wire.http.message, mirrord.wire.http.pace
        print([name for name in ("asyncio", "ssl", "aiohttp") if name in sys.modules])
    """)
    assert out == "[]"
