"""`mirrord takedown`: deny something from now on and remove it everywhere, lift that, or list what is denied."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from mirrord.cli.ask import ask
from mirrord.cli.console import say, say_json, short, table
from mirrord.commands import GetDenied, Lift, Takedown
from mirrord.errors import UsageError
from mirrord.model.takedown import TakenDown


def takedown(
    what: str | None,
    item: str | None,
    *,
    config: Path | None,
    state: Path | None,
    reason: str | None,
    lift: bool,
    adopt: bool,
    verbose: bool,
    json: bool,
) -> int:
    """Run the command and return its exit code."""
    if what is None:
        if lift or reason or adopt:
            raise UsageError("say what: a reference, or the name of a mirror")
        return _list(config, state, json=json)
    if lift:
        if reason or adopt:
            raise UsageError("--lift goes with no --reason and no --adopt")
        place = ask(Lift(what, item or ""), config, state, quiet=json)
        if json:
            say_json({"lifted": place})
        else:
            named = f"{what} {item}" if item else what
            say(f"{named}: denied no longer (was {place}); the next run mirrors it again where it is wanted")
        return 0
    done = ask(Takedown(what, reason or "", item or "", adopt), config, state, quiet=json)
    if json:
        say_json(asdict(done))
    else:
        _tell(done, f"{what} {item}" if item else what, verbose=verbose)
    return 2 if done.left else 0


def _tell(done: TakenDown, asked: str, *, verbose: bool) -> None:
    digests = f", with {len(done.digests)} digests" if len(done.digests) > 1 else ""
    say(f"{done.what}: denied by {done.place}{digests}: {done.reason}")
    if done.remark:
        say(f"remark: {done.remark}")
    purged = "1 name or manifest" if done.purged == 1 else f"{done.purged} names and manifests"
    say(f"local and cache: {purged} removed")
    if not (done.purged or done.removed or done.left):
        say("nothing of it was here or at a target; check the name if something should have been")
    digest = str if verbose else short
    rows = [(one.mirror, one.target, one.name, digest(one.digest)) for one in done.removed]
    if rows:
        table(("MIRROR", "TARGET", "REMOVED", "WAS"), rows)
    if done.left:
        table(
            ("MIRROR", "TARGET", "STILL THERE", "WHY"),
            [(one.mirror, one.target, one.what, one.why) for one in done.left],
        )
        adoptable = [one.adoptable for one in done.left]
        if any(adoptable):
            say(
                "what is not in the ledger was not deleted: the database was lost, or somebody else wrote it; to remove"
                f" it all the same: mirrord takedown {asked} --adopt"
            )
        if not all(adoptable):
            say(f"run the same command again when {'the rest' if any(adoptable) else 'that'} is mended")


def _list(config: Path | None, state: Path | None, *, json: bool) -> int:
    denied = ask(GetDenied(), config, state, quiet=json)
    if json:
        say_json({"denied": [asdict(one) for one in denied]})
    elif denied:
        rows = [(one.what, str(one.digests or ""), one.at, one.reason, one.place) for one in denied]
        table(("DENIED", "DIGESTS", "SINCE", "REASON", "ENTRY"), rows)
        for one in denied:
            if one.still:
                say(f"{one.what} may still be there; run `mirrord takedown {one.what}`:")
                say("\n".join(f"  {name}" for name in one.still))
    else:
        say("nothing is denied")
    return 0
