"""The page at `/`: the status as one table, without script, style sheet or picture from anywhere. Pure."""

from __future__ import annotations

from datetime import datetime
from html import escape

from mirrord.report.status import MirrorStatus, Status, TargetStatus, counted, rfc3339

POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""Content-Security-Policy for the page."""

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .7rem;border-bottom:1px solid #8884}"
    ".bad{color:#c22}.sub td:first-child{padding-left:2rem}small{opacity:.7}@media(prefers-color-scheme:dark)"
    "{body{background:#111;color:#ddd}.bad{color:#f77}}"
)


def page(status: Status) -> str:
    """Write the page."""
    rows = "".join(_mirror(mirror) for mirror in status.mirrors) or (
        '<tr><td colspan="7">No mirror is configured.</td></tr>'
    )
    problem = status.configuration_error
    warning = f'<p class="bad">The last reload was refused: {escape(problem)}</p>' if problem else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>mirrord</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>mirrord</h1><p>Version {escape(status.version)}, {escape(status.state)}, "
        f"as of {_time(status.now)}.</p>{warning}"
        "<table><thead><tr><th>Mirror and targets<th>State<th>Last success<th>Next run<th>Items<th>Last run"
        f"<th>Last error</tr></thead><tbody>{rows}</tbody></table>"
        '<p><small><a href="/status">/status</a> is this as JSON, <a href="/metrics">/metrics</a> is for '
        "Prometheus.</small></p></body></html>\n"
    )


def _mirror(mirror: MirrorStatus) -> str:
    running, state = mirror.running, mirror.state
    if running is not None:
        state = f"running: {running.done} of {running.steps} steps" if running.steps is not None else "running"
    if count := mirror.problems.count:
        state += f", {count} problem{'' if count == 1 else 's'}"
    name = f"<b>{escape(mirror.name)}</b> <small>{escape(mirror.kind)}</small>"
    return _row("", name, state, mirror, _time(mirror.next_run)) + "".join(
        _row(' class="sub"', escape(target.name), target.result or "", target) for target in mirror.targets
    )


def _row(attributes: str, name: str, state: str, entry: TargetStatus, next_run: str = "") -> str:
    error = entry.last_error
    trouble = f"{escape(error.message)} <small>({entry.consecutive_failures} in a row)</small>" if error else ""
    last, success = escape(counted(entry.last_run)), _time(entry.last_success) or "never"
    cells = (name, escape(state), success, next_run, str(entry.items), last)
    return f"<tr{attributes}>" + "".join(f"<td>{cell}</td>" for cell in cells) + f'<td class="bad">{trouble}</td></tr>'


def _time(at: datetime | None) -> str:
    return escape(rfc3339(at) or "")
