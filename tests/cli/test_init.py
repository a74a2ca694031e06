"""`mirrord init` and `mirrord schema`: how a configuration begins."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from jsonschema import validate

from tests.support.commands import Desk, Said

Typed = Callable[..., Said]
SCHEMA = Path(__file__).parents[2] / "docs/reference/configuration.schema.json"


def test_a_configuration_that_works(desk: Desk, typed: Typed) -> None:
    """It writes one file, which `check` and editors accept, the schema that it names, and shows what comes next."""
    said = typed("init")
    assert (said.status, said.err) == (0, "")
    title, *commands = [line.partition("#")[0].strip() for line in said.out.splitlines()[1:]]
    assert (title, commands) == ("Next:", [f"mirrord {one} --config conf.d" for one in ("check", "plan", "serve")])
    schema, file = sorted((desk.folder / "conf.d").iterdir())
    assert (schema.name, file.name) == ("mirrord.schema.json", "mirrord.yaml")
    assert file.read_text().startswith("# yaml-language-server: $schema=mirrord.schema.json\n")
    assert schema.read_text() == typed("schema").out
    checked = typed(*commands[0].removeprefix("mirrord ").split())
    assert (checked.status, checked.err) == (0, "")
    assert "alpine  image  docker.io/library/alpine" in checked.out
    assert checked.out.splitlines()[-1] == "conf.d: 1 file, 1 mirror, no problem"
    validate(yaml.safe_load(file.read_text()), typed("schema").document)


def test_what_is_commented_out_works_too(desk: Desk, typed: Typed) -> None:
    """With every example of it uncommented the file is a configuration of all kinds, without a problem."""
    typed("init", "new/conf.d")
    file = desk.folder / "new/conf.d/mirrord.yaml"
    text = re.sub(r"^#(?= )(?=  )", "", file.read_text(), flags=re.MULTILINE)
    assert text.count("#") == file.read_text().count("#") - len(re.findall(r"^#  ", file.read_text(), re.MULTILINE))
    file.write_text(text)
    said = typed("check", "--config", "new/conf.d", "--json")
    assert said.status == 0, said
    assert [(one["name"], one["kind"]) for one in said.document["mirrors"]] == [
        ("alpine", "image"),
        ("tools", "image"),
        ("grafana", "helm"),
        ("crane", "git"),
    ]
    lacking, private = said.document["notices"]
    assert "GHCR_TOKEN is not set" in lacking
    assert "are private until somebody makes them public" in private
    validate(yaml.safe_load(text), typed("schema").document)


@pytest.mark.parametrize("name", ["mirrord.yaml", "other.yaml"])
def test_nothing_is_overwritten(desk: Desk, typed: Typed, name: str) -> None:
    """Where a configuration is already, nothing is written, the file is named, and the command that is shown works."""
    file = desk.configure("mirrors: []\n", name)
    said = typed("init")
    assert (said.status, said.out) == (64, "")
    what = "exists already, and nothing is overwritten; for another folder run `mirrord init my.d`"
    assert said.err == f"mirrord: conf.d/{name}: {what}\n"
    assert file.read_text() == "mirrors: []\n"
    assert [one.name for one in file.parent.iterdir()] == [name]
    assert typed("init", "my.d").status == 0
    assert typed("init").err.endswith("run `mirrord init my-2.d`\n")


def test_a_folder_that_cannot_be_written(desk: Desk, typed: Typed) -> None:
    """A file where the folder should be is an error that names it."""
    (desk.folder / "file").write_text("x")
    said = typed("init", "file")
    assert said.status == 64
    assert said.err == "mirrord: file: is a file; name a folder\n"


def test_the_schema_is_printed(typed: Typed) -> None:
    """`mirrord schema` prints the file that the examples name."""
    said = typed("schema")
    assert (said.status, said.err) == (0, "")
    assert said.out == SCHEMA.read_text()
