"""The page at `/`: the status for people. It loads nothing from elsewhere, and nothing from outside is markup."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from html import escape

from mirrord.printable import size
from mirrord.report.front import FrontStatus
from mirrord.report.status import MirrorStatus, Status, TargetStatus, counted, rfc3339

POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""Content-Security-Policy for the page."""

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .7rem;border-bottom:1px solid #8884}"
    ".bad{color:#c22}.sub td:first-child{padding-left:2rem}small{opacity:.7}@media(prefers-color-scheme:dark)"
    "{body{background:#111;color:#ddd}.bad{color:#f77}}"
)


class Fragments:
    """The fragment of each mirror in one format, rendered again only when its status has changed."""

    def __init__(self, write: Callable[[MirrorStatus], str]) -> None:
        """Begin empty."""
        self._write = write
        self._written: Mapping[str, tuple[MirrorStatus, bytes]] = {}

    def of(self, mirrors: Iterable[MirrorStatus]) -> list[bytes]:
        """Return the fragment of each mirror."""
        before, written = self._written, dict[str, tuple[MirrorStatus, bytes]]()
        for mirror in mirrors:
            found = before.get(mirror.name)
            same = found is not None and found[0] is mirror
            written[mirror.name] = found if found and same else (mirror, self._write(mirror).encode())
        self._written = written
        return [fragment for _, fragment in written.values()]


def page(status: Status, rows: Fragments) -> bytes:
    """Render the page."""
    problem, stale = status.configuration_error, status.certificate_error
    warning = f'<p class="bad">The last reload was refused: {escape(problem)}</p>' if problem else ""
    warning += f'<p class="bad">The certificate before stays in use: {escape(stale)}</p>' if stale else ""
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>mirrord</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>mirrord</h1><p>Version {escape(status.version)}, {escape(status.state)}, "
        f"as of {_time(status.now)}.</p>{warning}"
        "<table><thead><tr><th>Mirror and targets<th>State<th>Last success<th>Next run<th>Items<th>Last run"
        "<th>Last error</tr></thead><tbody>"
    )
    foot = (
        f"</tbody></table>{_front(status.front)}"
        '<p><small><a href="/status">/status</a> is this as JSON, <a href="/metrics">/metrics</a> is '
        "for Prometheus.</small></p></body></html>\n"
    )
    body = rows.of(status.mirrors) or [b'<tr><td colspan="7">No mirror is configured.</td></tr>']
    return b"".join([head.encode(), *body, foot.encode()])


def _front(front: FrontStatus | None) -> str:
    """Render what the front did; "" where nothing was pulled through it."""
    if front is None or not (front.answers or front.refusals or front.cache_entries or front.list_errors):
        return ""
    rows = {
        "Answers": front.answered(),
        "Refused": front.refused(),
        "Traffic": f"{size(front.from_upstream)} from upstream, {size(front.to_clients)} to clients",
        "Cache": (
            f"{size(front.cache_bytes)} of {size(front.cache_limit)}, {front.cache_entries} blobs and manifests,"
            f" {front.evictions} evicted"
        ),
    }
    refused = (f"{one[:1].upper()}{one[1:]}" for one in front.list_troubles())
    troubles = [*filter(None, [front.cache_error]), *refused]
    return (
        "<h2>Front</h2><table><tbody>"
        + "".join(f"<tr><th>{name}<td>{escape(text)}</tr>" for name, text in rows.items())
        + "</tbody></table>"
        + "".join(f'<p class="bad">{escape(trouble)}</p>' for trouble in troubles)
    )


def rows_of(mirror: MirrorStatus) -> str:
    """Render the rows of a mirror and its targets."""
    running = mirror.running
    state: str = mirror.state
    if running is not None:
        state = f"running: {running.done} of {running.steps} steps" if running.steps is not None else "running"
    if count := mirror.problems.count:
        state += f", {count} problem{'' if count == 1 else 's'}"
    served = f"<br><small>{escape(mirror.address)}</small>" if mirror.address else ""
    name = f"<b>{escape(mirror.name)}</b> <small>{escape(mirror.kind)}</small>{served}"
    return _row("", name, state, mirror, _time(mirror.next_run)) + "".join(
        _row(' class="sub"', escape(target.name), target.result or "", target) for target in mirror.targets
    )


def _row(attributes: str, name: str, state: str, entry: TargetStatus, next_run: str = "") -> str:
    error = entry.last_error
    trouble = f"{escape(error.message)} <small>({entry.consecutive_failures} in a row)</small>" if error else ""
    last, success = escape(counted(entry.last_run)), _time(entry.last_success) or "never"
    cells = (name, escape(state), success, next_run, str(entry.items), last)
    marked = f'<td class="bad">{trouble}</td>' if trouble else "<td></td>"
    return f"<tr{attributes}>" + "".join(f"<td>{cell}</td>" for cell in cells) + f"{marked}</tr>"


def _time(at: datetime | None) -> str:
    return escape(rfc3339(at) or "")
