"""A real PostgreSQL on a port of 127.0.0.1 and a socket, with databases for tests."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import psycopg

from mirrord.errors import UnreachableError
from mirrord.testing.ports import free_port
from mirrord.wire.database import DatabaseAddress, Server
from mirrord.wire.secret import Secret
from tests.support.processes import children_of

PASSWORD = "correct-horse-battery"
_USER = "postgres"
_RULES = "local all,replication all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
_SETTINGS = {
    "fsync": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "wal_level": "minimal",
    "max_wal_senders": 0,
}


def bin_folder() -> Path | None:
    """Return where the programs of the newest PostgreSQL of this machine are."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    program = shutil.which("postgres")
    return Path(program).resolve().parent if program else None


class Postgres:
    """A server with the role `mirrord`, which may use the socket without a password; a context manager."""

    def __init__(self, settings: Mapping[str, object] | None = None, *, standby_of: Postgres | None = None) -> None:
        self._settings = {**_SETTINGS, **(settings or {})}
        self._primary = standby_of
        self._exit = contextlib.ExitStack()
        self.folder = Path()
        self.port = 0

    def __enter__(self) -> Self:
        """Make a cluster and start it; UnreachableError without the programs."""
        found = bin_folder()
        if found is None:
            raise UnreachableError("postgres is not installed; install the Debian package postgresql")
        self._bin = found
        self.folder = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="postgres-")))
        if os.geteuid() == 0:  # it refuses to be root
            shutil.chown(self.folder, _USER, _USER)
        try:
            if self._primary is None:
                self._make()
            else:
                where = ("-h", str(self._primary.folder), "-p", str(self._primary.port), "-U", _USER)
                self._run("pg_basebackup", *where, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")
                self.start()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it and remove all of it."""
        if (self.data / "postmaster.pid").exists():
            self.stop()
        self._exit.close()

    def _make(self) -> None:
        self._run("initdb", "--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", f"--username={_USER}")
        (self.data / "pg_hba.conf").write_text(_RULES)
        self.start()
        self.sql(f"CREATE ROLE mirrord LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE mirrord OWNER mirrord")

    @property
    def data(self) -> Path:
        """The folder of the cluster."""
        return self.folder / "data"

    @property
    def socket(self) -> DatabaseAddress:
        """The database `mirrord` by the socket, without a password."""
        return DatabaseAddress((Server(str(self.folder), self.port),), "mirrord", "mirrord")

    @property
    def address(self) -> DatabaseAddress:
        """The database `mirrord` by TCP, with a password."""
        return DatabaseAddress((Server("127.0.0.1", self.port),), "mirrord", "mirrord", Secret(PASSWORD))

    def start(self) -> None:
        """Start it, on the same port as before."""
        self.port = self.port or free_port()
        settings = {
            **self._settings,
            "port": self.port,
            "unix_socket_directories": self.folder,
            "listen_addresses": "127.0.0.1",
        }
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        self._control("start", "-l", str(self.folder / "log"), "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        """Stop it."""
        self._control("stop", "-m", mode)

    def restart(self) -> None:
        """End it as a crash does, and start it."""
        self._control("restart", "-m", "immediate", "-l", str(self.folder / "log"))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop all its processes for a while, as those of a machine that hangs."""
        first = int((self.data / "postmaster.pid").read_text().split()[0])
        os.kill(first, signal.SIGSTOP)  # it starts no more
        pids = [*children_of(first), first]
        try:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def promote(self) -> None:
        """Let a standby take changes."""
        self._control("promote")

    def sql(self, *statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Execute statements as the superuser; return the rows of the last one."""
        with self._connected(database) as link:
            for statement in statements:
                cursor = link.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _connected(self, database: str) -> psycopg.Connection[tuple[Any, ...]]:
        where: dict[str, Any] = {"host": str(self.folder), "port": self.port}
        return psycopg.connect(**where, user=_USER, dbname=database, autocommit=True)

    @contextlib.contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Let nobody use a table for a while."""
        with self._connected("mirrord") as link, link.transaction():
            link.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield

    @contextlib.contextmanager
    def speaking_tls(self, certificate: Path, key: Path) -> Iterator[None]:
        """Let it show a certificate for a while."""
        for name, file in (("ssl_cert_file", certificate), ("ssl_key_file", key)):
            copied = self.folder / name
            copied.write_bytes(file.read_bytes())
            copied.chmod(0o600)
            if os.geteuid() == 0:
                shutil.chown(copied, _USER, _USER)
            self.sql(f"ALTER SYSTEM SET {name} = '{copied}'")
        self.sql("ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")
        try:
            yield
        finally:
            self.sql("ALTER SYSTEM RESET ALL", "SELECT pg_reload_conf()")

    def empty(self, database: str = "mirrord") -> None:
        """Delete all rows, but for those that say how the tables were made."""
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        names = [name for (name,) in self.sql(tables, database=database) if name not in ("alembic_version", "schema")]
        if names:
            self.sql(f"TRUNCATE {', '.join(names)} RESTART IDENTITY", database=database)

    @contextlib.contextmanager
    def database(self, name: str, how: str = "") -> Iterator[DatabaseAddress]:
        """Make an empty database for a while."""
        self.sql(f"CREATE DATABASE {name} OWNER mirrord {how}")
        try:
            yield replace(self.socket, name=name)
        finally:
            self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def _control(self, *words: str) -> None:
        self._run("pg_ctl", "-w", "-s", *words)

    def _run(self, program: str, *words: str) -> None:
        root = os.geteuid() == 0
        who: dict[str, Any] = {"user": _USER, "group": pwd.getpwnam(_USER).pw_gid, "extra_groups": []} if root else {}
        with (self.folder / "errors").open(
            "ab"
        ) as errors:  # the server keeps what it was given: a pipe would never end
            done = subprocess.run(
                [self._bin / program, "-D", self.data, *words],
                check=False,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                timeout=60,
                **who,
            )
        if done.returncode:
            said = [(self.folder / name).read_text() for name in ("errors", "log") if (self.folder / name).exists()]
            raise RuntimeError(f"{program} {words[0]}: {''.join(said)[-2000:]}")
