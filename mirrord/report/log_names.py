"""The names of all log lines."""

from __future__ import annotations

from typing import Final

NAMES: Final = frozenset(
    {
        "answer.broken",  # an answer to a client ended early; `path`, `error`
        "cache.evicted",  # content left the cache of the front; `entries`, `bytes`
        "cache.failed",  # something in what replicas share of it is damaged, or failed; `message`
        "daemon.notice",  # a notice for the operator in `message`
        "daemon.ready",  # listening; `address`
        "daemon.stopped",  # the last line
        "daemon.stopping",  # a signal came; `signal`
        "front.answered",  # an answer of the front (debug); `client`, `repository`, `status`, `outcome`, `bytes`, …
        "front.failed",  # an upstream failed for a client; at most one a minute for each upstream and reason
        "front.refused",  # a request that the front refused: the first a minute of each `client` and `reason`
        "gc.done",  # a collection of `local` let something go; `names`, `blobs`, `bytes`
        "gc.failed",  # a collection could not look at everything; `message`
        "http.request",  # one exchange (debug)
        "http.retry",  # tried again after `delay`
        "http.rate_limit",  # the rest of a quota, as reported by a host (debug)
        "ask.ended",  # what was asked for ended, or was refused (debug); `image`, `who`, `result`, `reason`, `seconds`
        "issue.answered",  # an issue that asked for an image is over; `repository`, `number`, `answer`
        "pull_request.commented",  # a comment has where a build can be pulled; `repository`, `number`, `build`, `new`
        "pull_request.failed",  # it was not written, or an image not looked for; `repository`, `number`, `error`
        "issue.failed",  # an issue could not be read or answered; `repository`, `error`, perhaps `number`
        "lease.lost",  # another replica took the lease on `mirror`
        "lease.taken_over",  # this replica took the lease on `mirror` from one that is dead
        "library",  # a warning of a library we use, in `message`
        "list.read",  # an allow list is in use; `file`, `lines`
        "list.refused",  # the list before it stays in use, of `lines` lines, 0 without one; `file`, `error`
        "notify.failed",  # a message could not be sent; `receiver`, `result`, `error`
        "notify.sent",  # a message was sent; `receiver`, `notices`
        "reload.done",  # a new configuration is in use
        "reload.refused",  # the old one stays in use; `error`
        "run.cut_off",  # a process was killed in this run, which began at `started`; with replicas `replica`
        "run.finished",  # the one summary line of a run
        "run.planned",  # the number of steps
        "run.skipped",  # a scheduled run that did not start; `reason`
        "run.started",  # with replicas `fence` of its lease, and whether what the record says is `doubtful`
        "step.done",
        "step.failed",
        "step.left_out",  # left out because it is wrong upstream; `problem`
        "trust.refused",  # a secret was not sent, or an address not dialled
        "uses.failed",  # when clients asked for content could not be written; `message`
        "verify.failed",  # a verification by schedule could not be made; `mirror`, `error`
        "verify.finished",  # the summary of one; `mirror`, `looked`, `checked`, `drift`, `unknown`, `refused`
        "webhook.answered",  # a review of Kubernetes; of those that are odd or refused at most one a minute is logged
    }
)
