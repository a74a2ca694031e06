"""Mirror charts, beside real helm and beside a downloader that takes one archive after the other.

Reads, plans and writes indexes of 4 and 16 MB while helm loads the same files; polls an upstream where nothing changed;
fetches 200 new charts from a server that takes 20 ms for each answer. Prints ratios (mirrord / the other).
Every measurement is made in a process of its own.

    python -m bench.helm [--runs N] [--index FILE[.gz] ...] [--charts N] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import gzip
import hashlib
import http.client
import json
import os
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop

from mirrord.config.settings import Settings
from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.syncers.helm.names import spec_of
from mirrord.syncers.helm.plan.choice import choose
from mirrord.syncers.helm.plan.survey import HelmSurvey, TargetContent
from mirrord.syncers.helm.transfer.emit import emit_json, emit_yaml
from mirrord.syncers.helm.upstream.reading import read_index
from mirrord.testing.charts import build_chart, build_index
from mirrord.wire.host import HostBook
from tests.support.chartprograms import helms
from tests.support.chartruns import HELM, NOW, ChartRuns, open_chart_runs
from tests.support.chartslow import SPAWN, slow_repository

CUT = Path(__file__).parents[1] / "tests" / "helm" / "data" / "grafana-cut.yaml.gz"
SIZES = {"4 MB": 4_020_000, "16 MB": 16_080_000}
ROUND_TRIP = 0.020  # seconds
SIZE = 40_000  # bytes of an archive, as most have
PARALLEL = Settings().parallel
POLLS = 50


def grow(text: str, size: int) -> bytes:
    """Return an index of about `size` bytes whose entries have the shape, and the mixture, of a real one."""
    top, _, rest = text.partition("entries:\n")
    body, _, end = rest.rpartition("generated:")
    charts = re.split(r"(?m)^(?=  [A-Za-z0-9._-]+:\n)", body)[1:]
    times = max(1, round(size / len(body)))
    grown = [top, "entries:\n"]
    for chart in charts:
        head, *entries = re.split(r"(?m)^(?=  - )", chart)
        grown.append(head)
        for number in range(times):
            for place, entry in enumerate(entries):
                version = f"{times - number}.{place}.{number}"
                digest = hashlib.sha256(f"{head}{version}".encode()).hexdigest()
                entry = re.sub(r"(?m)^    version: .*$", f"    version: {version}", entry)  # noqa: PLW2901 - of this version
                grown.append(re.sub(r"(?m)^    digest: .*$", f"    digest: {digest}", entry))
    return "".join((*grown, "generated:", end)).encode()


def measured(work: Callable[..., Any], *arguments: Any) -> Any:
    """Run `work` in a fresh process and return what it returns."""
    ours, theirs = SPAWN.Pipe()
    child = SPAWN.Process(target=_answer, args=(theirs, work, arguments))
    child.start()
    theirs.close()
    found = ours.recv()
    child.join()
    return found


def _answer(pipe: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    pipe.send(work(*arguments))


def clocked(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Return what `work` returns, and what it took: wall, CPU seconds, MiB by which the process grew."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, cpu, began = _memory("VmRSS"), time.process_time(), time.perf_counter()
    found = work()
    took = {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}
    return found, {**took, "memory": _memory("VmHWM") - before}


def _memory(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def index_work(file: str) -> dict[str, dict[str, float]]:
    """Read an index, plan for a target that lacks one version, write the index."""
    data = Path(file).read_bytes()
    index, parse = clocked(lambda: read_index(data))
    held = {entry.item: entry.digest for entry in index.entries[1:] if entry.digest}
    own = {entry.item: entry for entry in index.entries[1:]}
    mirror = ChartRuns(Path(), None).mirror("https://charts.test", local=LOCAL)  # type: ignore[arg-type]  # no services: nothing is run
    targets = {LOCAL: TargetContent(held, own)}
    decided, plan = clocked(
        lambda: HELM.plan(mirror, HelmSurvey(index.entries, choose(index.entries, spec_of(mirror), NOW), targets), NOW)
    )
    assert len(decided.active) == 2, len(decided.active)
    _, emit = clocked(lambda: emit_yaml(index.entries))
    _, as_json = clocked(lambda: emit_json(index.entries))
    return {"parse": parse, "plan": plan, "emit": emit, "emit JSON": as_json}


def helm_loads(binary: str, file: Path, home: Path) -> dict[str, float]:
    """Let helm load an index that is in its cache (it looks for a chart that is not in there)."""
    cache, config = home / "cache" / "repository", home / "config"
    cache.mkdir(parents=True, exist_ok=True)
    config.mkdir(exist_ok=True)
    (cache / "bench-index.yaml").unlink(missing_ok=True)
    (cache / "bench-index.yaml").symlink_to(file)
    (config / "repositories.yaml").write_text(
        "apiVersion: ''\nrepositories: [{name: bench, url: http://127.0.0.1:9}]\n"
    )
    env = {**os.environ, "HOME": str(home), "HELM_CACHE_HOME": str(cache.parent), "HELM_CONFIG_HOME": str(config)}
    began = time.perf_counter()
    process = subprocess.Popen(  # the chart is asked for by a version that none has: the index is all that is read
        [binary, "pull", "bench/no-such-chart"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, _, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = 1
    process.stderr.close()
    assert "not found" in said, said
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss / 1024}


def mirror_work(url: str, folder: str) -> dict[str, dict[str, float]]:
    """Mirror everything into a folder and the local store, then poll when nothing changed."""

    async def work() -> dict[str, dict[str, float]]:
        async with open_chart_runs(Path(folder), book=HostBook()) as runs:
            runs.parallel = PARALLEL
            mirror = runs.mirror(url, local=LOCAL)
            cpu, began = time.process_time(), time.perf_counter()
            run = await runs.run(mirror)
            first = {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}
            assert run.result is Result.SUCCESS, run.error or run.counts
            spent = []
            for _ in range(POLLS):
                cpu = time.process_time()
                assert (await runs.run(mirror)).result is Result.NOOP
                spent.append(time.process_time() - cpu)
            return {"first": first, "poll": {"cpu": statistics.median(spent)}}

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the daemon does
        return runner.run(work())


def serial_work(url: str, folder: str, *beside: str) -> dict[str, float]:
    """Take everything one after the other over one connection, and verify it: the fastest that serial can be."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection(url.removeprefix("http://"))

    def get(path: str) -> bytes:
        connection.request("GET", path)
        return connection.getresponse().read()

    for entry in read_index(get("/index.yaml")).entries:
        data = get(f"/{entry.urls[0]}")
        assert entry.digest is not None
        assert hashlib.sha256(data).hexdigest() == entry.digest.hex
        Path(folder, entry.file).write_bytes(data)
        for end in beside:
            get(f"/{entry.urls[0]}{end}")
    return {"wall": time.perf_counter() - began}


def median(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def indexes(given: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Path]]:
    """Give the indexes to measure with: those that were given, or grown ones."""
    for name in given.index:
        data = Path(name).read_bytes()
        data = gzip.decompress(data) if name.endswith(".gz") else data
        file = folder / Path(name).name.removesuffix(".gz")
        file.write_bytes(data)
        yield f"{file.stem} ({len(data) / 1e6:.0f} MB)", file
    for name, size in {} if given.index else SIZES.items():
        file = folder / f"{size}.yaml"
        file.write_bytes(grow(gzip.decompress(CUT.read_bytes()).decode(), size))
        yield name, file


def measure_indexes(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure reading, planning and writing, in turns with helm."""
    tiny = folder / "tiny.yaml"
    tiny.write_bytes(build_index([build_chart("app", "1.0.0").entry()]))
    found: dict[str, Any] = {}
    for name, file in indexes(given, folder):
        ours: list[dict[str, dict[str, float]]] = []
        theirs: dict[str, list[dict[str, float]]] = {binary: [] for binary in helms()}
        for _ in range(given.runs):
            ours.append(measured(index_work, str(file)))
            for binary, runs in theirs.items():
                base, loaded = (helm_loads(binary, one, folder / binary) for one in (tiny, file))
                runs.append({key: loaded[key] - base[key] for key in base})
        found[name] = {step: median([run[step] for run in ours]) for step in ours[0]}
        found[name] |= {binary: median(runs) for binary, runs in theirs.items()}
    return found


def measure_downloads(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure 200 new charts, and polls."""
    ours, theirs, bare = [], [], []
    with slow_repository(given.charts, SIZE, ROUND_TRIP) as url:
        for number in range(given.runs):
            place = folder / f"run-{number}"
            (place / "serial").mkdir(parents=True)
            theirs.append(measured(serial_work, url, str(place / "serial"), ".prov"))
            bare.append(measured(serial_work, url, str(place / "serial")))
            ours.append(measured(mirror_work, url, str(place)))
    return {
        "mirrord": median([run["first"] for run in ours]),
        "poll": median([run["poll"] for run in ours]),
        "serial": median(theirs),
        "serial without provenance": median(bare),
    }


def show(found: dict[str, Any], given: argparse.Namespace) -> None:
    """Print for people."""
    for name, steps in found["indexes"].items():
        print(f"index of {name}, medians of {given.runs} (helm: what it takes longer than with one entry)")
        for step, took in steps.items():
            print(f"  {step:10}{took['wall']:>8.2f} s{took['cpu']:>8.2f} s CPU{took['memory']:>8.0f} MiB")
        for binary in helms():
            wall, cpu = (steps["parse"][key] / steps[binary][key] for key in ("wall", "cpu"))
            print(f"  parse / {binary}: {wall:.2f} of its time, {cpu:.2f} of its CPU")
    downloads = found["downloads"]
    ours = downloads["mirrord"]
    print(f"{given.charts} new charts, {ROUND_TRIP:.3f} s round trips: {ours['wall']:.2f} s, {ours['cpu']:.2f} s CPU")
    for name in ("serial", "serial without provenance"):
        print(f"  {name}: {downloads[name]['wall']:.2f} s; ratio {ours['wall'] / downloads[name]['wall']:.2f}")
    print(f"a poll when nothing changed: {found['downloads']['poll']['cpu'] * 1000:.1f} ms CPU")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--charts", type=int, default=200, help="new charts (default 200)")
    parser.add_argument("--index", nargs="*", default=[], help="indexes to read instead of grown ones")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        found = {
            "indexes": measure_indexes(given, Path(folder)),
            "downloads": measure_downloads(given, Path(folder)),
        }
    if given.json:
        print(json.dumps(found))
    else:
        show(found, given)


if __name__ == "__main__":
    main()
