"""What a secret may be and where it may stand, seen from the command line (bad inputs 13 and 15)."""

from __future__ import annotations

import json
import secrets

import aiohttp

from mirrord.testing import Registry, build_image, push
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from tests.support.auth import Auth
from tests.support.canary import Canary
from tests.support.commands import Desk

SHOWN = (
    *("/", "/?lang=zh", "/mirrors/app", "/status", "/metrics", "/readyz?verbose", "/badge/app.svg", "/log/app.txt"),
    *("/log.txt", "/api/v1/mirrors", "/api/v1/catalog.json", "/api/v1/catalog.csv", "/api/v1/catalog.txt"),
    *(f"/api/v1/mirrors/app{what}" for what in ("", "/runs", "/items", "/ledger", "/behind", "/days")),
)
"""Everything that shows a mirror called `app`."""


async def test_exactly_as_it_is(desk: Desk) -> None:
    """Percent signs, quotes, umlauts and 8 kB arrive unchanged; one newline at the end of a file is not part of it."""
    short, long = Canary.make("robot"), Canary.make("robot", 8000)
    async with (
        Registry(auth=Auth(bearer=("robot", short.text))) as source,
        Registry(auth=Auth(basic=("robot", long.text))) as target,
    ):
        await push(build_image(), source, "a", ["v1"])
        file = desk.folder / "secret"
        file.write_text(f"{long.text}\n")
        file.chmod(0o400)
        desk.configure(
            "hosts:\n"
            f"  '{source.host}': {{auth: {{username: robot, password: {{env: SHORT}}}}}}\n"
            f"  '{target.host}': {{auth: {{username: robot, password: {{file: {file}}}}}}}\n"
            f"targets: {{t: {{kind: image, to: {target.host}/m}}}}\n"
            f"mirrors: [{{name: app, kind: image, from: {{repository: {source.host}/a, tags: [v1]}}, to: t}}]\n"
        )
        said = await desk.run("sync", SHORT=short.text)
        assert said.status == 0, said
        assert target.tags["m/app"]["v1"] == source.tags["a"]["v1"]


async def test_refused(desk: Desk) -> None:
    """Each secret that cannot be used ends with 78 and a line with its place and its fault, never with its content.

    The daemon reports those that are not on this machine, too.
    """
    canary = Canary.make("robot")
    cases = {
        "newline": ("{env: NEWLINE}", "control characters"),
        "header": ("{env: HEADER}", "control characters"),
        "absent": ("{env: ABSENT}", "ABSENT is not set"),
        "void": ("{env: VOID}", "is empty"),
        "open": (f"{{file: {desk.folder}/open}}", "has mode 0644"),
        "nobody": (f"{{file: {desk.folder}/nobody}}", str(desk.folder / "nobody")),
        "relative": ("{file: secret}", "not absolute"),
        "plain": (f"'{canary.text[:32]}'", "must not be written in the configuration"),
        "unit": ("{credential: unit}", "$CREDENTIALS_DIRECTORY is not set"),
    }
    (desk.folder / "open").write_text(canary.text)
    (desk.folder / "open").chmod(0o644)
    desk.configure(
        "hosts:\n"
        + "".join(
            f"  {name}.example: {{auth: {{username: robot, password: {where}}}}}\n"
            for name, (where, _) in cases.items()
        )
    )
    environ = {"NEWLINE": f"{canary.text}\n{canary.text}", "HEADER": f"{canary.text}\r\nX-Evil: 1", "VOID": ""}
    here = {name: case for name, case in cases.items() if name not in ("absent", "nobody", "unit")}
    for command, wrong in ((("check",), here), (("sync", "--json"), here), (("serve",), cases)):
        said = await desk.run(*command, **environ)
        assert said.status == 78
        assert canary.heard(said.out + said.err) == []
        lines = said.err.splitlines()
        if command != ("check",):
            what = "not started" if command == ("serve",) else "nothing was done"
            assert lines.pop() == f"mirrord: {what}: {len(wrong)} problems in conf.d"
        assert len(lines) == len(wrong)
        for line, (name, (_, fault)) in zip(lines, wrong.items(), strict=True):
            assert line.startswith(f"conf.d/a.yaml:{[*cases].index(name) + 2}: hosts.{name}.example.auth"), line
            assert fault in line
    assert not (desk.folder / "state").exists()


def test_the_canary_sings() -> None:
    """The check itself hears whole secrets and parts of them, in every form."""
    canary = Canary.make("robot", 8000)
    for form in canary.forms():
        assert canary.heard(f"x{form}y")
        assert canary.heard(form[:1000])
    assert canary.heard("nothing at all") == []


async def test_token_in_the_query_of_a_source(desk: Desk) -> None:
    """A chart repository may need a token in its query, whatever it is called: it is sent, and shown nowhere."""
    token = secrets.token_hex(20)
    async with ChartRepository() as charts:
        charts.add(build_chart("crane", "0.11.0"))
        desk.configure(
            "settings: {listen: '127.0.0.1:0', url: 'https://mirror.example'}\n"
            f"mirrors: [{{name: app, kind: helm, from: '{charts.url}?entitlement={token}', to: local}}]\n"
        )
        heard = [await desk.run("check"), await desk.run("check", "--json"), await desk.run("docs")]
        async with desk.serving() as daemon, aiohttp.ClientSession(f"http://{daemon.address}") as session:
            heard += [await desk.run("sync"), await desk.run("status"), await desk.run("runs", "app")]
            heard += [await desk.run("docs", "--live", "--format", "html"), await desk.run("list", "mirrored")]
            assert {said.status for said in heard} == {0}, heard
            said = [text for one in heard for text in (one.out, one.err)]
            for path in SHOWN:
                async with session.get(path) as answer:
                    assert answer.status == 200, path
                    said.append(await answer.text())
        said.append(json.dumps(daemon.lines))
    assert {exchange.target.partition("?")[2] for exchange in charts.log} == {f"entitlement={token}"}
    assert [text for text in said if token in text or token[:10] in text] == []
    assert [text for text in said if f"{charts.url}?***" in text]


async def test_typed_on_the_command_line(desk: Desk) -> None:
    """A password in a place where none belongs is not repeated, whatever stands around it."""
    for typed in (
        "https://user:hunter2@reg.example/a/b",
        "https://user:hunter2/x@reg.example/a",
        "docker-daemon:user:hunter2@reg.example/a",
        "docker-archive:https://user:hunter2@reg.example/a",
        "user:hunter2@reg.example/a",
    ):
        for arguments in (
            ("copy", typed, "oci:out"),
            ("copy", "--json", "reg.example/a", typed),
            ("status", typed, "x"),
        ):
            said = await desk.run(*arguments)
            assert said.status != 0
            assert "hunter2" not in said.out + said.err, (arguments, said)
            assert "Traceback" not in said.err
