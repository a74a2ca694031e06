"""The JSON Schema for editors agrees with the program: about every example, and about mistakes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from mirrord.config.load import read_folder
from mirrord.config.schema import file_schema
from mirrord.errors import ConfigError
from mirrord.syncer.port import Syncer, load_syncers

ROOT = Path(__file__).parents[2]
SECTIONS = {"settings", "hosts", "names", "targets", "mirrors"}
SCHEMA = file_schema(load_syncers())
VALIDATOR = Draft202012Validator(SCHEMA)
MIRROR = "mirrors: [{{name: m, kind: {}, to: local, from: {}}}]"


def examples() -> Iterator[Any]:
    for folder in ("conf.d", "deploy"):
        for file in sorted((ROOT / folder).rglob("*.yaml")):
            if file.parent.name == "templates":  # of a chart: no YAML before it is rendered
                continue
            yield pytest.param(file.read_text(), id=str(file.relative_to(ROOT)))
    for page in (*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "docs").rglob("*.md"))):
        for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)):
            yield pytest.param(text, id=f"{page.name}-{number}")


def judged(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(text))]


def loads(folder: Path, text: str) -> bool:
    (folder / "a.yaml").write_text(text)
    try:
        read_folder(folder, load_syncers(), {})
    except ConfigError:
        return False
    return True


def test_the_schema_is_one() -> None:
    """It is a schema of draft 2020-12, in which every reference leads somewhere."""
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    references = set(re.findall(r"#/\$defs/([\w-]+)", str(SCHEMA)))
    assert references == set(SCHEMA["$defs"])


@pytest.mark.parametrize("text", [*examples()])
def test_examples_are_valid(text: str) -> None:
    """Every configuration that we hand out is valid: of conf.d, of deploy, and in the docs."""
    documents = [found for found in yaml.safe_load_all(text) if isinstance(found, dict) and set(found) <= SECTIONS]
    assert [error.message for found in documents for error in VALIDATOR.iter_errors(found)] == []


def test_configurations_are_among_the_examples() -> None:
    """What is looked at above is more than a few."""
    found = [text for example in examples() for text in example.values]
    assert sum(set(yaml.safe_load(text) or ()) <= SECTIONS for text in found if "\n---" not in text) >= 15


@pytest.mark.parametrize(
    "text",
    [
        "",
        "settings:\nhosts:\ntargets:\nmirrors:\n",
        MIRROR.format("image", "{repository: a.example/b, tags: [1.29, '1.2*', v1]}"),
        MIRROR.format("image", "{archive: /srv/a.tar, tag: 'quay.io/a/b:v1', names: [v1, latest]}"),
        MIRROR.format("helm", "https://a.example, versions: {'*': '>=1', app: 1.2}, skip: {app: [1.2, '2.0']}"),
        MIRROR.format("helm", "oci://a.example/b, versions: ^3.1, newest: 3, min_age: 1d12h, max_loss: 0"),
        MIRROR.format("git", "https://a.example/b, refs: ['refs/heads/*'], backups: 0s, every: 90s, jitter: 10s"),
        MIRROR.format("git", "git@a.example:b/c.git, cron: '17 3 * * *', timezone: Asia/Shanghai, trust: 0s"),
        "settings: {parallel: 4, spool: {budget: 500 MB}, log: {format: json}, trust: 1h30m}",
        "hosts: {a.example: {bandwidth: 40MiB/s, insecure: true, requests: 2, token_realms: ['https://b.example']}}",
    ],
)
def test_what_the_program_takes_is_valid(tmp_path: Path, text: str) -> None:
    """What the program takes is valid for editors, also numbers of YAML where text is meant."""
    assert loads(tmp_path, text)
    assert judged(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "mirorrs: []",
        "mirrors: {m: {kind: image}}",
        "targets: [a]",
        "settings: {listn: 'a:1'}",
        "settings: {trust: 12}",
        "settings: {trust: 12 hours}",
        "settings: {parallel: 0}",
        "settings: {spool: {budget: 20}}",
        "settings: {log: {level: loud}}",
        "hosts: {a.example: {reqests: 2}}",
        "hosts: {a.example: {insecure: maybe}}",
        "hosts: {a.example: {bandwidth: 40MiB}}",
        "hosts: {a.example: {auth: {username: u}}}",
        "hosts: {a.example: {auth: {username: u, password: hunter2}}}",
        "hosts: {a.example: {auth: {username: u, password: {env: A, file: /b}}}}",
        "targets: {local: {kind: image, to: a.example/b}}",
        "targets: {My_target: {kind: image, to: a.example/b}}",
        "targets: {t: {kind: image}}",
        "targets: {t: {kind: iamge, to: a.example/b}}",
        "targets: {t: {kind: image, to: a.example/b, api: coding}}",
        "targets: {t: {kind: helm, to: /srv/a, api: harbor}}",
        "targets: {t: {kind: git, to: 'https://a.example/b', visibility: internal}}",
        MIRROR.format("image", "a.example/b:v1"),
        MIRROR.format("image", "{repository: a.example/b, layout: /srv/b}"),
        MIRROR.format("image", "{tags: [v1]}"),
        MIRROR.format("image", "{repository: a.example/b}, platforms: []"),
        MIRROR.format("image", "{repository: a.example/b}, publish: all"),
        MIRROR.format("image", "{repository: a.example/b}, together_wait: 10"),
        MIRROR.format("helm", "{repository: 'https://a.example'}"),
        MIRROR.format("helm", "https://a.example, as: x"),
        MIRROR.format("helm", "https://a.example, newest: 0"),
        MIRROR.format("helm", "https://a.example, max_loss: 2"),
        MIRROR.format("git", "https://a.example/b, refs: []"),
        MIRROR.format("git", "https://a.example/b, lfs: some"),
        MIRROR.format("git", "https://a.example/b, every: 1h, cron: '1 * * * *'"),
        MIRROR.format("git", "https://a.example/b, every: 1h, timezone: UTC"),
        MIRROR.format("git", "https://a.example/b").replace("name: m", "name: M_1"),
        MIRROR.format("git", "https://a.example/b").replace("name: m, ", ""),
        MIRROR.format("git", "https://a.example/b").replace("to: local, ", ""),
        MIRROR.format("git", "https://a.example/b").replace("to: local", "to: []"),
        MIRROR.format("git", "https://a.example/b").replace("kind: git, ", ""),
        MIRROR.format("svn", "https://a.example/b"),
    ],
)
def test_mistakes_are_invalid(tmp_path: Path, text: str) -> None:
    """What editors mark the program refuses, and the other way round for what a schema can tell."""
    assert not loads(tmp_path, text)
    assert judged(text) != []


def test_kinds_of_others_are_in_it(syncers: Mapping[str, Syncer]) -> None:
    """Kinds of other distributions that are installed are in the schema, with their own keys."""
    schema = file_schema(syncers)
    Draft202012Validator.check_schema(schema)
    assert {"other-mirror", "other-target"} <= set(schema["$defs"])
    assert "together_wait" in schema["$defs"]["other-mirror"]["properties"]
