"""What a takedown says of this machine, before and after it waited for runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.daemon.takedown import Takedowns
from mirrord.errors import StorageError
from mirrord.names.denied import Denied
from mirrord.testing import Registry, build_image, push
from tests.support.verifying import opened

CONFIGURATION = """\
settings: {{denied: {denied}}}
mirrors: [{{name: app, kind: image, from: {{repository: "{source}/team/app", tags: [main]}}, to: local}}]
"""


@pytest.mark.parametrize("broken", [{1}, {2}, {1, 2}])
async def test_what_could_not_be_removed_here_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: set[int]
) -> None:
    """Whether the disk fails at the first removal, at the one after the runs, or at both."""
    (tmp_path / "denied.yaml").touch()
    async with Registry() as source:
        await push(build_image(layers=1, layer_size=100), source, "team/app", ["main"])
        text = CONFIGURATION.format(source=source.host, denied=tmp_path / "denied.yaml")
        async with opened(tmp_path, text) as one:
            purges = Takedowns._purge_front
            calls: list[str] = []

            async def front(self: Takedowns, kind: str, denied: Denied) -> int:
                calls.append(kind)
                if kind == "image" and calls.count(kind) in broken:
                    raise StorageError("the disk is broken")
                return await purges(self, kind, denied)

            monkeypatch.setattr(Takedowns, "_purge_front", front)
            done = await Takedowns(one.dispatcher.runtime, {}).take_down(f"{source.host}/team/app:main", "asked to")
            assert calls.count("image") == 2
            assert [(left.target, left.why) for left in done.left] == [
                ("front", "the disk is broken; it is not served all the same")
            ]
