"""The record in PostgreSQL: several replicas use one database, and nothing of its password is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from mirrord.config.secrets import SecretSource, read_secret
from mirrord.errors import StorageError
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Run
from mirrord.record import hanging, postgresql
from mirrord.record.connecting import connection_keys
from mirrord.record.fleet_database import open_shared
from mirrord.record.sql_store import SqlStore
from mirrord.record.store import open_store
from mirrord.wire.database import DatabaseAddress, Server
from mirrord.wire.secret import Secret
from tests.support.postgres import PASSWORD, Postgres
from tests.support.tls import Authority

T0 = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)


def run(number: int, mirror: str = "m", item: str = "") -> Run:
    step = Step(Action.COPY, item or f"v{number}", "sha256:1", "a", (), "")
    at = T0 + timedelta(seconds=number)
    plan = Plan(mirror, "image", at, (step,))
    return Run(mirror, "image", "schedule", at, at, plan, (Receipt(step, Outcome.DONE, sent=5),))


@asynccontextmanager
async def replicas(address: DatabaseAddress, count: int = 3) -> AsyncIterator[list[SqlStore]]:
    """Open stores at once, as replicas do."""
    async with AsyncExitStack() as stack:
        found = await asyncio.gather(*(open_store(address, T0) for _ in range(count)))
        for one in found:
            stack.push_async_callback(one.close)
        yield list(found)


async def test_replicas_that_start_at_once_make_the_tables_once(postgres: Postgres) -> None:
    """One of them migrates, the others wait for it, and all can write."""
    with postgres.database("fresh") as address:
        async with replicas(address) as stores:
            await asyncio.gather(*(store.check() for store in stores))
        assert postgres.sql("SELECT count(*) FROM alembic_version", database="fresh") == [(1,)]


async def test_a_migration_may_take_long(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """No limit of statements ends it, neither that of the server nor ours."""
    for module, name, value in (
        (hanging, "_LOOK", 0.02),
        (postgresql, "_HANGING", 0.1),
        (postgresql, "PATIENCE", 0.0),
        (postgresql, "_BOUNDS", {**postgresql._BOUNDS, "statement_timeout": 400}),
    ):
        monkeypatch.setattr(module, name, value)
    with postgres.database("slow") as address:
        postgres.sql(
            "CREATE FUNCTION wait() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF EXISTS (SELECT 1 FROM pg_event_trigger_ddl_commands() WHERE object_identity = 'public.runs')"
            " THEN PERFORM pg_sleep(0.5); END IF; END $$",
            "CREATE EVENT TRIGGER slow ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION wait()",
            database="slow",
        )
        async with replicas(address, 1) as (store,):
            await store.check()


async def test_replicas_that_write_at_once_lose_nothing(postgres: Postgres) -> None:
    """Runs of one mirror are added up, and publishes are numbered, whoever writes them at the same time."""
    postgres.empty()
    async with replicas(postgres.socket) as stores:
        pairs = [(store, 10 * place + number) for place, store in enumerate(stores) for number in range(10)]
        await asyncio.gather(*(store.add_run(run(number)) for store, number in pairs))
        numbers = await asyncio.gather(*(store.accept("m") for store, _ in pairs))
        assert sorted(numbers) == list(range(1, 31))
        for store in stores:
            (day,) = await store.days("m")
            assert (day.runs, day.done, day.sent) == (30, 30, 150)
            assert [(one.items, one.failures) for one in await store.standing("m")] == [(30, 0), (30, 0)]
            assert len(await store.runs("m", 100)) == 30
        bad = [(store, replace(run(40 + number), plan=None, receipts=(), error="no")) for store, number in pairs]
        await asyncio.gather(*(store.add_run(one) for store, one in bad))
        assert [one.failures for one in await stores[0].standing("m")] == [30, 0], "each failure counts"
        assert [day.runs for day in await stores[1].days("m")] == [60], "nothing is kept that another replica changes"


async def test_a_newer_schema_is_refused(postgres: Postgres) -> None:
    """A database of a newer mirrord is refused, and left alone."""
    with postgres.database("newer") as address:
        await (await open_store(address, T0)).close()
        postgres.sql("UPDATE alembic_version SET version_num = '9999'", database="newer")
        with pytest.raises(StorageError, match=r"written by a newer mirrord .*or give another database") as caught:
            await open_store(address, T0)
        assert caught.value.exit_code == 74
        assert postgres.sql("SELECT version_num FROM alembic_version", database="newer") == [("9999",)]


async def test_tables_of_another_program_are_left_alone(postgres: Postgres) -> None:
    """Tables that only have the same name are not changed, and one line says whose they may be."""
    with postgres.database("foreign_one") as address:
        postgres.sql("CREATE TABLE runs (id integer)", "ALTER TABLE runs OWNER TO mirrord", database="foreign_one")
        with pytest.raises(StorageError, match=r"another program made tables there, give another database$") as caught:
            await open_store(address, T0)
        assert [one for one in ("\n", "[SQL", "sqlalche.me") if one in str(caught.value)] == []
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        assert postgres.sql(tables, database="foreign_one") == [("runs",)]


async def test_an_encoding_that_cannot_hold_names_is_refused(postgres: Postgres) -> None:
    """What is wrong with the database is said at the start, with the way to make another one."""
    how, said = (
        "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
        r"SQL_ASCII.*WITH ENCODING 'UTF8'",
    )
    with postgres.database("bytes", how) as address, pytest.raises(StorageError, match=said):
        await open_store(address, T0)


async def test_what_no_text_can_hold_is_written_out(postgres: Postgres) -> None:
    """A zero byte or half a surrogate pair, in a name or in a message, costs no run its place in the record."""
    postgres.empty()
    async with replicas(postgres.socket, 1) as (store,):
        await store.add_run(run(1, item="a\0b\udcff"))
        assert [item for _, item in await store.memory("m")] == ["a\\x00b\\udcff"]
        assert [one.item for one in await store.items("m", find="A\0b")] == ["a\\x00b\\udcff"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"password": Secret("wrong-horse-hunter2")}, 'password authentication failed for user "mirrord"'),
        ({"password": None}, "no password supplied"),
        ({"name": "nothing"}, 'database "nothing" does not exist'),
        ({"ca": "/etc/ssl/certs/ca-certificates.crt"}, "server does not support SSL"),
    ],
)
async def test_who_is_not_let_in_hears_why_at_once(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], said: str
) -> None:
    """What no later try mends is one clear error, which names the database and nothing of its password."""
    for name in ("PGPASSWORD", "PGPASSFILE"):
        monkeypatch.delenv(name, raising=False)
    address = replace(postgres.address, **change)  # type: ignore[arg-type]  # fields by name
    with pytest.raises(StorageError) as caught:
        await open_store(address, T0)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"postgresql://127.0.0.1:{postgres.port}/")
    texts: list[str] = []
    error: BaseException | None = caught.value
    while error is not None:
        texts += [str(error), repr(error), repr(getattr(error, "params", None))]
        error = error.__cause__ or error.__context__
    assert not [text for text in texts if "horse" in text]


async def test_a_login_by_password(postgres: Postgres) -> None:
    """With the right password the same database is there by TCP."""
    async with replicas(postgres.address, 1) as (store,):
        await store.check()
        assert store.lost == ""
    assert str(DatabaseAddress((Server("::1", 1),), "a/b")) == "postgresql://[::1]:1/a%2Fb"


async def test_a_password_that_changes(postgres: Postgres, tmp_path: Path) -> None:
    """Connections that are made later use what its file has then, those of the fleet too; one that is gone is named."""
    file = tmp_path / "word"
    file.write_text(PASSWORD)
    file.chmod(0o600)
    source = SecretSource(file=str(file))
    address = replace(postgres.address, password=None, fresh=lambda: read_secret(source, {}))
    thrown_out = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'mirrord'"
    connect = partial(connection_keys, address)
    async with replicas(address, 1) as (store,), open_shared(connect) as shared:
        await shared.do("SELECT 1", {})
        try:
            postgres.sql("ALTER ROLE mirrord PASSWORD 'another-horse'")
            file.write_text("another-horse")
            assert postgres.sql(thrown_out) > [(1,)]
            await store.add_run(run(1))
            assert await shared.do("SELECT 2 AS found", {}) == [{"found": 2}]
            file.unlink()
            postgres.sql(thrown_out)
            with pytest.raises(StorageError, match=rf"the password .* {file} does not exist") as caught:
                await store.add_run(run(2))
            assert "horse" not in str(caught.value)
        finally:
            postgres.sql(f"ALTER ROLE mirrord PASSWORD '{PASSWORD}'")


async def test_a_server_that_must_show_a_certificate(postgres: Postgres, tmp_path: Path) -> None:
    """Only one of the named authority and for the name that was asked for will do; then all goes through TLS."""
    (tmp_path / "other").mkdir()
    authority, other = Authority(tmp_path), Authority(tmp_path / "other")
    right = replace(postgres.address, ca=str(authority.ca))
    elsewhere = replace(right, servers=(Server("localhost", postgres.port),))
    with postgres.speaking_tls(*authority.pair("127.0.0.1")):
        async with asyncio.timeout(20):
            while "SSL" in await refusal(right):  # noqa: ASYNC110 - the server reads its settings in its own time
                await asyncio.sleep(0.01)
        async with replicas(right, 1) as (store,):
            await store.check()
            used = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'mirrord'"
            assert set(postgres.sql(used)) == {(True,)}
        assert "certificate verify failed" in await refusal(replace(right, ca=str(other.ca)))
        assert 'does not match host name "localhost"' in await refusal(elsewhere)
        assert "horse" not in await refusal(elsewhere)


async def refusal(address: DatabaseAddress) -> str:
    try:
        await (await open_store(address, T0)).close()
    except StorageError as error:
        return str(error)
    return ""
