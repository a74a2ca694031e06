"""The digest of a configuration, by which replicas see that they have different ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mirrord.config.load import Configuration

Load = Callable[..., Configuration]
MIRROR = "{name: app, kind: image, from: {repository: 'ghcr.io/a/b:v1'}, to: local}"
TEXT = f"settings: {{parallel: 2, trust: 1h}}\nmirrors: [{MIRROR}]\n"


def test_what_machines_may_differ_in(load: Load) -> None:
    """Comments, the order of keys, and settings of a machine do not count."""
    other = f"# of two\nmirrors: [{MIRROR}]\nsettings: {{trust: 1h, listen: '127.0.0.1:0', log: {{level: debug}}}}\n"
    assert load(TEXT).digest == load(other).digest
    assert len(load(TEXT).digest) == 12
    assert load("{}").digest == load("settings: {parallel: 3}").digest


@pytest.mark.parametrize(("before", "after"), [(":v1", ":v2"), ("trust: 1h", "trust: 2h"), ("name: app", "name: b")])
def test_what_counts(load: Load, before: str, after: str) -> None:
    """What is mirrored, and how."""
    assert load(TEXT).digest != load(TEXT.replace(before, after)).digest
