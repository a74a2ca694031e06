"""`mirrord client-config`: what clients need to ask the mirror first."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from mirrord.cli.console import note, say, say_json
from mirrord.cli.folders import configuration
from mirrord.cli.list_fmt import read_named
from mirrord.commands import GetCatalog
from mirrord.errors import UsageError
from mirrord.files import storage_errors, write_durably
from mirrord.pointing.client.clients import CLIENTS, IMAGE_FILES
from mirrord.pointing.client.mirror import MARK, ClientFile, ClientSetup
from mirrord.pointing.mirrored import mirrored_images, other_names
from mirrord.pointing.places import Places
from mirrord.pointing.served import client_mirror
from mirrord.syncer.port import load_syncers

_LARGEST: Final = 1024 * 1024  # bytes of a PEM file
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def client_config(
    client: str,
    *,
    version: str | None,
    output: Path | None,
    no_fallback: bool,
    ca: Path | None,
    config: Path | None,
    state: Path | None,
    json: bool,
) -> int:
    """Run the command and return its exit code."""
    if client in CLIENTS:
        setup = _client(client, version, config, fallback=not no_fallback, ca=ca)
    else:
        for option, given in (("--version", version), ("--no-fallback", no_fallback), ("--ca", ca)):
            if given:
                raise UsageError(f"{option}: {client} names images and asks no registry by itself; leave it out")
        setup = _images(client, config, state)
    if output:
        written = _write(setup.files, output)
    if json:
        say_json({"client": client, "version": version, **asdict(setup)})
        return 0
    for number, file in enumerate(setup.files):
        what = "add to" if file.part else "file"
        if output:
            say(f"{written[number]}: {what} {file.path}")
        else:
            say(f"==> {what} {file.path}\n{file.text}")
    for line in (*([f"then: {setup.after}"] if setup.after else []), *setup.notes):
        note(line)
    return 0


def _client(client: str, version: str | None, config: Path | None, *, fallback: bool, ca: Path | None) -> ClientSetup:
    """Return what a client needs that asks a mirror by itself."""
    made = CLIENTS[client]
    wanted = made.version(version) if version is not None else None
    read = configuration(config, load_syncers())
    mirror, notices = client_mirror(read, fallback=fallback, ca=_certificates(ca) if ca else "")
    setup = made.setup(mirror, wanted)
    for notice in notices:
        note(f"notice: {notice}")
    return setup


def _images(client: str, config: Path | None, state: Path | None) -> ClientSetup:
    """Return the file that names what is mirrored."""
    from mirrord.cli.ask import ask  # noqa: PLC0415 - other clients need no state

    read = configuration(config, load_syncers())
    places = Places(read)
    parts = ask(GetCatalog(), config, state, quiet=True)
    images = mirrored_images((entry for part in parts for entry in part.entries), places, read.names)
    for problem in places.problems:
        note(f"notice: {problem}")
    if not images:
        raise UsageError(
            f"no mirrored image is at {' or '.join(places.to)}; run `mirrord sync` if nothing has run yet, else name"
            " targets of your mirrors, as in pointing: {to: [local]}"
        )
    return IMAGE_FILES[client].setup(images, other_names(images, read.names))


def _certificates(file: Path) -> str:
    """Return the certificates of a PEM file and nothing else of it: a private key may be in it, too.

    Raises:
        UsageError: it has none.
    """
    text = read_named(file, _LARGEST, "a PEM file with the authority of the mirror's certificate").decode("latin-1")
    parts = [part.partition(_END) for part in text.split(_BEGIN)[1:]]
    found = "".join(f"{_BEGIN}{inner}{_END}\n" for inner, end, _ in parts if end).replace("\r\n", "\n")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=found)
    except (ssl.SSLError, ValueError, TypeError) as error:  # when there is none, or one that is not ASCII
        raise UsageError(f"--ca {file}: holds no PEM certificate; give a file with BEGIN CERTIFICATE") from error
    return found


def _write(files: Sequence[ClientFile], folder: Path) -> list[Path]:
    """Write the files below a folder, and return where; a part of a file of somebody else is a file of its own.

    Raises:
        UsageError: a file is there that is not ours; nothing was written.
        StorageError: the disk said no.
    """
    places = [folder / (file.path.lstrip("/") + (".part" if file.part else "")) for file in files]
    for place, file in zip(places, files, strict=True):
        with storage_errors(place):
            if not file.part and place.exists() and not _ours(file, place.read_text(errors="replace")):
                raise UsageError(
                    f"{place}: is there, and not by this command; move it away, or write to another --output"
                )
    for place in places:
        with storage_errors(place.parent):
            place.parent.mkdir(parents=True, exist_ok=True)
    for place, file in zip(places, files, strict=True):
        write_durably(place, file.text.encode(), mode=0o644)
    return places


def _ours(file: ClientFile, there: str) -> bool:
    """Whether a file that is there is one of ours, or the same: a certificate has no mark."""
    return there == file.text or (file.text.startswith(MARK) and there.startswith(MARK))
