"""`mirrord check`: the problems of a configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from mirrord.cli.console import note, say, say_json, table
from mirrord.cli.folders import config_folder, configuration, state_folder
from mirrord.config.crossings import check_parts
from mirrord.config.front import check_fronts
from mirrord.errors import ConfigError
from mirrord.pointing.places import webhook_places
from mirrord.printable import size
from mirrord.syncer.addresses import addresses_of
from mirrord.syncer.port import load_syncers
from mirrord.syncer.values import Addresses, Mirror
from mirrord.tokens import TokenFile
from mirrord.wire.certificate import expiry_notice, expiry_of
from mirrord.wire.host import HostBook


def check(*, config: Path | None, json: bool) -> int:
    """Run the command and return its exit code."""
    folder, syncers = config_folder(config), load_syncers()
    try:
        read = configuration(folder, syncers)
        of_parts = check_parts(read.mirrors, syncers)
        fronts = check_fronts(read.fronts, syncers, read.names)
        problems = webhook_places(read).problems if read.webhook else ()
    except ConfigError as error:
        if not json:
            raise
        say_json({"ok": False, "problems": list(error.problems), "notices": list(error.notices)})
        return error.exit_code
    notices = [
        *(one.problem for one in read.absent),
        *read.notices,
        *of_parts,
        *problems,
        *(notice for one in fronts.values() for notice in one.notices),
    ]
    if read.needs_token():
        notices += TokenFile(Path(read.settings.tokens or state_folder(None, config))).notices()
    if tls := read.settings.tls:
        notices += filter(None, [expiry_notice(tls.certificate, expiry_of(tls.certificate), datetime.now(UTC))])
    if not read.mirrors and not read.fronts:
        notices.append(f"{folder}: no mirrors, so there is nothing to do; list them below `mirrors:`")
    addresses = addresses_of(read.mirrors, syncers, read.settings.address())
    notices += _visibility(read.mirrors, addresses, read.book)
    for notice in notices:
        note(f"notice: {notice}")
    mirrors = [(mirror, addresses[mirror.name]) for mirror in read.mirrors]
    if json:
        rows = [
            {"name": one.name, "kind": one.kind, "from": at.source, "to": dict(at.targets), "address": at.served}
            for one, at in mirrors
        ]
        upstreams = {kind: dict(rules.upstreams) for kind, rules in read.fronts.items()}
        files = [str(file) for file in read.files]
        say_json({"ok": True, "files": files, "mirrors": rows, "fronts": upstreams, "notices": notices})
        return 0
    if mirrors:
        lines = [(mirror.name, mirror.kind, at.source, ", ".join(map(at.shown, at.targets))) for mirror, at in mirrors]
        table(("MIRROR", "KIND", "FROM", "TO"), lines)
    for kind, rules in read.fronts.items():
        hosts = ", ".join(f"{host} with credentials" if ours else host for host, ours in rules.upstreams.items())
        found = f"{_count(fronts[kind].lines, 'line')} of allow, cache {size(fronts[kind].cache)}"
        say(f"front.{kind}: {_count(len(rules.upstreams), 'upstream')} ({hosts}), {found}")
    counted = ", ".join((_count(len(read.files), "file"), _count(len(read.mirrors), "mirror"), "no problem"))
    say(f"{folder}: {counted}" + (f", {_count(len(notices), 'notice')}" if notices else ""))
    return 0


def _visibility(mirrors: Iterable[Mirror], addresses: Mapping[str, Addresses], book: HostBook) -> list[str]:
    """Return a sentence for each target whose registry decides who sees a new repository."""
    places = {
        target.name: (target.origin, addresses[mirror.name].targets[target.name])
        for mirror in mirrors
        for target in mirror.targets
    }
    found = []
    for name, (origin, place) in sorted(places.items()):
        host = place.removeprefix("oci://").partition("/")[0]
        profile = book.policy(host).registry
        if profile.visible:
            what = f"repositories that a push makes at {profile.title} {profile.visible}"
            found.append(f"{origin}: targets.{name}: {what}")
    return found


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
