"""What to do about errors in English."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TEXTS: Final[Mapping[str, str]] = {
    "advice.error": "Read the message and the log of this run; run `mirrord sync NAME` to try again.",
    "advice.config": "Correct the configuration as the message says; `mirrord check` shows all that is wrong.",
    "advice.usage": "Correct the command as the message says; `mirrord COMMAND --help` shows what it takes.",
    "advice.busy": "Wait for the other command or run to end, then try again.",
    "advice.detached": "Nothing to do: the next run resumes. If it happens often, raise settings.spool.budget.",
    "advice.transport": "If it passes, do nothing: the next run tries again. Else check the network to the host.",
    "advice.unreachable": "Check the host's name and port, firewall, proxy and certificate (ca: under hosts:).",
    "advice.stalled": "Check the line to the host; if it is slow by nature, lower its limits or raise the deadline.",
    "advice.broken": "If it passes, do nothing: the next run resumes. Else look for a proxy that cuts connections.",
    "advice.preempted": "Do nothing: a slow client made way for another request, and the rest follows by itself.",
    "advice.restarted": "If it passes, do nothing: the content changed at the source while it was read.",
    "advice.throttled": "Wait: the next run asks again. Credentials under hosts: may raise the limit.",
    "advice.server": "The host has a fault of its own. Wait, or ask its operator.",
    "advice.refused": "Read what the host says, and correct the address or the rights there.",
    "advice.denied": "Check the credential for this host (auth: under hosts:): whether it is valid, and its rights.",
    "advice.missing": "Check names and tags in from: if the source lacks it; create the repository if the target does.",
    "advice.immutable": "The target forbids to overwrite this tag. Allow it there, or write to another name (as:).",
    "advice.quota": "The account has as many as it may have: remove what is not needed, or ask the host for more.",
    "advice.untrusted": "Check whether the host may be asked there; if so, allow it under hosts: as the message says.",
    "advice.content": "The source lacks it, or delivers it wrong. Check names and tags in from:, then ask its owner.",
    "advice.digest_mismatch": "Try again; if it stays, the source is damaged, or a proxy changes what passes.",
    "advice.too_large": "Check whether the content may be that large; if so, raise the limit that the message names.",
    "advice.signature": "See in the message what is wrong with its signatures, and have it signed anew at its source.",
    "advice.unsigned": "Have the image signed at its source; where that is a copy, bring the signatures there, too.",
    "advice.signature_missing": "If it stays, check that the source has the signature, and lets us read it.",
    "advice.signature_key": "Ask its publisher which key is right; if you trust it, add it to signatures.require.",
    "advice.signature_identity": "Compare who signed it with identity: and issuer: of signatures.require.",
    "advice.signature_digest": "Do not use it; ask its publisher whether the tag was moved. No key mends this.",
    "advice.taken_down": "Mirror it no longer; if it may be mirrored again, remove its entry from settings.denied.",
    "advice.unsupported": "Publish it in a current format (push an old Docker image again), or mirror it no longer.",
    "advice.deadline": "Raise deadline: of the mirror, or mirror less in one run; what is finished stays valid.",
    "advice.fenced": "Nothing to do: another replica runs the mirror. Check why this one gave no sign of life.",
    "advice.interrupted": "Nothing to do: the next run resumes.",
    "advice.storage": "Check the disk of the state directory: free space, rights, and whether it is read-only.",
    "advice.conflict": "Somebody else wrote the same name. Let one mirror alone write it; the next run tries again.",
    "advice.guard": "The source lost more than a change explains. If that is meant, run `mirrord sync NAME --allow`.",
}
"""Each text by `advice.` and the code of `mirrord.errors`."""
