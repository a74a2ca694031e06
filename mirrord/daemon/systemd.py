"""Tells systemd how we are (sd_notify(3)); silent where there is no systemd."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from mirrord.wire.number import whole
from mirrord.wire.secret import redact


class Notifier:
    """Sends state changes to the socket that `$NOTIFY_SOCKET` names."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        ours = not pid or pid == str(os.getpid())
        self.watchdog = ((whole(microseconds) or 0) / 1e6 or None) if ours else None
        """Seconds of silence after which systemd restarts us, or None."""

    def ready(self, status: str) -> None:
        """Starting, or reloading, is over."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Reloading begins; systemd wants to know when, to tell this one from an earlier one."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The end begins."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Say one line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        """Feed the watchdog. MUST be called from a tick of the event loop, and only when `health.live` is good."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        message = "\n".join(redact(line).replace("\n", " ") for line in lines)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
                connection.settimeout(0)
                connection.sendto(message.encode(), self._address)
        except OSError:
            return  # systemd went away or is slow; nothing of ours depends on it
