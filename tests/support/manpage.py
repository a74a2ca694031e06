"""man/mirrord.1, made from the grammar of the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from mirrord import __version__
from mirrord.cli.grammar import COMMANDS, EXIT_CODES, GROUPS, HELP, PROGRAM, commands_of

_DATE = "2026-11-27"  # of the last change, for the bottom of the page
_CODE = re.compile(r"`([^`]*)`")
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
_ENVIRONMENT = {
    "MIRRORD_LISTEN": "Address of the HTTP server, `host:port`; it overrides `settings.listen`.",
    "STATE_DIRECTORY": "State directory when `--state` is not given. systemd sets it.",
    "CREDENTIALS_DIRECTORY": "Folder of the secrets that are configured as `{credential: name}`. systemd sets it.",
    "DOCKER_CONFIG, DOCKER_AUTH_CONFIG, REGISTRY_AUTH_FILE": "Credentials of `docker login` and `podman login`.",
    "HTTPS_PROXY, HTTP_PROXY, NO_PROXY": "HTTP proxies of `mirrord copy`. Others use `proxy:` under `hosts:`."
    " `ALL_PROXY` and SOCKS proxies are not supported.",
    "SSL_CERT_FILE, SSL_CERT_DIR": "Certificate authorities to trust, as OpenSSL reads them.",
}
_FILES = {
    "/etc/mirrord/conf.d/*.yaml": "The configuration, when `--config` is not given; if it is missing, `./conf.d`.",
    "/var/lib/mirrord": "The state directory of the systemd unit.",
}


def manpage() -> str:
    """Return the page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield f'.TH MIRRORD 1 {_DATE} "mirrord {__version__}" "User Commands"'
    yield from (".SH NAME", r"mirrord \- mirror container images, Helm charts and Git repositories")
    yield from (".SH SYNOPSIS", r"\fBmirrord\fR \fICOMMAND\fR [\fIARGUMENTS\fR] [\fIOPTIONS\fR]")
    yield from (".SH DESCRIPTION", *_flowing(HELP))
    for title, group in GROUPS.items():
        yield from (
            ".PP",
            _text(f"{title}: ") + ", ".join(rf"\fB{_text(name)}\fR" for name, _ in commands_of(group)) + ".",
        )
    yield from (".PP", *_flowing("`mirrord COMMAND --help` prints the same as this page for one command."))
    yield from (".SH OPTIONS", *_parameters(PROGRAM))
    yield ".SH COMMANDS"
    for name in COMMANDS:
        yield from _command(name, COMMANDS[name])
    yield ".SH EXIT STATUS"
    yield from _listed(dict(part.strip().split(" ", 1) for part in " ".join(EXIT_CODES.split()).split("·")))
    yield from (".SH ENVIRONMENT", *_listed(_ENVIRONMENT))
    yield from (".SH FILES", *_listed(_FILES))
    yield from (".SH SEE ALSO", r"\fBsystemctl\fR(1), \fBskopeo\fR(1), \fBgit\fR(1)")


def _command(name: str, command: Any) -> Iterator[str]:
    words = [_text(one.metavar) for one in command.params if one.param_type_name == "argument"]
    synopsis = " ".join([*(rf"\fI{word}\fR" for word in words), r"[\fIOPTIONS\fR]"])
    yield from (f".SS mirrord {_text(name)}", rf"\fBmirrord {_text(name)}\fR {synopsis}")
    for paragraph in (command.help or "").strip().split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield from (
                ".PP",
                ".RS 4",
                ".nf",
                *(_line(_text(line)) for line in paragraph.splitlines()[1:]),
                ".fi",
                ".RE",
            )
        else:
            yield from (".PP", *_flowing(paragraph))
    yield from _parameters(command)


def _parameters(command: Any) -> Iterator[str]:
    for one in command.params:
        if getattr(one, "hidden", False):
            continue
        if one.param_type_name == "argument":
            names = rf"\fI{_text((one.metavar or '').strip('[.]'))}\fR"
        else:
            value = "" if one.is_flag else rf" \fI{_text(one.metavar or '')}\fR"
            names = ", ".join(rf"\fB{_text(name)}\fR{value}" for name in one.opts)
        yield from (".TP", names, *_flowing(one.help or ""))


def _listed(rows: dict[str, str]) -> Iterator[str]:
    for name, text in rows.items():
        yield from (".TP", rf"\fB{_text(name)}\fR", *_flowing(text))


def _flowing(text: str) -> Iterator[str]:
    """Yield a paragraph, each sentence on a line of its own, as the language of man pages wants it."""
    marked = _CODE.sub(lambda code: rf"\fB{code[1]}\fR", _text(" ".join(text.split())))
    yield from map(_line, re.split(r"(?<=[.:;]) ", marked))


def _line(text: str) -> str:
    return rf"\&{text}" if text.startswith((".", "'")) else text


def _text(text: str) -> str:
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return _BEYOND_ASCII.sub(lambda char: rf"\[u{ord(char[0]):04X}]", escaped)
