"""`settings.record`: a database by its URL, without a word of its password anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from mirrord.config import record
from mirrord.config.load import Configuration
from mirrord.daemon.changes import changes_of
from mirrord.wire.database import DatabaseAddress, Server
from mirrord.wire.secret import Secret
from mirrord.wire.trust import verified

Load = Callable[..., Configuration]
Refusal = Callable[..., tuple[str, ...]]


@pytest.mark.parametrize(
    ("written", "address"),
    [
        (
            "postgresql://mirrord@db.example/mirrord",
            DatabaseAddress((Server("db.example", 5432),), "mirrord", "mirrord"),
        ),
        ("postgres://DB.example:5433/m", DatabaseAddress((Server("db.example", 5433),), "m")),
        ("postgresql://m%40x@[::1]/m", DatabaseAddress((Server("::1", 5432),), "m", "m@x")),
        ("postgresql:///m?host=/run/postgresql", DatabaseAddress((Server("/run/postgresql", 5432),), "m")),
        ("postgresql://%2Frun%2Fpostgresql:5433/m", DatabaseAddress((Server("/run/postgresql", 5433),), "m")),
        ("postgresql://a@one,two:5433/m", DatabaseAddress((Server("one", 5432), Server("two", 5433)), "m", "a")),
    ],
)
def test_urls(load: Load, written: str, address: DatabaseAddress) -> None:
    """A URL alone is enough, as libpq writes it; messages name the database by the same URL."""
    found = load(f"settings: {{record: '{written}'}}").record
    assert found == address
    named = load(f"settings: {{record: {{url: '{found}'}}}}").record
    assert named == replace(address, user="")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "postgresql://mirrord:hunter2x@db.example/m",
            "leave only the role before @, and write",
        ),
        ("postgresql://hunter2x@b:c@db.example/m", "holds a password"),
        ("postgresql://:hunter2x@db.example/m", "holds a password"),
        ("postgresql://mirrord%3Ahunter2x@db.example/m", "holds a password"),
        ("postgresql://mirrord:hunter2x%40db.example/m", "has a host or a port that is none"),
        ("postgresql://db.example/m?password=hunter2x", "holds a password"),
        ("postgresql://db.example/m?PassWord=hunter2x", "holds a password"),
        ("postgresql://db.example/m?%70assword=hunter2x", "holds a password"),
        ("postgresql://db.example/m?sslpassword=hunter2x", "holds a password"),
        ("postgresql://db.example/m?passfile=/hunter2x", "has options after ?"),
        ("postgresql:///m?host=/run&password=hunter2x", "holds a password"),
        ("postgresql:///m?host=/run&password=", "holds a password"),
        ("postgresql://db.example/m#hunter2x", "needs a host and the name of a database"),
        ("postgresql://db.example/m?sslmode=hunter2x", "has options after ?"),
        ("mysql://hunter2x@db.example/m", "is not the address of a PostgreSQL database"),
        ("sqlite:///hunter2x.db", "is not the address of a PostgreSQL database"),
        ("postgresql://hunter2x@db.example/", "needs a host and the name of a database"),
        ("postgresql:///m", "needs a host and the name of a database"),
        ("postgresql://db.example:0/hunter2x", "has a host or a port that is none"),
        ("postgresql://-h/hunter2x", "has a host or a port that is none"),
        ("postgresql://db.example/hunter2x x", "holds a blank or a control character"),
        ("postgresql://[::1/hunter2x", "is not the address of a PostgreSQL database"),
    ],
)
def test_wrong_urls(refusal: Refusal, url: str, said: str) -> None:
    """What is wrong is said with what to write instead, and nothing of the URL is repeated: it may be a password."""
    for written in (f"'{url}'", f"{{url: '{url}'}}"):
        (problem,) = refusal(f"settings:\n  record: {written}\n")
        assert ":2: settings.record" in problem
        assert said in problem
        assert "hunter2x" not in problem


def test_the_password_comes_from_elsewhere(load: Load, refusal: Refusal, tmp_path: Path) -> None:
    """It is fetched as every secret is, for each connection anew; an absent one is named, plain text is refused."""
    written = "settings: {record: {url: 'postgresql://m@db.example/m', password: {env: DB}}}"
    found = load(written, {"DB": "hunter2x"})
    assert found.record is not None
    assert found.record.password == Secret("hunter2x")
    assert "hunter2x" not in f"{found.record} {found!r}"
    word = tmp_path / "word"
    word.write_text("first\n")
    word.chmod(0o400)
    kept = load(written.replace("{env: DB}", f"{{file: {word}}}")).record
    word.unlink()
    word.write_text("second\n")
    word.chmod(0o400)
    assert kept is not None
    assert kept.login() == {"user": "m", "password": "second"}
    (problem,) = refusal(written, {})
    assert "settings.record.password: environment variable DB is not set" in problem
    (problem,) = refusal(written.replace("{env: DB}", "hunter2x"), {})
    assert "a secret must not be written in the configuration" in problem
    assert "hunter2x" not in problem


def test_who_must_show_a_certificate(load: Load, tmp_path: Path) -> None:
    """Servers elsewhere must, and those of this machine need not, unless their authority is named."""
    authority = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(authority)
    for host, more, must in (
        ("db.example", "", True),
        ("10.0.0.1", "", True),
        ("127.0.0.1,db.example", "", True),
        ("db.example", ", insecure: true", False),
        ("127.0.0.1", "", False),
        ("%2Frun", "", False),
        ("127.0.0.1", f", ca: {authority}", True),
    ):
        found = load(f"settings: {{record: {{url: 'postgresql://{host}/m'{more}}}}}").record
        assert found is not None
        assert verified(found) is must, (host, more)


def test_wrong_keys(refusal: Refusal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is no authority, keys that exclude each other, and a missing driver are errors."""
    other = tmp_path / "notes.txt"
    other.write_text("no certificate")
    start = "settings: {record: {url: 'postgresql://db.example/m'"
    assert "contains no PEM certificate" in refusal(f"{start}, ca: {other}}}}}")[0]
    assert "has no effect with `insecure: true`" in refusal(f"{start}, ca: {other}, insecure: true}}}}")[0]
    assert any("write all of it as url" in problem for problem in refusal("settings: {record: {host: db.example}}"))
    there = {"psycopg"}
    monkeypatch.setattr(record, "find_spec", lambda name: name if name in there else None)
    (problem,) = refusal(f"{start}}}}}")
    assert problem.endswith(
        "settings.record: needs psycopg_pool, procrastinate, not installed here; run pip install 'mirrord[scale]'"
    )
    there |= {"psycopg_pool", "procrastinate"}
    assert not any("not installed" in problem for problem in refusal(f"{start}}}}}, x: 1}}"))


def test_another_record_needs_a_restart(load: Load) -> None:
    """A reload does not move the record."""
    before, fresh = load("targets: {}\n"), load("settings: {record: 'postgresql://db.example/m'}")
    assert changes_of(before, fresh, before).waiting == ("settings.record",)
