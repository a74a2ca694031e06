"""What the APIs of Git hosts answer: GitHub, Gitee, Gitea, GitLab, CNB, and Coding, which calls errors successes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from mirrord.testing.githost import GitHost
from mirrord.testing.reply import Reply
from tests.support.forgewords import CUSTOM, GONE, TAKEN, Body, Forge, failure, said, success

_USER: Final = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to the API; `body` is {} when none came."""

    method: str
    path: str
    body: Body


@dataclass(slots=True)
class Made:
    """What the API knows of a repository, besides what Git knows."""

    number: int
    private: bool
    description: str = ""


class Api:
    """The repositories of a host, as its API makes and shows them.

    Attributes:
        forge: whose API.
        login: whose token it is.
        made: repositories by their name without `.git`.
        owners: organisations, groups, or projects (Coding: `TEAM/PROJECT`) in which the token may make repositories.
        reviews: a repository that is to become public stays private for now (Gitee).
        deaf: how many times the default branch is not changed, and nothing said of it, as Gitea does for a moment after
            the first push.
        asked: every question that came with the right token.
    """

    def __init__(self, host: GitHost, forge: Forge, login: str) -> None:
        self.forge, self.login, self.reviews, self.deaf = forge, login, True, 0
        self.made: dict[str, Made] = {}
        self.owners: set[str] = set()
        self.asked: list[Asked] = []
        self._host = host

    def answer(self, asked: Asked) -> Reply:
        """Do what is asked for."""
        self.asked.append(asked)
        if self.forge == "coding":
            action = _ACTIONS.get(str(asked.body.get("Action")))
            return action(self, asked.body) if action else failure("InvalidAction", "no such action")
        for method, pattern, answer in _ROUTES[self.forge]:
            match = re.fullmatch(pattern, asked.path)
            if match and method == asked.method:
                return answer(self, asked.body, *map(unquote, match.groups()))
        return self.gone()

    def gone(self) -> Reply:
        """Say that there is no such thing."""
        return said(404, GONE[self.forge])

    def add(self, name: str) -> None:
        """Get to know a repository."""
        self.made.setdefault(name.removesuffix(".git"), Made(len(self.made) + 1, private=True))

    def make(self, owner: str, body: Body, *, private: bool) -> Reply:
        """Make a repository below `owner`, if the token may, and it is not there."""
        name = f"{owner}/{body['name']}"
        if owner not in {*self.owners, self.login}:
            return said(404, GONE.get(self.forge, {}))
        if name in self.made:
            return said(*TAKEN[self.forge])
        self._host.create(f"{name}.git")
        self.made[name].private, self.made[name].description = private, str(body.get("description", ""))
        return said(201, self.shown(name))

    def shown(self, name: str) -> Body:
        """Return what the API says of a repository."""
        made, word = self.made[name], name.rpartition("/")[2]
        seen = {"visibility": "private" if made.private else "public"} if self.forge in ("gitlab", "cnb") else {}
        return {
            "id": made.number,
            "name": word,
            "path": name if self.forge == "cnb" else word,
            "private": made.private,
            "description": made.description,
            "default_branch": self.default(name),
            **seen,
        }

    def default(self, name: str) -> str | None:
        """Return the branch that HEAD points to, None when the repository is empty."""
        branch = self._host.head(f"{name}.git")
        return branch.removeprefix("refs/heads/") if branch in self._host.refs(f"{name}.git") else None

    def switch(self, name: str, branch: str) -> bool:
        """Let HEAD point to a branch, which has to be there."""
        if f"refs/heads/{branch}" not in self._host.refs(f"{name}.git"):
            return False
        if self.deaf:
            self.deaf -= 1
            return True
        (self._host.path(f"{name}.git") / "HEAD").write_text(f"ref: refs/heads/{branch}\n")
        return True


# GitHub, Gitee, Gitea


def _get(api: Api, _: Body, name: str) -> Reply:
    return said(200, api.shown(name)) if name in api.made else api.gone()


# GitHub, Gitee, Gitea


def _who(api: Api, _: Body) -> Reply:
    return said(200, {"login": api.login})


def _own(api: Api, body: Body) -> Reply:
    return api.make(api.login, body, private=bool(body.get("private", api.forge == "gitee")))


def _in_organisation(api: Api, body: Body, owner: str) -> Reply:
    return api.make(owner, body, private=bool(body.get("private", api.forge == "gitee")))


def _change(api: Api, body: Body, name: str) -> Reply:
    if name not in api.made:
        return api.gone()
    if api.forge == "gitee" and "name" not in body:
        return said(400, {"message": "name is missing"})
    branch = str(body.get("default_branch", ""))
    if branch and not api.switch(name, branch) and api.forge != "gitea":
        error = {**CUSTOM, "field": "default_branch", "message": f"The branch {branch} was not found."}
        return said(422, {"message": "Validation Failed", "errors": [error]})
    if "private" in body:
        api.made[name].private = bool(body["private"]) or (api.forge == "gitee" and api.reviews)
    return said(200, api.shown(name))


# GitLab

_NO_NAMESPACE: Final = {"message": "404 Namespace Not Found"}


def _namespace(api: Api, _: Body, path: str) -> Reply:
    known = sorted({*api.owners, api.login})
    return said(200, {"id": known.index(path) + 1}) if path in known else said(404, _NO_NAMESPACE)


def _project(api: Api, body: Body) -> Reply:
    known = sorted({*api.owners, api.login})
    number = int(body.get("namespace_id", known.index(api.login) + 1))
    if not 0 < number <= len(known):
        return said(404, _NO_NAMESPACE)
    return api.make(known[number - 1], body, private=body.get("visibility") != "public")


# CNB


def _in_group(api: Api, body: Body, group: str) -> Reply:
    reply = api.make(group, body, private=body.get("visibility") != "public")
    return Reply(201) if reply.status == 201 else reply


def _branch_of(api: Api, _: Body, name: str) -> Reply:
    branch = api.default(name) if name in api.made else None
    return api.gone() if branch is None else said(200, {"name": branch, "protected": False})


# Coding


def _projects(api: Api, body: Body) -> Reply:
    """Find one page of the projects whose names begin so, longer ones first: whoever takes the first one is wrong."""
    if not {"PageNumber", "PageSize"} <= body.keys():
        return failure("MissingParameter", "PageNumber and PageSize are needed")
    names = sorted((owner.rpartition("/")[2], number) for number, owner in enumerate(sorted(api.owners), 1))
    found = [{"Id": number, "Name": name} for name, number in names if name.startswith(str(body["ProjectName"]))]
    size, begin = int(body["PageSize"]), (int(body["PageNumber"]) - 1) * int(body["PageSize"])
    return success(Data={"ProjectList": found[::-1][begin : begin + size], "TotalCount": len(found)})


def _create_depot(api: Api, body: Body) -> Reply:
    known = dict(enumerate(sorted(api.owners), 1))
    owner = known.get(int(body["ProjectId"]))
    if owner is None:
        return failure("ResourceNotFound", "项目不存在")
    named = {"name": body["DepotName"], "description": body.get("Description", "")}
    if api.make(owner, named, private=not body.get("Shared")).status != 201:
        return failure("FailedOperation", "仓库已存在")
    return success(DepotId=api.made[f"{owner}/{body['DepotName']}"].number)


def _depot(api: Api, body: Body) -> Reply:
    name = f"{body['TeamGk']}/{body['ProjectName']}/{body['DepotName']}"
    if name not in api.made:
        return failure("ResourceNotFound", "仓库不存在")
    return success(Depot={"Id": api.made[name].number, "Name": body["DepotName"]})


def _default_of_depot(api: Api, body: Body) -> Reply:
    branch = api.default(str(body["DepotPath"])) if body["DepotPath"] in api.made else None
    return failure("ResourceNotFound", "分支不存在") if branch is None else success(BranchName=branch)


def _current_user(api: Api, _: Body) -> Reply:
    return success(User={"Id": _USER, "Name": api.login})


def _switch_depot(api: Api, body: Body) -> Reply:
    name = next((name for name, made in api.made.items() if made.number == body["DepotId"]), None)
    if name is None or body.get("UserId") != _USER or not api.switch(name, str(body["BranchName"])):
        return failure("ResourceNotFound", "仓库或分支不存在")
    return success()


_Answers = Callable[..., Reply]
_OWNED: Final[list[tuple[str, str, _Answers]]] = [
    ("GET", "/user", _who),
    ("POST", "/user/repos", _own),
    ("POST", "/orgs/([^/]+)/repos", _in_organisation),
    ("GET", "/repos/([^/]+/[^/]+)", _get),
    ("PATCH", "/repos/([^/]+/[^/]+)", _change),
]
_ROUTES: Final[Mapping[str, list[tuple[str, str, _Answers]]]] = {
    "github": _OWNED,
    "gitee": _OWNED,
    "gitea": _OWNED,
    "gitlab": [
        ("GET", "/namespaces/([^/]+)", _namespace),
        ("POST", "/projects", _project),
        ("GET", "/projects/([^/]+)", _get),
        ("PUT", "/projects/([^/]+)", _change),
    ],
    "cnb": [
        ("POST", "/(.+)/-/repos", _in_group),
        ("GET", "/(.+)/-/git/head", _branch_of),
        ("GET", "/(.+)", _get),
    ],
}


_ACTIONS: Final[Mapping[str, _Answers]] = {
    "DescribeCodingProjects": _projects,
    "CreateGitDepot": _create_depot,
    "DescribeDepotByNameInfo": _depot,
    "DescribeDepotDefaultBranch": _default_of_depot,
    "DescribeCodingCurrentUser": _current_user,
    "ModifyDefaultBranch": _switch_depot,
}
