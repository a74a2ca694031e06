"""The templates of deploy/issues ask what mirrord reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mirrord.asking.issues import ASKS
from mirrord.asking.titles import read_platforms
from mirrord.config.issues import IssueKeys

FOLDER = Path(__file__).parents[2] / "deploy/issues"
LABEL = IssueKeys.model_fields["label"].default
PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/ppc64le", "linux/riscv64", "linux/s390x")


def test_the_form_of_github() -> None:
    """It sets the label, and leaves the title to its author; GitHub writes a line with a box for each platform."""
    form = yaml.safe_load((FOLDER / "sync-image.yml").read_text())
    assert (form["labels"], form["title"]) == ([LABEL], "")
    assert set(form) == {"name", "description", "title", "labels", "body"}
    (boxes,) = [part for part in form["body"] if part["type"] == "checkboxes"]
    written = [option["label"] for option in boxes["attributes"]["options"]]
    assert read_platforms("\n".join(f"- [X] {label}" for label in written)) == PLATFORMS
    assert read_platforms("\n".join(f"- [ ] {label}" for label in written)) == ()


@pytest.mark.parametrize("name", ["sync-image.md", "ISSUE_TEMPLATE.zh-CN.md"])
def test_the_texts_of_gitea_and_gitee(name: str) -> None:
    """They have the mark, no platform unless one is ticked, and nothing in hidden comments counts."""
    text = (FOLDER / name).read_text()
    if text.startswith("---\n"):
        head, _, text = text.removeprefix("---\n").partition("---\n")
        assert yaml.safe_load(head)["labels"] == [LABEL]
    assert ASKS in text
    assert read_platforms(text) == ()
    assert read_platforms(text.replace("[ ]", "[x]")) == PLATFORMS
