"""Every error that mirrord raises on purpose.

    MirrordError
    ├─ ConfigError          a file of the operator's is wrong: names file, line, key and fix
    ├─ UsageError           a command line or API call is wrong
    ├─ BusyError            somebody else holds what we need; later it will work
    ├─ DetachedError        the reader of a spool was sent away to keep its budget; later there is room
    ├─ TransportError       we could not get it, or not finish it
    │  ├─ UnreachableError  no connection: DNS, refused, TLS
    │  ├─ StalledError      too slow: no bytes, below the minimum throughput, past a deadline
    │  ├─ BrokenError       the connection ended in the middle of a message
    │  ├─ RestartedError    what came so far is void; from the start it comes again
    │  ├─ ThrottledError    429, or a quota: says when to come back
    │  └─ ServerError       5xx
    ├─ RefusedError         the other side understood and said no
    │  ├─ DeniedError       401 or 403: credentials missing, wrong or not enough
    │  ├─ MissingError      404: it is not there
    │  └─ ImmutableError    the tag exists and may not be overwritten
    ├─ UntrustedError       we refuse to go there: `mirrord.wire.trust` said no
    ├─ ContentError         what we got is wrong
    │  ├─ DigestError       bytes and digest (or size) differ
    │  ├─ TooLargeError     longer than its cap
    │  └─ UnsupportedError  we know what it is and do not carry it
    ├─ DeadlineError        a run was not through in its time
    ├─ StoppedError         a run was stopped half-way
    ├─ StorageError         our own disk or database failed
    ├─ ConflictError        somebody else wrote meanwhile what we were about to replace
    └─ GuardError           a guard stopped us before harm was done

The class says what an error means, in whichever room it is met, and `kind_of` finds it by its code where only that is
left of it (in the record, over the control socket):

- `code`: a stable word for machines.
- `retry`: trying again at once is sane.
- `passing`: waiting mends it; of what does not pass, somebody has to do something.
- `outcome`: of a step that it befell, `failed` or `refused` (`model.run.Outcome`).
- `result`: of a run that it ended (`model.run.Result`).
- `exit_code`: what the command line returns, after `sysexits.h`.

No message may hold a secret: texts from elsewhere go through `mirrord.wire.trust.redact` first.
"""

from __future__ import annotations


class MirrordError(Exception):
    """Root of all deliberate errors."""

    code = "error"
    retry = False
    passing = False
    outcome = "failed"
    result = "failed"
    exit_code = 1


def about(error: MirrordError, what: str) -> None:
    """Put in front of an error's message what it is about."""
    error.args = (f"{what}: {error}", *error.args[1:])


class ConfigError(MirrordError):
    """Configuration is wrong.

    Attributes:
        problems: one line each, `file:line: key: what is wrong; what to write instead`.
    """

    code = "config"
    exit_code = 78

    def __init__(self, *problems: str) -> None:
        """Keep every problem, so that one run of `mirrord check` shows them all."""
        super().__init__("\n".join(problems))
        self.problems = problems


class UsageError(MirrordError):
    """The caller asked for something that cannot be asked."""

    code = "usage"
    exit_code = 64


class BusyError(MirrordError):
    """The state directory, the mirror or the daemon is taken by somebody else."""

    code = "busy"
    passing = True
    exit_code = 75


class DetachedError(MirrordError):
    """The reader was sent away to keep the spool within its budget; come back later."""

    code = "detached"


class TransportError(MirrordError):
    """We could not get it, or could not finish sending it.

    Attributes:
        after: seconds to wait when the host said so (429, or Retry-After on 503), else None.
    """

    code = "transport"
    retry = True
    passing = True
    exit_code = 69

    def __init__(self, message: str, after: float | None = None) -> None:
        """Keep the wait that the host asked for."""
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


class RestartedError(TransportError):
    """What came so far was wrong, or may not belong to what comes now; begin again from the start."""

    code = "restarted"


class ThrottledError(TransportError):
    """The host asked us to come back later (429 or an exhausted quota)."""

    code = "throttled"
    result = "deferred"
    exit_code = 75


class ServerError(TransportError):
    """The host failed (5xx)."""

    code = "server"
    exit_code = 1


class RefusedError(MirrordError):
    """The other side understood the request and said no; the same request will fail again.

    Attributes:
        status: the HTTP status, or None where there was none.
    """

    code = "refused"
    outcome = "refused"

    def __init__(self, message: str, status: int | None = None) -> None:
        """Keep the status for those who must tell refusals apart."""
        super().__init__(message)
        self.status = status


class DeniedError(RefusedError):
    """Credentials are missing, wrong or not enough (401, 403)."""

    code = "denied"


class MissingError(RefusedError):
    """It is not there (404)."""

    code = "missing"


class ImmutableError(RefusedError):
    """The tag exists with other content and may not be overwritten."""

    code = "immutable"


class UntrustedError(MirrordError):
    """Going on would send a secret to, or open a connection to, a place that is not allowed.

    Attributes:
        reason: stable word: `realm`, `redirect`, `address`, `foreign_layer`, `downgrade`…
    """

    code = "untrusted"
    outcome = "refused"

    def __init__(self, message: str, reason: str = "") -> None:
        """Keep the reason as a word for logs and metrics."""
        super().__init__(message)
        self.reason = reason


class ContentError(MirrordError):
    """What we got is not what it should be."""

    code = "content"


class DigestError(ContentError):
    """Bytes and digest, or bytes and size, differ. Worth one clean retry: the source may heal.

    Attributes:
        found: the digest that the bytes have, or "" when nobody says.
    """

    code = "digest_mismatch"

    def __init__(self, message: str, found: str = "") -> None:
        """Keep what was found, for those who may trust it all the same."""
        super().__init__(message)
        self.found = found


class TooLargeError(ContentError):
    """Longer than its cap; reading stopped there."""

    code = "too_large"


class UnsupportedError(ContentError):
    """Recognised, and not carried (Docker schema 1)."""

    code = "unsupported"
    outcome = "refused"


class DeadlineError(MirrordError):
    """A run was not through when its deadline came; what it had done by then stands."""

    code = "deadline"


class StoppedError(MirrordError):
    """A run was stopped half-way, as by the end of the daemon; the next one goes on."""

    code = "interrupted"
    passing = True
    result = "interrupted"


class StorageError(MirrordError):
    """Our own disk or database failed (full, read-only, corrupt)."""

    code = "storage"
    exit_code = 74


class ConflictError(MirrordError):
    """What was about to be replaced is not what it was when that was decided; nothing was written."""

    code = "conflict"
    passing = True
    exit_code = 75


class GuardError(MirrordError):
    """A guard stopped us before we could do harm."""

    code = "guard"
    outcome = "refused"


_KINDS = {kind.code: kind for kind in vars().values() if isinstance(kind, type) and issubclass(kind, MirrordError)}


def kind_of(code: str) -> type[MirrordError]:
    """Return the class with this code; the root for a code that another version may have had."""
    return _KINDS.get(code, MirrordError)
