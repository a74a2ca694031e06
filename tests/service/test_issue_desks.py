"""Repositories of several hosts that are called the same are apart."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mirrord.config.load import read_folder
from mirrord.daemon.issue_desks import IssueDesks
from mirrord.syncer.port import load_syncers
from tests.support.forge import MemoryAsker, MemoryFacts

HERE, THERE = "127.0.0.1:1", "127.0.0.1:2"


@pytest.mark.parametrize(("hosts", "short"), [((HERE,), True), ((HERE, THERE), False)])
async def test_a_webhook_is_of_one_host(tmp_path: Path, hosts: tuple[str, ...], short: bool) -> None:
    """The short name counts where it is clear; with the host it always does, and each rings in its own repository."""
    repositories = "".join(
        f"    - {{forge: gitea, repository: 'http://{host}/Acme/mirror', token: {{env: T}}, secret: {{env: S{at}}}}}\n"
        for at, host in enumerate(hosts)
    )
    (tmp_path / "a.yaml").write_text(f"asking:\n  to: local\n  allow: nginx\n  issues:\n{repositories}")
    environ = {"T": "a-token-123", "S0": "a-secret-0", "S1": "a-secret-1"}
    configuration = read_folder(tmp_path, load_syncers(), environ)
    runtime: Any = SimpleNamespace(
        snapshot=SimpleNamespace(configuration=configuration), store=MemoryFacts(), leads=True, fleet=None
    )
    desks = IssueDesks(runtime, MemoryAsker(), lambda *_, **__: None)
    await desks.follow()
    try:
        assert (desks.hook("gitea/acme/mirror") is not None) is short
        assert [one.name for one in desks.standing()] == [f"gitea/{host}/acme/mirror" for host in hosts]
        for at, host in enumerate(hosts):
            hook = desks.hook(f"gitea/{host}/acme/mirror")
            assert hook
            assert (hook.repository, hook.secret.reveal()) == ("Acme/mirror", f"a-secret-{at}")
        assert desks.hook("gitea/127.0.0.1:3/acme/mirror") is None
    finally:
        await desks.close()
