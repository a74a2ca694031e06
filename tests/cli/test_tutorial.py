"""docs/tutorial.md, typed literally: every command prints what the page shows.

After a change of what commands print: MIRRORD_WRITE_DOCS=1 pytest tests/cli/test_tutorial.py
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

from mirrord.testing.running import run
from mirrord.testing.stage import Stage, open_stage
from tests.support.commands import Desk, Served

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
FENCE = re.compile(r"^```(sh|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVED = "127.0.0.1:8080"
VARYING = (
    (re.compile(r"\b\d+(\.\d)? s\b"), "N s"),  # times
    (re.compile(r"\bin \d+ seconds\b"), "in N seconds"),
    (re.compile(r" +"), " "),  # widths of columns
)


def plain(text: str) -> str:
    """Return a text without what differs from run to run."""
    for pattern, instead in VARYING:
        text = pattern.sub(instead, text)
    return text


def typed(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console with what it prints."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


class Reader:
    """Somebody who types the tutorial: a folder, the addresses of the demo, and a daemon from step 6 on."""

    def __init__(self, desk: Desk, stage: Stage, page: str) -> None:
        self._desk = desk
        (source, east) = re.findall(r"^(?:SOURCE|EAST)=(.*)$", page, re.MULTILINE)
        self._addresses = {source: stage.source.host, east: stage.targets["east"].host}
        self.daemon: Served | None = None
        self._variables = ""

    async def type(self, text: str) -> str:
        """Type commands into a shell; return what they print, with the page's addresses."""
        there = {**self._addresses, **({SERVED: self.daemon.address} if self.daemon else {})}
        for shown, real in there.items():
            text = text.replace(shown, real)
        self._variables += "".join(re.findall(r"^[A-Z]+=.*\n", text, re.MULTILINE))
        environ = {**self._desk.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        whole = f"cd {self._desk.folder}\n{self._variables}{text.replace('curl ', 'curl -sS ')}"
        ran = await run("bash", "-euc", whole, env=environ)
        assert ran.status == 0, f"{text}\n{ran.output}"
        output = ran.output
        for shown, real in there.items():
            output = output.replace(real, shown)
        return output if output.endswith("\n") or not output else f"{output}\n"


async def test_the_tutorial_is_true(tmp_path: Path) -> None:
    """Each command works in the order of the page, and prints what is shown below it."""
    page = PAGE.read_text()
    written = page
    desk = Desk(tmp_path)
    async with open_stage() as stage, AsyncExitStack() as stack:
        reader = Reader(desk, stage, page)
        for language, text in FENCE.findall(page):
            if language == "sh" and "pip install" not in text and not text.endswith("mirrord demo\n"):
                if text.endswith("mirrord serve\n"):
                    reader.daemon = await stack.enter_async_context(desk.serving(MIRRORD_LISTEN="127.0.0.1:0"))
                    await reader.daemon.logged("run.finished")
                else:
                    assert await reader.type(text) == "", text
            for command, output in typed(text) if language == "console" else ():
                printed = await reader.type(f"{command}\n")
                if os.environ.get("MIRRORD_WRITE_DOCS"):
                    written = written.replace(f"$ {command}\n{output}", f"$ {command}\n{printed}", 1)
                else:
                    assert plain(printed) == plain(output), command
    assert reader.daemon is not None
    if written != page:
        PAGE.write_text(written)
