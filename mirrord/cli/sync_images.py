"""`mirrord sync IMAGE`: copy images once, as people may ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mirrord.asking.asked import AskedImage, AskState
from mirrord.cli.ask import ask_whom
from mirrord.cli.console import say, say_json
from mirrord.commands import AskImages
from mirrord.errors import ThrottledError
from mirrord.report.documents import adapter


def is_image(name: str) -> bool:
    """Whether a name can only be that of an image: a mirror has letters, digits and dashes alone."""
    return any(sign in name for sign in "/:.@")


def sync_images(
    images: Sequence[str], platforms: Sequence[str], *, config: Path | None, state: Path | None, quiet: bool, json: bool
) -> int:
    """Ask for images, say how they ended, and return the exit code of the command."""
    found, daemon = ask_whom(AskImages(tuple(images), tuple(platforms)), config, state, quiet=json or quiet)
    if json:
        say_json({"images": [adapter(AskedImage).dump_python(one, mode="json", exclude={"after"}) for one in found]})
    else:
        for one in found:
            if one.state is not AskState.DONE or not quiet:
                _say(one, goes_on=daemon)
    good = [one.state is AskState.DONE for one in found]
    if not any(good) and all(one.until for one in found):
        return ThrottledError.exit_code
    return 0 if all(good) else 2 if any(good) else 1


def _say(one: AskedImage, *, goes_on: bool) -> None:
    """Print how one ended, or until when it waits for a host; `goes_on` if a daemon continues it."""
    if one.state is not AskState.DONE:
        later = "; continues at" if goes_on else "; run it again after"
        later = f"{later} {one.until:%Y-%m-%d %H:%M} UTC" if one.until else ""
        say(f"{one.image}: {one.state.value}: {one.text or one.reason}{later}")
        return
    say(f"{one.image}: {'copied' if one.copied else 'is there already'}")
    for place in one.places:
        say(f"  {place}")
