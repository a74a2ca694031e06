"""A folder of files becomes a `Configuration`, or one `ConfigError` with every problem.

The files are joined section by section. Each key may be set only once: a second time, in one file or in two, is an
error that names both places.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from mirrord.config.asking import AskingRules, read_asking
from mirrord.config.bucket import read_bucket
from mirrord.config.crossings import add_place
from mirrord.config.denied import read_denied
from mirrord.config.files import MAX_BYTES, UnreadableError, list_folder, read_file, text_of
from mirrord.config.front import read_fronts
from mirrord.config.hosts import read_hosts
from mirrord.config.issues import read_issues
from mirrord.config.lines import ConfigDocument, Problems, Value, document, join
from mirrord.config.mirrors import read_mirrors, read_targets
from mirrord.config.names import read_names
from mirrord.config.needs import (
    Absence,
    absences,
    lacking_logins,
    unread_proxies,
    unused_hosts,
    unused_targets,
    users_of_hosts,
)
from mirrord.config.notify import read_receivers, unmatched_mirrors
from mirrord.config.pointing import Pointing, read_pointing
from mirrord.config.pull_requests import PullRequestRules, read_pull_requests
from mirrord.config.record import read_record
from mirrord.config.settings import Settings, read_settings
from mirrord.config.webhook import WebhookKeys, read_webhook
from mirrord.config.yaml_text import parse_text
from mirrord.errors import ConfigError
from mirrord.model.origin import ConfigOrigin
from mirrord.names.book import NameBook
from mirrord.names.denied import Denied
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import FrontRules, Mirror, Target
from mirrord.wire.bucket_address import BucketAddress
from mirrord.wire.database import DatabaseAddress
from mirrord.wire.host import HostBook
from mirrord.wire.notify.receiver import Receiver

_OWN: Final = frozenset(("listen", "log", "parallel", "spool", "tls"))
"""Settings that may differ from machine to machine."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything the operator wrote, validated."""

    settings: Settings = field(default_factory=Settings)  # of the program itself
    book: HostBook = field(default_factory=HostBook)  # how to talk to hosts; its keyring is still nobody's
    names: NameBook = field(default_factory=NameBook)  # what names mean
    mirrors: tuple[Mirror, ...] = ()  # in the order in which they were written
    targets: Mapping[str, Target] = field(default_factory=dict)  # by name, without the built-in `local`
    files: tuple[Path, ...] = ()  # what was read, in order
    notices: tuple[str, ...] = ()  # what was skipped or has no effect, one sentence each
    fronts: Mapping[str, FrontRules] = field(default_factory=dict)  # what clients may pull through, by kind
    receivers: Mapping[str, Receiver] = field(default_factory=dict)  # who is notified, by name
    denied: Denied = field(default_factory=Denied)  # what was taken down
    pointing: Pointing = field(default_factory=Pointing)  # where users of images are pointed at
    asking: AskingRules | None = None  # which images people may ask for; None for none
    webhook: WebhookKeys | None = None  # where Kubernetes asks about new Pods
    pull_requests: tuple[PullRequestRules, ...] = ()  # whose pull requests are told of their builds
    absent: tuple[Absence, ...] = ()  # what is not on this machine; the credentials of such hosts are missing in `book`
    bucket: BucketAddress | None = None  # where `local` is; None for the state directory
    record: DatabaseAddress | None = None  # where the record is; None for a file in the state directory
    digest: str = ""  # of what replicas have to have in common

    def needs_token(self, listen: str = "") -> bool:
        """Return whether clients beyond this machine could read what our credentials may read.

        Args:
            listen: as for `Settings.address`.
        """
        ours = any(True in rules.upstreams.values() for rules in self.fronts.values())
        return ours and self.settings.reaches_others(listen)

    def require(self, mirrors: Collection[str], undone: str = "nothing was done") -> None:
        """Check that all that these mirrors need is on this machine; without any, that everything is.

        Raises:
            ConfigError: something is not; holds a line for each. Its note says what was not done, and who needs them.
        """
        wanted = frozenset(mirrors)
        absent = [one for one in self.absent if not one.receiver]  # a command notifies nobody
        needed = [one for one in absent if not wanted or one.mirrors is None or one.mirrors & wanted]
        if not needed:
            return
        error = ConfigError(*(one.problem for one in needed))
        users = [one.name for one in self.mirrors if any(one.name in (each.mirrors or ()) for each in needed)]
        by = ", ".join([name for name in users if not wanted or name in wanted])
        missing = "1 secret or file is" if len(needed) == 1 else f"{len(needed)} secrets or files are"
        error.add_note(f"{undone}: {missing} missing{f' (needed by {by})' if by else ''}")
        raise error


def load_folder(folder: Path, syncers: Mapping[str, Syncer], environ: Mapping[str, str]) -> Configuration:
    """Read, join and validate every `*.yaml` of a folder, as the daemon does: all secrets have to be on this machine.

    Arguments and errors as for `read_folder`; what is absent is an error, too.
    """
    return read_folder(folder, syncers, environ, complete=True)


def read_folder(
    folder: Path, syncers: Mapping[str, Syncer], environ: Mapping[str, str], *, complete: bool = False
) -> Configuration:
    """Read, join and validate every `*.yaml` of a folder, whose secrets may be on another machine.

    Args:
        folder: `/etc/mirrord/conf.d` or another.
        syncers: by kind; they validate their own keys.
        environ: for `{env: NAME}`, `$CREDENTIALS_DIRECTORY` and `$MIRRORD_LISTEN`.
        complete: whether secrets and files that are not on this machine are errors.

    Raises:
        ConfigError: something is wrong; has every problem, each as `file:line: key: what; what to write instead`, and
            the notices about files that were skipped.
    """
    files, passed_over = list_folder(folder)
    try:
        return _validated(files, passed_over, syncers, environ, complete=complete)
    except ConfigError as error:
        # A file whose name has another ending may have what is missing; an editor's copies explain nothing.
        error.notices = tuple(notice for notice in passed_over if "; rename it to " in notice)
        raise


def _validated(
    files: tuple[Path, ...],
    passed_over: tuple[str, ...],
    syncers: Mapping[str, Syncer],
    environ: Mapping[str, str],
    *,
    complete: bool,
) -> Configuration:
    problems = Problems()
    whole = join([_read(file, problems) for file in files], problems)
    settings = read_settings(whole.get("settings"), problems, environ)
    bucket = read_bucket(settings.blobs, problems, environ)
    record = read_record(settings.record, problems, environ)
    before = problems.count()
    book = read_hosts(whole.get("hosts"), problems, environ)
    whole_book = problems.count() == before
    names = read_names(whole.get("names"), problems)
    denied = read_denied(settings.denied, names, problems)
    fronts = read_fronts(whole.get("front"), syncers, names, problems)
    targets = read_targets(whole.get("targets"), syncers, problems)
    mirrors = read_mirrors(whole.get("mirrors"), targets, syncers, settings, problems, names=names)
    written = whole.get("front")
    kinds = written if isinstance(written, dict) else fronts
    pointing = read_pointing(whole.get("pointing"), targets, kinds, names, problems)
    issues = partial(read_issues, book=book, problems=problems, environ=environ)
    asking = read_asking(
        whole.get("asking"), targets, mirrors, syncers, settings=settings, names=names, problems=problems, issues=issues
    )
    mirrors = (*mirrors, *([asking.mirror] if asking else []))
    webhook = read_webhook(whole.get("webhook"), problems)
    pulls = read_pull_requests(whole.get("pull_requests"), mirrors, book, problems, environ)
    receivers = read_receivers(whole.get("notify"), book, problems, environ)
    # Without a host that is left out, its mirrors would seem to lack its keys.
    ignored = _ignored_keys(mirrors, syncers, book, problems) if whole_book else ()
    for lacking in problems.absent if complete else ():
        problems.add(*lacking)
    problems.settle()
    found = {name: target for name, target in targets.items() if target}
    others = [receiver.host for receiver in receivers.values()]
    others += [rules.address.host for rules in asking.issues] if asking else []
    others += [rules.address.host for rules in pulls]
    users = users_of_hosts(mirrors, syncers, fronts, others)
    unused = unused_hosts(users, targets, whole.get("hosts"), book, problems)
    notices = (*passed_over, *unused, *unused_targets(mirrors, targets, problems), *ignored)
    notices = (*notices, *unread_proxies(users, book, environ), *lacking_logins(fronts, book, problems))
    notices = (*notices, *unmatched_mirrors(receivers, [mirror.name for mirror in mirrors], problems))
    absent = tuple(absences(users, problems))
    watched = receivers, denied, pointing, asking, webhook, pulls, absent, bucket, record
    return Configuration(settings, book, names, mirrors, found, files, notices, fronts, *watched, _digest(whole))


def _digest(whole: Mapping[str, Value]) -> str:
    """Return a short digest of all that is written, but of the settings of a machine; comments do not count."""
    settings = whole.get("settings")
    shared = {key: value for key, value in settings.items() if key not in _OWN} if isinstance(settings, dict) else {}
    text = json.dumps({**whole, "settings": shared}, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _ignored_keys(
    mirrors: Sequence[Mirror], syncers: Mapping[str, Syncer], book: HostBook, problems: Problems
) -> tuple[str, ...]:
    """Ask the syncers about keys without effect; each is reported once, whatever the number of mirrors.

    Where mirrors and `hosts:` do not fit together, that is noted.
    """
    ignored: list[str] = []
    wrong: dict[str, tuple[Mirror, str]] = {}  # by its key: mirrors that share a target have one problem there
    trails = {name: trail for trail, name in reversed(problems.names.items())}
    for mirror in mirrors:
        syncer = syncers[mirror.kind]
        try:
            ignored += syncer.ignored_keys(mirror, book) if syncer.ignored_keys else ()
        except ConfigError as error:
            for what in error.problems:
                wrong.setdefault(": ".join(what.split(": ")[:2]), (mirror, what))
    for mirror, what in wrong.values():
        add_place(trails[mirror.name], mirror, what, problems)
    return tuple(dict.fromkeys(ignored))


def _read(file: Path, problems: Problems) -> ConfigDocument:
    """Read one file; when that fails the problem is noted and the file counts as empty."""
    try:
        text = text_of(read_file(file, MAX_BYTES)[0]).removeprefix("\ufeff")
        value, origins = parse_text(text, str(file), problems)
        return document(value, origins, problems)
    except UnreadableError as refused:
        problems.add_at(ConfigOrigin(str(file), refused.line), str(refused))
    except ValueError as error:
        problems.add_at(ConfigOrigin(str(file), 1), str(error))
    problems.partial = True
    return ConfigDocument()
