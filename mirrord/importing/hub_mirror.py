"""Workflows that use hub-mirror-action: Git repositories of one account that are pushed to another."""

from __future__ import annotations

import re

from mirrord.config.foreign import Node
from mirrord.importing import timing, variables
from mirrord.importing.draft import Draft
from mirrord.importing.section import Section
from mirrord.importing.values import Keys, OtherMirror

_ACTION = "/hub-mirror-action"  # of Yikun, and copies of it
_HOSTS = {"github": "github.com", "gitee": "gitee.com", "gitlab": "gitlab.com", "gitcode": "gitcode.com"}
_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ACCOUNT = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")
_LOST = {
    "timeout": "is for one command of git; mirrord ends a run at its deadline:, and a transfer when it stalls",
    "src_token": "mirrord reads with the auth: of the host; write it if the repositories are private",
    "src_endpoint": "write the address of the server into from",
    "dst_endpoint": "write the address of the server into to",
    "clone_style": "the import reads over HTTPS; write from: git@HOST:ACCOUNT/NAME.git for ssh",
}
_KNOWN = ("github", "gitee", "gitlab")  # values of `host:` of a target
_TRIGGERS = "mirrord runs at a schedule, and by mirrord sync; write every: 1h for each mirror"
_ALL = "mirrord needs the names of the repositories; write them into static_list: api,web and import again"


def fits(node: Node) -> bool:
    """Whether a document is of this format."""
    jobs = node.mapping.get("jobs", node).mapping.values()
    steps = [job.mapping["steps"].value for job in jobs if "steps" in job.mapping]
    return any(_ours(step) for each in steps if isinstance(each, tuple) for step in each)


def _ours(step: Node) -> bool:
    return step.text("uses").lower().partition("@")[0].strip().endswith(_ACTION)


def read(root: Section, draft: Draft) -> None:
    """Add what a document has to the draft."""
    root.ignore("name", "run-name", "permissions", "concurrency", "env", "defaults")
    own = _schedule(root)
    for _, job in root.section("jobs").named():
        job.ignore("runs-on", "name", "timeout-minutes", "permissions", "concurrency", "env", "needs")
        for key in ("if", "strategy"):
            job.lose(key, "mirrord has no conditions and no matrix; write a mirror for each")
        for step in job.sections("steps"):
            if _ours(step.node):
                step.ignore("uses", "name", "id")
                _step(step.section("with"), own, draft)
                step.lose("if", "mirrord has no conditions")
                step.end()
            else:
                step.tell("", "is a step of another kind, and was skipped")
        job.end()
    root.end()


def _schedule(root: Section) -> Keys:
    """Return the schedule of `on:`; one mirror has one."""
    if not isinstance(root.values.get("on", root.node).value, dict):
        root.lose("on", _TRIGGERS, unless=("workflow_dispatch",))
        return {}
    triggers = root.section("on")
    triggers.ignore("workflow_dispatch")
    found: Keys = {}
    for number, entry in enumerate(triggers.sections("schedule")):
        cron = entry.text("cron")
        entry.end()
        if number:
            entry.lose("cron", "a mirror has one schedule; join them in one line, or write every:")
            continue
        try:
            found = timing.schedule(cron)
        except ValueError as error:
            entry.lose("cron", str(error))
    triggers.end(_TRIGGERS)
    return found


def _step(options: Section, own: Keys, draft: Draft) -> None:
    source, target = (_place(options, side) for side in ("src", "dst"))
    token = options.text("dst_token")
    names = _repositories(options)
    extra: Keys = {} if options.flag("lfs") else {"lfs": False}
    _differences(options, token)
    options.ignore("cache_path", "debug", "api_timeout", "account_type", "src_account_type", "dst_account_type")
    for key, why in _LOST.items():
        options.lose(key, why, unless=("", "https"))
    options.end()
    if source and target and names:
        where = _target(options, target, token, draft)
        for name, called in names.items():
            address = f"https://{source[1]}/{source[2]}/{name}.git"
            keys = {"kind": "git", "from": address, "as": called, **extra, **own}
            draft.others.append(OtherMirror(options.origin("static_list"), called, keys, where))


def _repositories(options: Section) -> dict[str, str]:
    """Return the repositories that are mirrored, each with its name at the target."""
    static, black, white = (_names(options, key) for key in ("static_list", "black_list", "white_list"))
    mappings = dict(pair.split("=>", 1) for pair in _names(options, "mappings") if "=>" in pair)
    if not static:
        options.refuse("src", _ALL)
    found: dict[str, str] = {}
    for name in static:
        called = mappings.get(name, name)
        if name in black or (white and name not in white):
            continue
        if all(_NAME.fullmatch(each) and not each.endswith((".git", ".lock")) for each in (name, called)):
            found[name] = called
        else:
            options.lose("static_list", f"{name[:60]!r} is not the name of a repository; write the name itself")
    return found


def _differences(options: Section, token: str) -> None:
    if not options.flag("force_update"):
        what = (
            "without it, hub-mirror-action fails on a branch that was rewritten; mirrord follows it, and keeps a backup"
        )
        options.tell("force_update", what)
    options.tell(
        "dst",
        "branches that upstream deleted are deleted, as before; mirrord keeps a backup, and stops at a great loss",
    )
    if token:
        options.ignore("dst_key")
        if options.values.get("dst_key"):
            options.tell("dst_key", "is not needed: mirrord pushes over HTTPS, with dst_token")
    else:
        options.lose("dst_key", "mirrord takes a file; write the key to one, and ssh_key: FILE for the host of dst")


def _place(options: Section, key: str) -> tuple[str, str, str] | None:
    """Return the kind of host, its name, and the account."""
    kind, _, account = options.text(key).partition("/")
    account = account.strip("/")
    if kind not in _HOSTS or not _ACCOUNT.fullmatch(account):
        options.refuse(key, f"is not HOST/ACCOUNT with one of {', '.join(_HOSTS)}, and without variables")
        return None
    return kind, _HOSTS[kind], account


def _names(options: Section, key: str) -> list[str]:
    names = (name.strip() for name in options.text(key).replace("\n", ",").split(","))
    return list(dict.fromkeys(filter(None, names)))


def _target(options: Section, place: tuple[str, str, str], token: str, draft: Draft) -> dict[str, Keys]:
    kind, host, account = place
    if token:
        password = variables.password_keys(token, host, variables.WORKFLOW)
        draft.login(host, options.origin("dst_token"), account, password)
        options.tell(
            "dst_token", f"the user name at {host} is taken from dst; correct it if the token is of another user"
        )
        address = f"https://{host}/{account}/{{name}}.git"
    else:
        address = f"git@{host}:{account}/{{name}}.git"
    known: Keys = {"host": kind} if kind in _KNOWN else {}
    return {f"{kind}-{account}": {"kind": "git", "to": address, **known}}
