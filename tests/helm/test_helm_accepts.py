"""What upstream wrote wrongly costs one entry at most, and every published index is one that real helm loads.

Each row of research "what one odd value does to the whole file" is an index with one odd entry between two sound ones:
helm itself would reject most of them as a whole, or skip the entry.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.syncers.helm.syncer import SYNCER
from mirrord.testing import DockerRegistry, Registry, require
from mirrord.testing.chart_repository import INDEX, ChartRepository
from mirrord.testing.charts import Chart, build_chart
from tests.support.chartprograms import HELMS, Helm, helm, helms
from tests.support.chartruns import CHARTS_AT, ChartRuns, site, sound
from tests.support.frontserver import open_front
from tests.support.signing import GpgSigner

BINARIES = helms() or HELMS[-1:]
GOOD = {"good-1.0.0", "good-1.1.0"}
ODD = "odd-1.0.0"
TOP = "apiVersion: v1\n"
DIGITS = "1" * 64


def entry(more: str = "", *, name: str = "odd", version: str = "1.0.0", key: str = "", said: str = "") -> str:
    """Return the chart `name` with one entry, its version written as `said`; `more` is added line by line.

    A line of `more` whose key the entry has already replaces it; `-key` takes it away; `+` adds another one.
    """
    chart = build_chart(name if name.isalnum() else "odd", version)
    lines = {
        "apiVersion": "v2",
        "created": '"2024-05-07T14:58:53.647187123+08:00"',
        "description": chart.metadata["description"],
        "digest": chart.digest.hex,
        "name": name,
        "urls": f'["charts/{chart.file}"]',
        "version": said or version,
    }
    added = []
    for line in filter(None, more.split("\n")):
        word, _, value = line.partition(":")
        if line.startswith("-"):
            lines.pop(line[1:])
        elif line.startswith("+"):
            added.append(line[1:])
        else:
            lines[word] = value.strip()
    written = [f"{word}: {value}" for word, value in lines.items()] + added
    return f"  {key or name}:\n  - " + "\n    ".join(written) + "\n"


def index(odd: str, top: str = TOP) -> str:
    good = entry(name="good") + entry(name="good", version="1.1.0").partition("\n")[2]
    return f"{top}entries:\n{odd}{good}generated: 2024-05-07T14:58:53Z\n"


def as_json() -> str:
    one = {**build_chart("good", "1.0.0").entry(), "someKey": 1}
    other = build_chart("good", "1.1.0").entry()
    return json.dumps({"apiVersion": "v1", "entries": {"good": [one, other]}})


TAKEN, LEFT_OUT = GOOD | {ODD}, GOOD
ROWS: dict[str, tuple[str, set[str], str]] = {
    "nothing odd": (index(entry()), TAKEN, ""),
    "48 unknown key": (index(entry("mirroredBy: me")), TAKEN, "mirroredBy is no key"),
    "48 unknown key of a maintainer": (index(entry("maintainers: [{name: a, phone: b}]")), TAKEN, "phone is no key"),
    "48 unknown top key": (index(entry(), TOP + "mirroredBy: me\n"), TAKEN, "mirroredBy is no key"),
    "48 anchor holder": (index(entry(), TOP + "x-common: &c {home: h}\n"), TAKEN, "x-common is no key"),
    "48 alias": (index(entry("+<<: *c"), TOP + "x-common: &c {home: h}\n"), TAKEN, "x-common is no key"),
    "48 tag": (index(entry("home: !!python/object/apply:os.system [ls]")), LEFT_OUT, "tag"),
    "48 duplicate key": (index(entry("+home: a\n+home: b")), LEFT_OUT, "home is written twice"),
    "48 second document": (index(entry()) + "---\na: b\n", TAKEN, "second document"),
    "49 version a float": (index(entry(version="1.10")), GOOD | {"odd-1.10"}, "version: 1.10 has no quotes"),
    "49 version a number": (index(entry(version="2")), GOOD | {"odd-2"}, "version: 2 has no quotes"),
    "49 version with v": (index(entry(version="v1.0.0")), GOOD | {"odd-v1.0.0"}, ""),
    "49 version with build": (index(entry(version="1.0.0+build.5")), GOOD | {"odd-1.0.0+build.5"}, ""),
    "49 version with zero": (index(entry(version="01.2.3")), GOOD | {"odd-01.2.3"}, ""),
    "49 version of four": (index(entry(version="1.0.0.1")), LEFT_OUT, "no semantic version"),
    "51 version with slash": (index(entry(said="1.0.0-a/b")), LEFT_OUT, "no semantic version"),
    "49 no version": (index(entry("-version")), LEFT_OUT, "has no version"),
    "appVersion a float": (index(entry("appVersion: 1.10")), TAKEN, "appVersion: 1.10 has no quotes"),
    "appVersion a flag": (index(entry("appVersion: yes")), TAKEN, "appVersion: yes has no quotes"),
    "appVersion a list": (index(entry("appVersion: [a]")), LEFT_OUT, "appVersion is a list"),
    "appVersion null": (index(entry("appVersion: null")), TAKEN, ""),
    "annotation a number": (index(entry("annotations: {a: 1}")), TAKEN, "annotations.a: 1 has no quotes"),
    "annotation a flag": (index(entry("annotations: {a: true}")), TAKEN, "annotations.a: true has no quotes"),
    "annotation a mapping": (index(entry("annotations: {a: {b: c}}")), LEFT_OUT, "annotations.a is a mapping"),
    "keywords a text": (index(entry("keywords: a")), LEFT_OUT, "keywords is a text"),
    "urls a text": (index(entry("urls: charts/odd-1.0.0.tgz")), LEFT_OUT, "urls is a text"),
    "no urls": (index(entry("-urls")), LEFT_OUT, "its entry names no place to get it from"),
    "deprecated a text": (index(entry('deprecated: "true"')), TAKEN, "deprecated: true has quotes"),
    "created a word": (index(entry('created: "yesterday"')), TAKEN, "created: yesterday is no time"),
    "created a day": (index(entry("created: 2024-01-01")), TAKEN, "is no time"),
    "created with a space": (index(entry("created: 2024-01-01 00:00:00")), TAKEN, "is no time"),
    "created without quotes": (index(entry("created: 2024-01-01T00:00:00Z")), TAKEN, ""),
    "no created": (index(entry("-created")), TAKEN, ""),
    "generated a word": (index(entry()).replace("generated: 2024-05-07T14:58:53Z", "generated: foo"), TAKEN, "no time"),
    "49 null entry": (index(entry() + "  -\n"), TAKEN, "is empty"),
    "49 chart null": (index("  odd:\n"), LEFT_OUT, ""),
    "51 name climbs": (index(entry(name="../x", key="x")), LEFT_OUT, "no name for a chart"),
    "51 name dots": (index(entry(name="..", key="x")), LEFT_OUT, "no name for a chart"),
    "51 name with slash": (index(entry(name="a/b", key="x")), LEFT_OUT, "no name for a chart"),
    "51 name empty": (index(entry(name='""', key="x")), LEFT_OUT, "has no name"),
    "51 name of 300": (index(entry(name="x" * 300)), LEFT_OUT, "no name for a chart"),
    "51 name of a device": (index(entry(name="CON")), GOOD | {"CON-1.0.0"}, ""),
    "another key": (index(entry(key="other")), TAKEN, ""),
    "type unknown": (index(entry("type: plugin")), LEFT_OUT, "neither application nor library"),
    "maintainer null": (index(entry("maintainers: [null]")), LEFT_OUT, "maintainers is empty"),
    "49 no digest": (index(entry("-digest")), TAKEN, ""),
    "49 digest upper case": (index(entry(f"digest: {build_chart('odd', '1.0.0').digest.hex.upper()}")), TAKEN, ""),
    "49 digest with prefix": (index(entry(f"digest: {build_chart('odd', '1.0.0').digest}")), TAKEN, ""),
    "digest of digits": (index(entry(f"digest: {DIGITS}")), LEFT_OUT, "has no quotes"),
    "digest too short": (index(entry("digest: abc")), TAKEN, "no SHA-256"),
    "CRLF": (index(entry()).replace("\n", "\r\n"), TAKEN, ""),
    "BOM": ("\ufeff" + index(entry()), TAKEN, ""),
    "JSON": (as_json(), GOOD, "someKey is no key"),
    "BOM before JSON": ("\ufeff" + as_json(), GOOD, "someKey is no key"),
    "odd texts": (
        index(entry('description: "- a: b\\n # c\\t\\u0007 \\u2028 \\U0001F600"\nhome: "0x1"\nicon: "~"')),
        TAKEN,
        "",
    ),
}


NOT_HAD = {"digest of digits"}
"""Rows whose archive has another digest than the index says."""


def serve_archives(source: ChartRepository) -> None:
    """Hold the archive of every row."""
    versions = ("1.0.0", "1.10", "2", "v1.0.0", "1.0.0+build.5", "01.2.3", "1.0.0.1")
    charts = [build_chart("odd", version) for version in versions]
    charts += [build_chart("good", "1.0.0"), build_chart("good", "1.1.0"), build_chart("CON", "1.0.0")]
    source.files |= {f"charts/{chart.file}": chart.data for chart in charts}


async def listed_by(run: Helm, url: str) -> set[str]:
    """Add the repository to helm, and return every version that it then knows."""
    added = await run("repo", "add", "mirror", url)
    assert added.status == 0, added.output
    assert "skipping" not in added.output, added.output
    found = await run("search", "repo", "mirror/", "--versions", "--devel", "--output", "json")
    assert found.status == 0, found.output
    charts = json.loads(found.output.strip().rpartition("\n")[2])
    return {f"{chart['name'].removeprefix('mirror/')}-{chart['version']}" for chart in charts}


@pytest.mark.parametrize("row", ROWS)
async def test_helm_loads_what_is_published(row: str, source: ChartRepository, runs: ChartRuns) -> None:
    """Whatever one entry holds, the others are published; what is left out or put right is named; helm loads all."""
    written, wanted, problem = ROWS[row]
    serve_archives(source)
    source.files[INDEX] = written.encode()
    folder = runs.folder / "site"
    run = await runs.run(runs.mirror(source.url, local=LOCAL, site=folder))
    assert run.plan is not None
    assert set(sound(site(folder))) == set(sound(runs.local())) == wanted, run
    assert site(folder)[INDEX] == runs.local()[INDEX]
    told = (*run.problems, *run.remarks)
    assert any(problem in one for one in told) if problem else not told
    assert run.result is (Result.PARTIAL if row in NOT_HAD else Result.SUCCESS)
    if not helms():
        return
    async with ChartRepository() as server, AsyncExitStack() as stack:
        server.files |= site(folder)
        ready = [await stack.enter_async_context(helm(binary)) for binary in BINARIES]
        found = await asyncio.gather(*(listed_by(one, server.url) for one in ready))
    shown = {item.replace("odd", "other") for item in wanted} if row == "another key" else wanted
    assert found == [shown] * len(BINARIES)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> object:
    if not GpgSigner.available():
        pytest.skip("gpg is not installed")
    with GpgSigner(tmp_path_factory.mktemp("g")) as made:
        yield made


def real_chart(version: str) -> Chart:
    manifest = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: made-by-{{ .Chart.Version | replace "+" "_" }}}\n'
    return build_chart("app", version, {"templates/map.yaml": manifest.encode()})


@pytest.fixture
async def signed(source: ChartRepository, signer: GpgSigner) -> ChartRepository:
    for version in ("1.0.0", "1.1.0", "2.0.0-rc.1", "2.0.0+up.1"):
        chart = real_chart(version)
        source.add(chart, prov=chart.provenance(signer))
    return source


@pytest.fixture
def keyring(signer: GpgSigner, tmp_path: Path) -> Path:
    file = tmp_path / "keyring"
    file.write_bytes(signer.keyring())
    return file


@asynccontextmanager
async def cluster() -> AsyncIterator[str]:
    """Answer what helm 3 asks a cluster before it installs, even with `--dry-run=client`."""
    maps = {"name": "configmaps", "kind": "ConfigMap", "namespaced": True, "verbs": ["get"]}
    answers: dict[str, dict[str, object]] = {
        "/version": {"major": "1", "minor": "30", "gitVersion": "v1.30.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
        "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [maps]},
    }
    async with ChartRepository() as server:
        server.files |= {path: json.dumps(answer).encode() for path, answer in answers.items()}
        yield server.url


async def check_use(run: Helm, chart: str, folder: Path, keyring: Path, *flags: str) -> None:
    """Let helm do with a published chart what people do: pull it, with verification, render it, install it."""
    for version in ("1.1.0", "2.0.0+up.1"):
        said = ("--version", version, *flags)
        pulled = await run("pull", chart, *said, "--verify", "--keyring", keyring, "--destination", folder)
        assert pulled.status == 0, pulled.output
        assert "Signed by:" in pulled.output
        assert (folder / f"app-{version}.tgz").read_bytes() == real_chart(version).data
        async with cluster() as api:
            install = ("install", "--dry-run=client", "--disable-openapi-validation", "--kube-apiserver", api)
            for command in (("template",), install):
                made = await run(*command, "x", chart, *said)
                assert made.status == 0, made.output
                assert f"made-by-{version.replace('+', '_')}" in made.output


@asynccontextmanager
async def served(place: str, runs: ChartRuns) -> AsyncIterator[str]:
    """Serve what was published: the folder by a plain web server, or the local store by mirrord's own."""
    if place == "mirrord":
        async with open_front(runs.services, SYNCER) as url:
            yield f"{url}/helm/app"
        return
    async with ChartRepository(path="/charts") as server:
        server.files |= site(runs.folder / "site")
        yield server.url


@pytest.mark.parametrize("what", ["yaml in a folder", "json in a folder", "yaml by mirrord", "json by mirrord"])
@pytest.mark.parametrize("binary", BINARIES)
async def test_helm_uses_a_repository(
    binary: str, what: str, signed: ChartRepository, keyring: Path, runs: ChartRuns
) -> None:
    """Real helm adds the published repository, verifies signatures with it, renders and installs from it."""
    require(binary)
    form, *_, place = what.split()
    mirror = runs.mirror(signed.url, keys={"index": form}, site=runs.folder / "site", local=LOCAL)
    assert (await runs.run(mirror)).result is Result.SUCCESS
    async with served(place, runs) as url, helm(binary) as helm_:
        assert len(await listed_by(helm_, url)) == 4
        await check_use(helm_, "mirror/app", runs.folder, keyring)
        newest = await helm_("search", "repo", "mirror/app", "--output", "json")
        assert json.loads(newest.output)[0]["version"] == "2.0.0+up.1"
        assert (await helm_("repo", "update")).status == 0


@pytest.mark.parametrize("binary", BINARIES)
@pytest.mark.parametrize("server", [Registry, DockerRegistry], ids=["double", "docker-registry"])
async def test_helm_uses_a_registry(
    binary: str,
    server: Callable[[], Registry | DockerRegistry],
    signed: ChartRepository,
    keyring: Path,
    runs: ChartRuns,
) -> None:
    """Real helm pulls, verifies, renders and installs from a registry that charts went to; and they come back."""
    require(binary)
    if server is DockerRegistry:
        require("docker-registry")
    async with server() as registry, helm(binary) as helm_:
        run = await runs.run(runs.mirror(signed.url, registry=registry))
        assert run.result is Result.SUCCESS, run
        chart = f"oci://{registry.host}/{CHARTS_AT}/app"
        await check_use(helm_, chart, runs.folder, keyring, "--plain-http")
        newest = await helm_("show", "chart", chart, "--plain-http")
        assert "version: 2.0.0" in newest.output
        assert (await runs.run(runs.mirror(chart, name="back", local=LOCAL))).result is Result.SUCCESS
        assert sound(runs.local("back")) == {
            f"app-{one['version']}": f"sha256:{one['digest']}" for one in signed.entries
        }
        first = real_chart("1.0.0")
        assert runs.local("back")[f"charts/{first.file}.prov"] == signed.files[f"charts/{first.file}.prov"]
