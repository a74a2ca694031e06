"""Every error that mirrord raises on purpose.

    MirrordError
    ├─ ConfigError, UsageError, BusyError, DetachedError
    ├─ TransportError
    │  ├─ UnreachableError, StalledError, BrokenError, PreemptedError, RestartedError
    │  └─ ThrottledError, ServerError
    ├─ RefusedError
    │  └─ DeniedError, MissingError, ImmutableError, QuotaError
    ├─ ContentError
    │  └─ DigestError, TooLargeError, UnsupportedError
    ├─ UntrustedError, SignatureError, TakenDownError
    └─ DeadlineError, StorageError, ConflictError, GuardError, StoppedError
       └─ FencedError

The class says what an error means, wherever it is handled. `kind_of` finds the class by its code, as in the record.
No message may contain a secret: texts from other hosts go through `mirrord.wire.trust.redact` first.
"""

from __future__ import annotations


class MirrordError(Exception):
    """Root of all deliberate errors."""

    code = "error"  # a stable word for machines
    retry = False  # an immediate retry is sensible
    passing = False  # it resolves by waiting; otherwise somebody has to act
    outcome = "failed"  # of a step with it, `failed` or `refused` (`model.run.Outcome`)
    result = "failed"  # of a run that ended with it (`model.run.Result`)
    exit_code = 1  # what the command line returns, after `sysexits.h`


def about(error: MirrordError, what: str) -> None:
    """Prefix an error's message with its subject."""
    error.args = (f"{what}: {error}", *error.args[1:])


class ConfigError(MirrordError):
    """Configuration is wrong.

    Attributes:
        problems: one line each, `file:line: key: what is wrong; what to write instead`.
        notices: what was skipped, one sentence each; it may explain the problems.
    """

    code = "config"
    exit_code = 78

    def __init__(self, *problems: str) -> None:
        """Keep every problem, so that one run of `mirrord check` shows them all."""
        super().__init__("\n".join(problems))
        self.problems = problems
        self.notices: tuple[str, ...] = ()


class UsageError(MirrordError):
    """The caller requested something invalid."""

    code = "usage"
    exit_code = 64


class BusyError(MirrordError):
    """The state directory, the mirror or the daemon is in use."""

    code = "busy"
    passing = True
    exit_code = 75


class DetachedError(MirrordError):
    """The reader was detached to keep the spool within its budget; retry later."""

    code = "detached"


class TransportError(MirrordError):
    """The transfer failed or did not complete; `after`: seconds to wait if the host named them (429, 503), or None."""

    code = "transport"
    retry = True
    passing = True
    exit_code = 69

    def __init__(self, message: str, after: float | None = None) -> None:
        """Keep the wait that the host requested."""
        super().__init__(message)
        self.after = after


class UnreachableError(TransportError):
    """No connection: name resolution, refusal, TLS."""

    code = "unreachable"


class StalledError(TransportError):
    """No bytes, too few bytes a second, or past the deadline."""

    code = "stalled"


class BrokenError(TransportError):
    """The connection ended before the message did."""

    code = "broken"


class PreemptedError(TransportError):
    """We closed the connection while nobody read from it, since another request needed it; request the rest."""

    code = "preempted"


class RestartedError(TransportError):
    """The bytes so far were wrong, or may not match the following ones; restart from the beginning."""

    code = "restarted"


class ThrottledError(TransportError):
    """The host asked us to retry later (429 or an exhausted quota)."""

    code = "throttled"
    result = "deferred"
    exit_code = 75


class ServerError(TransportError):
    """The host failed (5xx)."""

    code = "server"
    exit_code = 1
    status: int | None = None


class RefusedError(MirrordError):
    """The other side rejected the request; the same will fail again. `status` is that of HTTP, or None without one."""

    code = "refused"
    outcome = "refused"

    def __init__(self, message: str, status: int | None = None) -> None:
        """Keep the status, to distinguish refusals."""
        super().__init__(message)
        self.status = status


class DeniedError(RefusedError):
    """Credentials are missing, wrong or not enough (401, 403).

    Attributes:
        formal: whether the answer is an error as registries and token servers write it; without that a firewall, a CDN
            or a portal may have refused us, not the registry.
    """

    code = "denied"

    def __init__(self, message: str, status: int | None = None, *, formal: bool = True) -> None:
        """Keep whose refusal it may be."""
        super().__init__(message, status)
        self.formal = formal


class MissingError(RefusedError):
    """It does not exist (404)."""

    code = "missing"


class ImmutableError(RefusedError):
    """The tag exists with other content and may not be overwritten."""

    code = "immutable"


class QuotaError(RefusedError):
    """The account has as many as it may have."""

    code = "quota"


class UntrustedError(MirrordError):
    """Continuing would send a secret, or connect, where that is not allowed; `reason` is a word such as `redirect`."""

    code = "untrusted"
    outcome = "refused"

    def __init__(self, message: str, reason: str = "") -> None:
        """Keep the reason as a word for logs and metrics."""
        super().__init__(message)
        self.reason = reason


class ContentError(MirrordError):
    """The received content is wrong."""

    code = "content"


class DigestError(ContentError):
    """Bytes and digest (`found`, "" if unknown), or bytes and size, differ. A clean retry may help."""

    code = "digest_mismatch"

    def __init__(self, message: str, found: str = "") -> None:
        """Keep the digest, for callers that may accept it."""
        super().__init__(message)
        self.found = found


class TooLargeError(ContentError):
    """Larger than its limit; reading stopped there."""

    code = "too_large"


class UnsupportedError(ContentError):
    """Recognised but not supported (Docker schema 1)."""

    code = "unsupported"
    outcome = "refused"


class SignatureError(MirrordError):
    """No signature of an image is by whom `signatures.require` names, and for that image.

    Attributes:
        codes: why none counts; of several signatures the last of these that fits one of them is told.
    """

    code = "signature"
    outcome = "refused"
    codes = ("unsigned", "signature_missing", code, "signature_key", "signature_identity", "signature_digest")

    def __init__(self, message: str, code: str = code) -> None:
        """Keep why, as one of `codes`."""
        super().__init__(message)
        self.code = code


class TakenDownError(MirrordError):
    """It was taken down: the file `settings.denied` says that it may not be mirrored, served or restored."""

    code = "taken_down"
    outcome = "refused"


class DeadlineError(MirrordError):
    """A run exceeded its deadline; the finished steps remain valid."""

    code = "deadline"


class StoppedError(MirrordError):
    """A run was stopped before its end, for example with the daemon; the next one resumes."""

    code = "interrupted"
    passing = True
    result = "interrupted"


class FencedError(StoppedError):
    """Another replica took the mirror over while this one gave no sign of life; nothing more is written."""

    code = "fenced"
    exit_code = 75


class StorageError(MirrordError):
    """Our own disk or database failed (full, read-only, corrupt)."""

    code = "storage"
    exit_code = 74


class ConflictError(MirrordError):
    """The data to replace was changed since it was read; nothing was written."""

    code = "conflict"
    passing = True
    exit_code = 75


class GuardError(MirrordError):
    """A guard stopped us before we could do harm."""

    code = "guard"
    outcome = "refused"


KINDS = {kind.code: kind for kind in vars().values() if isinstance(kind, type) and issubclass(kind, MirrordError)}
KINDS |= dict.fromkeys(SignatureError.codes, SignatureError)
"""What each code means."""


def kind_of(code: str) -> type[MirrordError]:
    """Return the class with this code; the root class for an unknown code of another version."""
    return KINDS.get(code, MirrordError)
