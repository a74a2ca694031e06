"""What messages of git and of hosts mean: which error, whether waiting helps, and what to do next. Pure.

git reports most failures by text alone, in English when `LC_ALL=C`; the texts were collected from real servers. Lines
that begin with `remote:` are about the host: its full disk is not ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from mirrord import errors
from mirrord.wire.http.message import permanent
from mirrord.wire.secret import redact

_LONGEST: Final = 900  # characters of the words that are repeated
_LAST: Final = 200  # of these, for the end
_BETWEEN: Final = ".{0,200}"  # no more, else a host that writes one word again and again stops us (quadratic)
_STATUS: Final = r"(?:returned error:|RPC failed; HTTP|server returned|HTTP) (?:code )?"


class _Row(NamedTuple):
    pattern: re.Pattern[str]
    make: Callable[[str], errors.MirrordError]
    step: str  # what to do next
    lead: str  # in front of what was said

    def error(self, where: str, said: str) -> errors.MirrordError:
        return self.make(f"{where}{self.lead}{said} ({self.step})")


def _row(make: Callable[[str], errors.MirrordError], step: str, *patterns: str, lead: str = "") -> _Row:
    """Make a row; `.*` in its patterns stands for `_BETWEEN`."""
    pattern = re.compile("|".join(patterns).replace(".*", _BETWEEN), re.IGNORECASE | re.MULTILINE)
    return _Row(pattern, make, step, lead)


def _untrusted(reason: str) -> Callable[[str], errors.MirrordError]:
    return lambda text: errors.UntrustedError(text, reason)


def _lasting(kind: type[errors.MirrordError]) -> Callable[[str], errors.MirrordError]:
    return lambda text: permanent(kind(text))


# What git-fsck(1) calls an object that writes outside of its place, or runs something, in a checkout.
_HARM: Final = (
    r"\bobject [0-9a-f]{40,64}: "
    r"(?:hasDot(?:dot|git)?|gitmodules(?:Url|Path|Name|Symlink|Update|Blob|Large)|gitattributes\w{1,30}): "
)
_MOVED = "it was moved; write its new address, redirects are not followed"
_OBJECTS = "the host misses LFS objects of it; with `lfs: true` the next run brings it all that upstream has"
_LACKING: Final = re.compile(r"gh008|unknown git lfs objects?|lfs objects are missing", re.IGNORECASE)
_TOKEN = "the credential is missing, wrong, expired, or may not do this; see `auth:` under hosts:"  # noqa: S105 - a hint

# The first row whose pattern is found decides. Rows for one cause come before those for what it looks like in passing:
# git says `early EOF` and `index-pack failed` after nearly everything.
_TABLE: Final = (
    # What does harm in a checkout (CVE-2014-9390, CVE-2018-11235, CVE-2018-17456)
    _row(errors.UnsupportedError, "upstream has to take it out of its history; until then leave out with `refs:` the "
         "refs that have it", _HARM, lead="refused: dangerous content: "),
    _row(errors.UnsupportedError, "the object is malformed, and who checks objects refuses it; upstream has to replace "
         "it, or the host to let it pass (`receive.fsck.NAME=warn`)", r"\bobject [0-9a-f]{40,64}: [a-z0-9]{3,40}: "),
    # Trust
    _row(_untrusted("host_key"), "the host's key is not the one that is known; ask the host for its fingerprint before "
         "you correct `known_hosts:`", r"remote host identification has changed", r"host key for .* has changed"),
    _row(_untrusted("host_key"), "write `known_hosts: FILE` for it under hosts:, with the key that the host publishes",
         r"host key verification failed", r"no \S+ host key is known for"),
    _row(_untrusted("scheme"), "only https and ssh are taken", r"transport '.*' not allowed",
         r"strange (?:hostname|pathname|port) .* blocked"),
    _row(_untrusted("redirect"), _MOVED, r"unable to update url base from redirection"),
    _row(errors.RefusedError, _MOVED, rf"{_STATUS}30[12378]\b"),
    # Who we are
    _row(errors.DeniedError, "the user name must be that of the token's owner; correct `auth: username` under hosts:",
         r"token username invalid"),
    _row(errors.ThrottledError, "the host wants a pause", rf"{_STATUS}429\b", r"too many requests", r"rate limit"),
    _row(errors.UnsupportedError, "the host has no LFS server for it; set `lfs: false` to mirror pointers only",
         r"git-lfs-authenticate: (?:command )?not found", r"command:? '?git-lfs-authenticate"),
    _row(errors.MissingError, "there is no such repository, or this credential may not see it; nothing is deleted",
         r"repository .*not found", r"^remote: not found", rf"{_STATUS}(?:404|410|451)\b",
         r"does not appear to be a git repository", r"could not be found or you don't have permission",
         r"project you were looking for could not be found"),
    _row(errors.DeniedError, "there is no such repository, or it is private; write `auth:` for the host under hosts:",
         r"could not read (?:username|password)"),
    _row(errors.DeniedError, "the host does not know our key; write `ssh_key: FILE` for it under hosts:",
         r"permission denied \((?:publickey|password|keyboard|gssapi)", r"load key .*: ", r"no such identity"),
    _row(errors.DeniedError, _TOKEN, r"authentication failed", r"authorization error", r"authentication required",
         r"invalid (?:username or password|credentials)",
         rf"{_STATUS}40[13]\b", r"access denied", r"bad credentials", r"reject by mode",
         r"permission to .* denied", r"write access to repository not granted", r"deploy key .*read.?only"),
    # What the host does not take
    _row(errors.UnsupportedError, "SHA-256 and SHA-1 repositories cannot be mirrored into one another",
         r"mismatched algorithms", r"does not support this repository's hash algorithm"),
    _row(errors.RefusedError, _OBJECTS, _LACKING.pattern),
    _row(errors.RefusedError, "a file is over the host's limit for one file; ask there for more, or leave out with "
         "`refs:` the refs that have it", r"gh001", r"file size limit", r"blobs? which exceed",
         r"larger than the allowed size", r"\bfile:? \S.* exceeds? [0-9]"),
    _row(errors.RefusedError, "the host has a limit for sizes; ask there for more, or leave out with `refs:` the refs "
         "that need it", r"size exceeds limit", r"exceeds? .*(?:limit|file size|quota)", r"\bsize .*, exceeds ",
         r"pack exceeds maximum allowed size", r"larger than .* limit", r"exceed the allocated storage"),
    _row(errors.RefusedError, "the push is too big for that host in one piece; use its ssh address",
         rf"{_STATUS}41[13]\b", r"rpc failed; http 400\b"),
    _row(errors.DeniedError, "give the token the scope `workflow`", r"refusing to allow .*workflow",
         r"without .{0,3}workflow.{0,3} scope"),
    _row(errors.RefusedError, "the host found what looks like secrets in the commits; allow them at the address that it"
         " names, or switch its push protection off", r"push protection", r"cannot contain secrets"),
    _row(errors.RefusedError, "the commits have an e-mail address that the host's account keeps private; switch that "
         "protection off in the account's settings there", r"g[he]007", r"publish a private e-?mail"),
    _row(errors.RefusedError, "the host checks who wrote, committed or signed; switch that check off for the mirror's "
         "repository", r"verified e-?mail", r"(?:author|committer)(?:'s)? e-?mail", r"checkcommitauthor",
         r"must (?:be|have) (?:verified )?sign(?:ed|atures?)", r"unverified commit"),
    _row(errors.RefusedError, "the host keeps such refs to itself; take them out with `refs:`", r"hidden ref"),
    _row(errors.RefusedError, "the default branch cannot be deleted; another one must be the default branch first",
         r"delet(?:e|ing|ion of) the current branch", r"default branch .*cannot be deleted"),
    _row(errors.RefusedError, "the host forbids to delete it; let the mirror's account delete there",
         r"deletion prohibited", r"denying ref deletion", r"protected from deletion", r"delete protected",
         r"cannot delete (?:this|a|the) "),
    _row(errors.RefusedError, "the host forbids forced pushes; allow them for the mirror's account",
         r"non-fast-forward", r"force[ -]?push", r"forced push", r"强制推送"),
    _row(errors.RefusedError, "if it is protected there, let the mirror's account push to it", r"protected",
         r"gh0(?:06|13)", r"rule violations", r"保护分支"),
    _row(errors.RefusedError, "a rule of the host forbids it; change that rule, or take the ref out with `refs:`",
         r"hook declined", r"\bdeclined\b", r"prohibited", r"refusing to update", r"(?<!permission )\bdenied\b",
         r"(?<!update )not allowed"),
    _row(errors.ImmutableError, "it never moves there", r"\(already exists\)", r"^remote: already exists"),
    _row(errors.BusyError, "it moved there meanwhile; the next run sees it", r"stale info", r"fetch first",
         r"is at [0-9a-f]+ but expected",
         r"upload-pack: not our ref", r"does not allow request for unadvertised object"),
    # What is damaged
    _row(errors.ContentError, "the copy here is not whole; it is fetched again", r"shallow update not allowed"),
    _row(errors.ContentError, "the host's own copy is damaged; its owner has to repair it, and until then nothing "
         "changes here", r"corruption on the remote side",
         r"^remote: .*unable to read (?:tree|sha1)?\s*\(?[0-9a-f]{40}"),
    _row(errors.ContentError, "objects are damaged or missing, there or here; the copy here is checked",
         r"did not send all necessary objects", r"bad object", r"does not match index", r"unable to resolve reference",
         r"repository corruption", r"object file .* is (?:empty|corrupt)", r"loose object .* is corrupt",
         r"missing (?:blob|tree|commit|necessary objects)", r"unable to read (?:tree|sha1)?\s*\(?[0-9a-f]{40}",
         r"failed to traverse parents", r"packfile .* (?:cannot be|is) ", r"inflate: data stream error",
         r"pack has bad object", r"pack is corrupted", r"sha1 mismatch", r"fsck error"),
    _row(errors.BusyError, "another process holds a lock there", r"cannot lock ref", r"unable to create '.*\.lock'"),
    # Our own machine: not what a host says of its own
    _row(errors.StorageError, "the disk of this machine is full; free some space",
         r"^(?!remote:).*(?:no space left|disk quota exceeded)"),
    _row(errors.StorageError, "the state directory cannot be used; check its owner and its file system",
         r"^(?!remote:).*(?:read-only file system|insufficient permission|dubious ownership|not a git repository:?"
         r"(?! \(or)|unable to (?:create|write|open) .*permission denied|unable to create temporary file)"),
    # On the way
    _row(errors.StalledError, "the line or the host is slow", r"operation too slow", r"timed out", r"timeout, server",
         rf"{_STATUS}408\b"),
    _row(_lasting(errors.UnreachableError), "the host's certificate is not trusted; see `ca:` under hosts:",
         r"certificate (?:verification failed|verify failed|problem)", r"certificate signature check failed",
         r"server certificate", r"problem with the (?:local|ssl ca) cert", r"error setting certificate"),
    _row(_lasting(errors.UnreachableError), "the proxy refuses; check `proxy:` and `proxy_auth:` under hosts:",
         r"http code 4\d\d from proxy", r"connect tunnel failed, response 4", rf"{_STATUS}407\b"),
    _row(errors.UnreachableError, "the host cannot be reached from here", r"could ?n.t resolve", r"could not resolve",
         r"failed to connect", r"couldn't connect", r"connection refused", r"no route to host",
         r"network is unreachable", r"gnutls_handshake\(\) failed", r"ssl_connect", r"tls connect error",
         r"name or service not known", r"temporary failure in name resolution"),
    _row(errors.RefusedError, "the host does not take such a request", rf"{_STATUS}4\d\d\b"),
    _row(errors.ServerError, "the host failed", rf"{_STATUS}5\d\d\b", r"internal server error", r"\bserver error\b",
         r"failed to (?:update|delete|start|report|write)", r"transaction failed", r"unable to migrate objects",
         r"^remote: .*no space left"),
    _row(errors.ContentError, "it answers, and not as Git does: a login page, or another kind of address",
         r"not valid: is this a git repository", r"protocol error: bad line length", r"invalid server response",
         r"unexpected service response"),
    _row(errors.BrokenError, "the connection broke", r"early eof", r"unexpected disconnect", r"the remote end hung up",
         r"connection (?:reset|closed|was reset)", r"broken pipe", r"rpc failed", r"recv failure", r"send failure",
         r"recv error", r"empty reply from server", r"transfer closed", r"not closed cleanly", r"kex_exchange",
         r"could not read from remote repository", r"expected flush after",
         r"expected '(?:acknowledgments|packfile)'", r"bad pack header"),
    _row(errors.ContentError, "what came could not be unpacked", r"index-pack", r"unpack(?:er)? (?:failed|error)",
         r"unpack-objects"),
)  # fmt: skip


def classify(status: int, stderr: str, host: str) -> errors.MirrordError:
    """Return the error for how a git process ended; `host` is the host that it spoke with, or "".

    The exit status is negative when a signal ended it; `stderr` is what git wrote.
    """
    lead = f"{host}: " if host else ""
    if status < 0 and not stderr:
        kind = errors.BrokenError if host else errors.StorageError
        return kind(f"{lead}git was ended from outside by signal {-status}")
    text = words(stderr) or f"git ended with status {status} and said nothing"
    for row in _TABLE:
        if row.pattern.search(stderr):
            error = row.error(lead, text)
            if isinstance(error, errors.RefusedError) and (found := _HTTP_STATUS.search(stderr)):
                error.status = int(found[1])
            return error
    return errors.MirrordError(f"{lead}{text}")


def words(stderr: str) -> str:
    """Return the messages in one line, the host's own first, without those of git that add nothing.

    Of a long text the start is kept, and the end, where git states the outcome.
    """
    lines = [line.strip() for line in _LINE_ENDS.split(stderr)]
    lines = [line for line in lines if not _RULED.fullmatch(line)]
    kept = [line for line in lines if not _STAGE.match(line)] or lines
    kept.sort(key=lambda line: not line.startswith("remote:"))
    texts = [text for text in dict.fromkeys(redact(_LABEL.sub("", line)) for line in kept) if text]
    joined = "; ".join(texts)
    if len(joined) <= _LONGEST:
        return joined
    last = texts[-1][-_LAST:]
    return f"{joined[: _LONGEST - len(last)]} … {last}"


_LINE_ENDS: Final = re.compile(r"[\r\n]")
_HTTP_STATUS: Final = re.compile(rf"{_STATUS}(\d{{3}})\b", re.IGNORECASE)
_RULED: Final = re.compile(r"(?:remote:)?[\W_]*")  # `@@@@@@@@`, `====`, nothing
_LABEL: Final = re.compile(r"\A(?:(?:remote|fatal|error): *)+", re.IGNORECASE)
_STAGE: Final = re.compile(
    r"To |hint: |warning: |Everything up-to-date|fatal: the remote end hung up|fatal: Could not read from remote"
    r"|Please make sure you have|and the repository exists|error: failed to push some refs"
    r"|remote: error: hook declined to update refs/"  # which ref it was, is known without
    r"|(?:remote: )?fatal: (?:fsck error in pack|index-pack failed|fetch-pack: invalid index-pack output)"
)


def lacks_objects(refusal: str) -> bool:
    """Whether a host refuses a ref because it misses LFS objects (GitHub, GitLab)."""
    return _LACKING.search(refusal) is not None


def per_ref(ref: str, reason: str) -> errors.MirrordError:
    """Return the error of a ref that a host rejected for that reason; the others of its push went through."""
    text = redact(reason)[:_LONGEST]
    for row in _TABLE:
        if row.pattern.search(f"remote: {reason}"):  # what a host says of its disk is not of ours
            return row.error(f"{ref}: ", text)
    return errors.RefusedError(f"{ref}: {text}")


def advised(error: errors.MirrordError, step: str) -> errors.MirrordError:
    """Return the error of the table with the next step that fits this kind of host in place of the table's own."""
    text = str(error)
    own = next((f" ({row.step})" for row in _TABLE if text.endswith(f" ({row.step})")), "")
    message = f"{text.removesuffix(own)} ({step})"
    return (
        type(error)(message, error.status) if isinstance(error, errors.RefusedError) else errors.RefusedError(message)
    )
