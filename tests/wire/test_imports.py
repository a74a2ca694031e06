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
