"""What is written for people must match the program: commands, options, keys, routes, series, links, examples.

The command tables of README.md and docs/reference/cli.md are made from the program. To write them anew after a change:
MIRRORD_WRITE_DOCS=1 pytest tests/test_docs.py
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from mirrord import errors
from mirrord.cli.docs import sites
from mirrord.cli.grammar import COMMANDS
from mirrord.cli.results import mark
from mirrord.config.check import known_keys
from mirrord.config.load import read_folder
from mirrord.config.schema import file_schema, keys_of
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Result, Run
from mirrord.report import log_names, status
from mirrord.report.documents import run_document
from mirrord.report.metrics import Metrics
from mirrord.report.schemas import status_schema
from mirrord.report.site.markdown import markdown
from mirrord.report.words import LANGUAGES
from mirrord.serve.app import page_groups
from mirrord.serve.asking import SYNC_PATH
from mirrord.serve.description import description
from mirrord.serve.hooks import HOOKS
from mirrord.syncer.port import load_syncers
from mirrord.testing import Registry, build_image, push
from tests.support import alerts, registrykinds
from tests.support.frontserver import Shown
from tests.support.manpage import manpage
from tests.support.manual import models, rewritten

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "CHANGELOG.md", ROOT / "bench/README.md", *DOCS]
CONFIGURATION = {"settings", "hosts", "targets", "mirrors"}
SCHEMA = "docs/reference/configuration.schema.json"


def pages() -> list[Any]:
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES]


def fences(page: Path, *languages: str) -> Iterator[str]:
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        if found[1] in languages:
            yield found[2]


def section(page: str, heading: str) -> str:
    text = (ROOT / page).read_text().partition(f"\n{heading}\n")[2]
    assert text, heading
    return re.split(r"\n##+ ", text)[0]


def first_column(text: str) -> set[str]:
    return set(re.findall(r"^\| `([^`|]+)` \|", text, re.MULTILINE))


def test_no_change_is_listed_twice() -> None:
    """Each entry of the changelog stands there once, however its lines are broken."""
    entries = re.split(r"\n(?=- |\n|#)", (ROOT / "CHANGELOG.md").read_text())
    words = [" ".join(entry.split()) for entry in entries if entry.startswith("- ")]
    assert len(words) > 100
    assert [one for one in dict.fromkeys(words) if words.count(one) > 1] == []


# The command line


def command_table() -> str:
    first = {name: (COMMANDS[name].help or "").split("\n\n")[0] for name in COMMANDS}
    rows = [f"| `mirrord {name}` | {text} |" for name, text in first.items()]
    return "\n".join(["| command | |", "|---|---|", *rows]) + "\n"


def parameters(command: Any) -> Iterator[str]:
    for parameter in command.params:
        if getattr(parameter, "hidden", False):
            continue
        variable = f" Environment: `{parameter.envvar}`." if getattr(parameter, "envvar", None) else ""
        names = f"`{(parameter.metavar or '').strip('[.]')}`"
        if parameter.param_type_name == "option":
            value = "" if parameter.is_flag else f" {parameter.metavar}"
            names = ", ".join(f"`{name}{value}`" for name in parameter.opts)
        yield f"| {names} | {parameter.help}{variable} |"


def usage(name: str, command: Any) -> str:
    words = [parameter.metavar for parameter in command.params if parameter.param_type_name == "argument"]
    return " ".join([f"mirrord {name}", *words, "[OPTIONS]"])


def paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.strip().split("\n\n"):
        if paragraph.startswith("\b\n"):
            examples = paragraph.splitlines()[1:]
            yield "\n".join(["```console", *examples, "```"])
        else:
            yield " ".join(paragraph.split())


def reference() -> str:
    parts = [
        "# Command line",
        "Generated from the program, as is `mirrord COMMAND --help`. With `--json` a command prints one line of JSON",
        'with the same values, and errors as `{"error": {"code": ..., "message": ...}}`. [Exit codes](exit-codes.md);',
        "[words of results](exit-codes.md#words-of-results); [keys of `--json`](exit-codes.md#keys-of---json).",
        "\n" + command_table().rstrip(),
    ]
    for name in COMMANDS:
        command = COMMANDS[name]
        parts += [f"\n## `{name}`", f"\n```text\n{usage(name, command)}\n```"]
        parts += [f"\n{paragraph}" for paragraph in paragraphs(command.help or "")]
        rows = list(parameters(command))
        parts += ["\n" + "\n".join(["| option | meaning |", "|---|---|", *rows])] if rows else []
    parts.insert(1, "")
    return "\n".join(parts) + "\n"


def must_be(page: Path, wanted: str) -> None:
    if os.environ.get("MIRRORD_WRITE_DOCS"):
        page.write_text(wanted)
    assert page.read_text() == wanted, f"write it anew: MIRRORD_WRITE_DOCS=1 pytest {Path(__file__).name}"


def test_the_reference_of_commands_is_made_from_the_program() -> None:
    """docs/reference/cli.md says what the program says: every command, option, default and exit code."""
    must_be(ROOT / "docs/reference/cli.md", reference())


def test_the_man_page_is_made_from_the_program() -> None:
    """man/mirrord.1 says what the program says."""
    must_be(ROOT / "man/mirrord.1", manpage())


def test_the_readme_lists_the_commands() -> None:
    """README.md has a line for every command, in the program's own words."""
    readme = ROOT / "README.md"
    begin, end = "<!-- commands -->\n", "<!-- /commands -->\n"
    head, _, rest = readme.read_text().partition(begin)
    must_be(readme, f"{head}{begin}{command_table()}{end}{rest.partition(end)[2]}")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_about_the_shipped_mirrors_is_made_by_the_program(language: str) -> None:
    """docs/mirrors shows what `mirrord docs` writes of conf.d, in each language."""
    syncers = load_syncers()
    name = f"mirrors.{language}.md"
    found = sites(read_folder(ROOT / "conf.d", syncers, {}), syncers, list(LANGUAGES), "md")
    must_be(ROOT / "docs/mirrors" / name, markdown(found[name]))


def test_the_page_about_kinds_of_registries_is_made_from_the_profiles() -> None:
    """docs/reference/registries.md has each profile: whose it is, what it changes, and its source."""
    must_be(ROOT / "docs/reference/registries.md", registrykinds.page())


def test_the_page_about_alerts_is_made_from_the_rules() -> None:
    """docs/reference/alerts.md has each alert of deploy/prometheus, with what to do; a cluster gets the same alerts."""
    must_be(ROOT / alerts.PAGE, alerts.page())
    must_be(alerts.OBJECT, alerts.prometheus_rule())


def outline(page: Path) -> list[str]:
    """Return what a page consists of, in its order, without its words and comments: headings, rows, code, links."""
    text, found = page.read_text(), []
    for part in re.finditer(r"^```.*?^```|^#+|^\|.*|^!|`mirrord [^`]*`|\]\([^)]*\)", text, re.MULTILINE | re.DOTALL):
        if not part[0].startswith("|"):
            found.append(re.sub(r" +# .*", "", part[0]) if part[0].startswith("```") else part[0])
            continue
        cells = re.split(r"(?<!\\)\|", part[0].strip("|"))
        found.append(f"{len(cells)} cells " + " ".join(re.findall(r"`mirrord [a-z-]+`", cells[0])))
    return found


def test_the_chinese_readme_says_the_same() -> None:
    """README.zh-CN.md has the headings, tables, code, commands and links of README.md, in the same order."""
    english = [part for part in outline(ROOT / "README.md") if "README" not in part]
    assert [part for part in outline(ROOT / "README.zh-CN.md") if "README" not in part] == english


def usage_line(line: str) -> bool:
    """Return whether a line is the synopsis of a command, and no command."""
    return line.endswith("[OPTIONS]")


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of every `mirrord` command that a page tells people to type."""
    typed = [line[2:] for text in fences(page, "console") for line in text.splitlines() if line.startswith("$ ")]
    typed += [line for text in fences(page, "sh") for line in text.replace("\\\n", "").splitlines()]
    typed += re.findall(r"(?:- |run: )(mirrord .*)", "\n".join(fences(page, "yaml")))
    typed += [line for text in fences(page, "text") for line in text.splitlines() if not usage_line(line)]
    typed += re.findall(r"`(mirrord [^`]+)`", page.read_text())
    for line in typed:
        words = shlex.split(re.sub(r'"\$[^"]*"', "1", line), comments=True)
        if words[:1] == ["mirrord"]:
            yield words[1 : words.index(">") if ">" in words else None]


@pytest.mark.parametrize("page", pages())
def test_commands_can_be_typed(page: Path) -> None:
    """Every command in a text exists, with these options, and its arguments are understood."""
    for words in commands(page):
        if words in (["--version"], ["COMMAND"], ["COMMAND", "--help"]) or " ".join(words) in COMMANDS:
            continue
        name = next((name for name in (words[0], " ".join(words[:2])) if name in COMMANDS), "")
        assert name, words
        COMMANDS[name].make_context(name, words[len(name.split()) :])


# Configuration


def test_the_manual_is_made_from_the_models() -> None:
    """The tables of docs/reference/configuration.md are the keys of the models, their defaults and descriptions."""
    page = ROOT / "docs/reference/configuration.md"
    must_be(page, rewritten(page.read_text()))


@pytest.mark.parametrize("model", [*models()])
def test_every_key_is_described(model: type[BaseModel]) -> None:
    """Every key has a description that is a sentence: in the manual, and in editors by the schema."""
    texts = {key.name: key.description for key in keys_of(model)}
    assert set(texts) == known_keys(model)
    assert [name for name, text in texts.items() if not re.fullmatch(r"[`A-Z].*\.", text)] == []


def test_the_schema_for_editors_is_made_from_the_models() -> None:
    """docs/reference/configuration.schema.json is what `mirrord schema` prints."""
    must_be(ROOT / SCHEMA, json.dumps(file_schema(load_syncers()), indent=2, ensure_ascii=False) + "\n")


@pytest.mark.parametrize("example", sorted((ROOT / "conf.d").glob("*")))
def test_examples_name_the_schema(example: Path) -> None:
    """Editors find the schema by the first line of each example, from a clone."""
    first, _, _ = example.read_text().partition("\n")
    assert first.startswith("# yaml-language-server: $schema=")
    assert (example.parent / first.partition("=")[2]).resolve() == ROOT / SCHEMA


@pytest.mark.parametrize("page", pages())
def test_configurations_load(page: Path, tmp_path: Path) -> None:
    """Every configuration in a text is checked without a problem or a notice, also without the secrets it names.

    Other YAML is YAML.
    """
    for number, text in enumerate(fences(page, "yaml")):
        found = yaml.safe_load(text)
        assert isinstance(found, dict)
        if not set(found) <= CONFIGURATION | {"front", "names", "pointing", "asking", "pull_requests", "webhook"}:
            continue
        folder = tmp_path / f"{number}"
        folder.mkdir()
        (folder / "conf.yaml").write_text(text)
        read = read_folder(folder, load_syncers(), {})
        assert read.notices == ()
        secrets = re.findall(r"\{(?:env|credential|file): |^ +(?:certificate|key|denied): /", text, re.MULTILINE)
        assert len(read.absent) == len(secrets)


@pytest.mark.parametrize("page", pages())
def test_examples_can_be_read(page: Path) -> None:
    """JSON and TOML in a text are JSON and TOML."""
    for text in fences(page, "json"):
        json.loads(text)
    for text in fences(page, "toml"):
        tomllib.loads(text)


def test_the_readme_shows_a_real_configuration() -> None:
    """README.md has a whole configuration with both kinds of mirror, in not much more than twenty lines."""
    text = next(text for text in fences(ROOT / "README.md", "yaml"))
    assert set(yaml.safe_load(text)) == CONFIGURATION
    assert len(text.splitlines()) <= 22


# HTTP, metrics, logs, errors


def test_routes_are_documented() -> None:
    """Every route and every front is in docs/reference/http.md, and nothing else."""
    shown = Shown(None)  # type: ignore[arg-type]  # they need no services
    served = {path for part in page_groups(shown) for path in (*part.pages(), *part.below())}
    fronts = (syncer.front for syncer in load_syncers().values())
    prefixes = {prefix for front in fronts if front for prefix in front.prefixes}
    written = {HOOKS, SYNC_PATH}
    assert first_column(section("docs/reference/http.md", "## Routes")) == served | prefixes | written


def test_the_schema_of_the_status_is_made_from_the_values() -> None:
    """docs/reference/status.schema.json is what /api/v1/status.schema.json answers."""
    must_be(ROOT / "docs/reference/status.schema.json", json.dumps(status_schema(), indent=2) + "\n")


def test_the_lists_of_the_api_are_documented() -> None:
    """Every path of the OpenAPI document is in docs/reference/http.md."""
    text = section("docs/reference/http.md", "## `/api/v1/`") + section("docs/reference/http.md", "## Routes")
    paths = [path.replace("{", "<").replace("}", ">") for path in description()["paths"]]
    assert [path for path in paths if f"`{path}`" not in text] == []


def test_the_status_document_is_documented() -> None:
    """Every key of /status is in docs/reference/http.md, and nothing else."""
    text = section("docs/reference/http.md", "## `/status`")
    whole, _, mirror = text.partition("Each mirror:")
    assert first_column(whole) == set(status.Status.__annotations__)
    assert first_column(mirror) == {*status.MirrorStatus.__annotations__, *status.TargetStatus.__annotations__}
    inner = (status.TargetStatus, status.ErrorStatus, status.Running)
    assert all(f"`{key}`" in mirror for kind in inner for key in kind.__annotations__)


def test_metrics_are_documented() -> None:
    """Every series is in docs/reference/http.md with its labels, and nothing else."""
    metrics = Metrics("0")
    names = set(re.findall(r"^# HELP (mirrord_\w+)", metrics.text({}).decode(), re.MULTILINE))
    text = section("docs/reference/http.md", "## Metrics")
    assert {name for name in first_column(text) if name.startswith("mirrord_")} == names
    for name in names:
        series: Any = metrics.registry.collectors._names_to_collectors[name]
        row = next(line for line in text.splitlines() if f"`{name}`" in line)
        assert re.findall(r"`(\w+)`", row.split("|")[2]) == list(series._labelnames), name


@pytest.mark.parametrize("page", pages())
def test_series_in_texts_exist(page: Path) -> None:
    """Every series that a text names, in an alert for instance, is one that the program has."""
    known = set(re.findall(r"^# HELP (mirrord_\w+)", Metrics("0").text({}).decode(), re.MULTILINE))
    assert set(re.findall(r"\bmirrord_[a-z_]+[a-z]\b", page.read_text())) <= known


def test_log_lines_are_documented() -> None:
    """Every event name is in docs/reference/http.md, and nothing else."""
    assert first_column(section("docs/reference/http.md", "## Log lines")) == log_names.NAMES


def test_exit_and_error_codes_are_documented() -> None:
    """docs/reference/exit-codes.md has every exit code and every error code, and which ones are tried again."""
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.MirrordError)]
    exits = {int(code) for code in first_column(section("docs/reference/exit-codes.md", "## Exit codes"))}
    assert exits == {0, 2, 130, *(kind.exit_code for kind in kinds)}
    text = section("docs/reference/exit-codes.md", "## Error codes")
    told = dict(re.findall(r"^\| `(\w+)` \| (yes|no) \|", text, re.MULTILINE))
    assert told == {code: "yes" if kind.retry else "no" for code, kind in errors.KINDS.items()}


def test_words_of_results_are_documented() -> None:
    """docs/reference/exit-codes.md has each word that can be the result of a run or of a step, and nothing else."""
    runs, steps = section("docs/reference/exit-codes.md", "## Words of results").split("| result of a step |")
    assert first_column(runs) == {result.value for result in Result}
    step = Step(Action.COPY, "v1", "", "one", ("v1",), "")
    deleted = Receipt(replace(step, action=Action.DELETE), Outcome.DONE)
    assert first_column(steps) == {mark(deleted), *(mark(Receipt(step, outcome)) for outcome in Outcome)}


def test_keys_of_json_are_documented() -> None:
    """docs/reference/exit-codes.md has the keys of plans, runs and receipts, and of steps those that people use."""
    rows = re.findall(
        r"^\| a (\w+) \| (.*) \|$", section("docs/reference/exit-codes.md", "## Keys of `--json`"), re.MULTILINE
    )
    told = {name: set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", keys))) for name, keys in rows}
    now, step = datetime.now(UTC), Step(Action.COPY, "v1", "", "one", ("v1",), "")
    plan = Plan("m", "image", now, (step,))
    run = run_document(Run("m", "image", "command", now, now, plan, (Receipt(step, Outcome.DONE),)))
    documents = {"plan": run["plan"], "run": run, "receipt": run["receipts"][0]}
    for name, document in documents.items():
        assert told[name] == set(document), name
    assert told["step"] < set(run["receipts"][0]["step"])


# Links and examples


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link leads to a file or folder that is there, and to a heading that is in it."""
    for link, heading in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
        if not link.startswith(("http://", "https://")):
            there = page.parent / link if link else page
            assert there.exists(), link
            assert not heading or heading in anchors(there), f"{link}#{heading}"


def anchors(page: Path) -> list[str]:
    """Return the names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("page", pages())
def test_tables_are_whole(page: Path) -> None:
    """Every row of a table has as many cells as its heading, and something in the first one."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        heading, *rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()]
        assert [row for row in rows if len(row) != len(heading) or not row[0].strip()] == []


PRIVATE = re.compile(r"\b(told|heeds?|outranks?|believe[sd]?|bears?|goes on|go on|gone on with)\b", re.IGNORECASE)


@pytest.mark.parametrize("page", [page for page in DOCS if page.parent.name != "adr"], ids=lambda page: page.name)
def test_words_are_the_fields(page: Path) -> None:
    """Texts say reported, applies, overrides, trusted, continues, as all manuals do."""
    assert PRIVATE.findall(page.read_text()) == []


def test_every_page_can_be_found() -> None:
    """Every page of docs is linked from README.md, or from a folder that it links."""
    readme = (ROOT / "README.md").read_text()
    lost = [str(page.relative_to(ROOT)) for page in DOCS if f"({page.relative_to(ROOT)})" not in readme]
    assert [page for page in lost if not page.startswith("docs/adr/")] == []


def test_the_page_on_kubernetes_names_every_file() -> None:
    """docs/how-to/kubernetes.md says of each file of deploy/kubernetes what to edit in it."""
    text = (ROOT / "docs/how-to/kubernetes.md").read_text()
    assert first_column(text) == {file.name for file in (ROOT / "deploy/kubernetes").iterdir()}


def test_decisions_are_numbered() -> None:
    """ADRs are numbered without a gap, and their headings carry the number."""
    found = sorted((ROOT / "docs/adr").glob("*.md"))
    assert [path.name[:4] for path in found] == [f"{number:04}" for number in range(1, len(found) + 1)]
    assert all(path.read_text().startswith(f"# {number}. ") for number, path in enumerate(found, 1))


async def test_the_copy_of_the_readme_works(tmp_path: Path) -> None:
    """The README's `mirrord copy` does what its output says, typed as it stands there (on free ports)."""
    text = next(text for text in fences(ROOT / "README.md", "console") if text.startswith("$ mirrord copy"))
    async with Registry() as source, Registry() as one, Registry() as other:
        image = build_image()
        await push(image, source, "team/app", ["v1"])
        line = text.splitlines()[0].removeprefix("$ ")
        for port, registry in ((5000, source), (5001, one), (5002, other)):
            line = line.replace(f"127.0.0.1:{port}", registry.host)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *shlex.split(line)), cwd=tmp_path, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output
        assert one.tags == {"team/app": {"v1": image.digest}}
        assert other.tags == {"mirror/app": {"stable": image.digest}}
        assert source.count("GET", "/blobs/") == len(image.blobs)
    assert (tmp_path / "out" / "index.json").is_file()
    shown, printed = (re.sub(r"[\d.]+ (?:[KMG]i)?B|[\d.]+ s", "#", line) for line in (text, output.decode()))
    assert shown.splitlines()[1] == printed.splitlines()[0]
    words = output.decode().split()
    assert [word for word in text.splitlines()[2].split() if word not in words] == []


def test_the_page_on_architecture_names_modules_that_exist() -> None:
    """Who looks for a module that docs/explanation/architecture.md names finds it, by its path or the end of it."""
    page = (ROOT / "docs/explanation/architecture.md").read_text()
    named = set(re.findall(r"`([\w/]+\.py)`", page))
    modules = [
        f"/{path.relative_to(ROOT)}" for folder in ("mirrord", "tests") for path in (ROOT / folder).rglob("*.py")
    ]
    assert [name for name in sorted(named) if not any(module.endswith(f"/{name}") for module in modules)] == []
    assert len(named) > 40


def test_the_page_on_architecture_has_the_floors_of_the_contract() -> None:
    """Whoever looks where a package may be imported finds the floors that import-linter checks, in their order."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    floors = [[name.strip() for name in floor.replace("mirrord.", "").split("|")] for floor in contracts[0]["layers"]]
    shown = section("docs/explanation/architecture.md", "## Floors").split("```")[1]
    lines = [line.split("  ")[0] for line in shown.splitlines()[1:] if not line.startswith(" ")]
    assert [re.findall(r"[a-z]+", floor) for line in lines for floor in line.split(">")] == floors
