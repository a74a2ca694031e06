"""A Git host with an API, on one port: pytest-httpserver answers the API as it is told, real Git stands behind.

    site = ForgeSite(httpserver, git, "gitea")
    site.expect(*site.making(), *site.switching())  # what the API will be asked, in this order, each once
    ...
    site.check()

Gitea's answers are those that Gitea 1.26 was seen to give, the others' those that the hosts document, or that others
report of them; as far as a mirror needs them.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from typing import Any, Final, Literal, get_args
from urllib.parse import quote, unquote

from pytest_httpserver import HTTPServer
from pytest_httpserver.httpserver import UNDEFINED
from werkzeug import Request, Response

from mirrord.testing.githost import GitHost

ForgeKind = Literal["github", "gitee", "gitea", "gitlab", "coding", "cnb"]
KINDS: Final[tuple[ForgeKind, ...]] = get_args(ForgeKind)
TOKEN: Final = "tok-9f2d61c07ab84e35"
OWNERS: Final = {"coding": "team/project", "gitlab": "group/sub", "cnb": "group/sub", "github": "org"}
LOGINS: Final = {"cnb": "cnb"}
_ROOTS: Final = {"github": "/api/v3", "gitee": "/api/v5", "gitea": "/api/v1", "gitlab": "/api/v4", "cnb": ""}
_SCHEMES: Final = {"gitea": "token", "coding": "token"}
_TAKEN: Final[Mapping[str, tuple[int, Any]]] = {
    "github": (
        422,
        {
            "message": "Repository creation failed.",
            "errors": [{"resource": "Repository", "code": "custom", "field": "name", "message": "name already exists"}],
        },
    ),
    "gitee": (422, {"error": {"base": ["已存在同地址仓库(忽略大小写)"]}}),
    "gitea": (409, {"message": "The repository with the same name already exists."}),
    "gitlab": (400, {"message": {"name": ["has already been taken"], "path": ["has already been taken"]}}),
    "cnb": (409, {"errcode": 6, "errmsg": "repository already exists"}),
}
_DENIED: Final[Mapping[str, Any]] = {
    "github": {"message": "Bad credentials", "status": "401"},
    "gitee": {"message": "401 Unauthorized: Access token does not exist"},
    "gitea": {"message": "invalid username, password or token"},
    "gitlab": {"message": "401 Unauthorized"},
    "cnb": {"errcode": 16, "errmsg": "Unauthorized"},
}


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One request to the API, and its answer.

    Attributes:
        method: in capitals.
        path: below the API's root, decoded; for Coding the action.
        answer: the document.
        status: its status.
        sent: the body that must come, or UNDEFINED.
        effect: what it does to the repository.
        media: the type of an answer that is bytes.
    """

    method: str
    path: str
    answer: Any = None
    status: int = 200
    sent: Any = UNDEFINED
    effect: Callable[[], object] = lambda: None
    media: str = "application/octet-stream"


class ForgeSite:
    """One repository, `OWNER/app`, at one kind of host.

    Attributes:
        host: `127.0.0.1:PORT`.
        name: of the repository.
        lag: how many requests by Git find nothing.
    """

    def __init__(self, server: HTTPServer, git: GitHost, kind: ForgeKind) -> None:
        self.server, self.git, self.kind, self.lag = server, git, kind, 0
        self.host = f"127.0.0.1:{server.port}"
        self.owner = OWNERS.get(kind, "robot")
        self.name = f"{self.owner}/app"
        self.login = LOGINS.get(kind, "robot")
        self._calls: list[ApiCall] = []
        server.expect_request(f"/{self.name}.git/info/refs").respond_with_handler(self._by_git)
        for service in ("git-upload-pack", "git-receive-pack"):
            server.expect_request(f"/{self.name}.git/{service}").respond_with_handler(self._by_git)

    @property
    def url(self) -> str:
        """The repository's URL."""
        return f"http://{self.host}/{self.name}.git"

    def expect(self, *calls: ApiCall) -> None:
        """Answer these, each once."""
        for call in calls:
            self._calls.append(call)
            coding = self.kind == "coding"
            asked = self.server.expect_oneshot_request(
                "/open-api" if coding else _ROOTS[self.kind] + call.path,
                call.method,
                query_string={"Action": call.path} if coding else None,
                json=call.sent,
                headers={"Authorization": f"{_SCHEMES.get(self.kind, 'Bearer')} {TOKEN}"},
            )
            asked.respond_with_handler(partial(self._answer, call))

    def bodies(self, call: ApiCall) -> list[Mapping[str, Any]]:
        """Return what was sent with such a call."""
        path = "/open-api" if self.kind == "coding" else _ROOTS[self.kind] + call.path
        return [
            json.loads(request.get_data())
            for request, _ in self.server.log
            if (request.method, request.path) == (call.method, path) and request.args.get("Action") in (None, call.path)
        ]

    def check(self) -> None:
        """See that all that was expected was asked, in this order, and that no URL holds the token."""
        self.server.check()
        seen = [
            (request.method, request.args.get("Action") or request.path.removeprefix(_ROOTS.get(self.kind, "")))
            for request, _ in self.server.log
            if f"/{self.name}.git/" not in request.path
        ]
        assert seen == [(call.method, call.path) for call in self._calls]
        assert not any(TOKEN in unquote(request.url) for request, _ in self.server.log)

    # What each kind of host is asked

    def making(self, *, private: bool = True) -> list[ApiCall]:
        """Return how the repository is made."""
        shown = {"id": 1, "name": "app", "private": private, "default_branch": None}
        *finds, creates = self._creation()
        answer = {"DepotId": 1} if self.kind == "coding" else shown
        return [*finds, ApiCall(creates.method, creates.path, answer, 201, creates.sent, self.create)]

    def taken(self) -> list[ApiCall]:
        """Return how it is refused, since it is there already."""
        *finds, creates = self._creation()
        if self.kind == "coding":
            error = {"Error": {"Code": "FailedOperation", "Message": "仓库已存在"}}
            return [*finds, ApiCall("POST", "CreateGitDepot", error), *self.found()]
        status, document = _TAKEN[self.kind]
        return [*finds, ApiCall(creates.method, creates.path, document, status), *self.found()]

    def found(self) -> list[ApiCall]:
        """Return how it is looked up."""
        match self.kind:
            case "coding":
                return [ApiCall("POST", "DescribeDepotByNameInfo", {"Depot": {"Id": 1, "Name": "app"}})]
            case "cnb":
                return [ApiCall("GET", f"/{self.name}", {"name": "app"})]
            case "gitlab":
                return [ApiCall("GET", f"/projects/{self.name}", {"id": 1, "default_branch": None})]
            case _:
                return [ApiCall("GET", f"/repos/{self.name}", {"id": 1, "default_branch": None})]

    def reading(self, path: str, content: bytes, ref: str = "main") -> list[ApiCall]:
        """Return how a file is read: bytes everywhere, and at Coding JSON with the content in base64.

        GitHub's contents API sends bytes for `application/vnd.github.raw+json`; Gitee (`/repos/{o}/{r}/raw/{path}`),
        Gitea, GitLab (`/repository/files/{path}/raw`) and CNB (`/-/git/raw/{ref_with_path}`) document such a path;
        Coding's DescribeGitFile takes DepotId, Path and Ref and answers with a GitFile.
        """
        commit = self.git.refs(f"{self.name}.git")[f"refs/heads/{ref}"]
        match self.kind:
            case "coding":
                told = hashlib.sha256(content).hexdigest()
                file: dict[str, Any] = {
                    "Content": base64.b64encode(content).decode(),
                    "ContentSha256": told,
                    "Encoding": "base64",
                }
                file |= {"FileName": path.rpartition("/")[2], "FilePath": path, "Sha": "", "Size": len(content)}
                sent = {"Action": "DescribeGitFile", "DepotId": 1, "Path": path, "Ref": ref}
                return [*self.found(), ApiCall("POST", "DescribeGitFile", {"GitFile": file}, sent=sent)]
            case "cnb":
                return [ApiCall("GET", f"/{self.name}/-/git/raw/{commit}/{path}", content)]
            case "gitlab":
                return [ApiCall("GET", f"/projects/{self.name}/repository/files/{path}/raw", content)]
            case _:
                below = "contents" if self.kind == "github" else "raw"
                return [ApiCall("GET", f"/repos/{self.name}/{below}/{path}", content)]

    def empty(self) -> list[ApiCall]:
        """Return how the default branch is asked for where there is none."""
        match self.kind:
            case "coding":
                gone = {"Error": {"Code": "ResourceNotFound", "Message": "分支不存在"}}
                return [ApiCall("POST", "DescribeDepotDefaultBranch", gone)]
            case "cnb":
                return [ApiCall("GET", f"/{self.name}/-/git/head", {"errcode": 5, "errmsg": "Not Found"}, 404)]
            case _:
                return self.found()

    def switching(self, branch: str = "trunk", *, deaf: bool = False) -> list[ApiCall]:
        """Return how the default branch is set; a deaf host says yes and does nothing, as Gitea does for a moment."""
        effect = (lambda: None) if deaf else (lambda: self.switch(branch))
        match self.kind:
            case "cnb":
                return []
            case "coding":
                user = ApiCall("POST", "DescribeCodingCurrentUser", {"User": {"Id": 5, "Name": "robot"}})
                return [*self.found(), user, ApiCall("POST", "ModifyDefaultBranch", {}, effect=effect)]
            case "gitlab":
                return [ApiCall("PUT", f"/projects/{self.name}", {}, sent={"default_branch": branch}, effect=effect)]
            case _:
                sent = {"name": "app", "default_branch": branch}
                return [ApiCall("PATCH", f"/repos/{self.name}", {}, sent=sent, effect=effect)]

    def denied(self) -> list[ApiCall]:
        """Return how a wrong token is refused."""
        first = self._creation()[0]
        if self.kind == "coding":
            error = {"Error": {"Code": "AuthFailure", "Message": "令牌无效"}}
            return [ApiCall(first.method, first.path, error)]
        return [ApiCall(first.method, first.path, _DENIED[self.kind], 401)]

    def _creation(self) -> list[ApiCall]:
        match self.kind:
            case "coding":
                project = {"Id": 7, "Name": "project"}
                search = ApiCall("POST", "DescribeCodingProjects", {"Data": {"ProjectList": [project]}})
                return [search, ApiCall("POST", "CreateGitDepot")]
            case "cnb":
                return [ApiCall("POST", f"/{self.owner}/-/repos")]
            case "gitlab":
                return [ApiCall("GET", f"/namespaces/{self.owner}", {"id": 7}), ApiCall("POST", "/projects")]
            case _:
                below = "/user" if self.owner == self.login else f"/orgs/{self.owner}"
                return [ApiCall("GET", "/user", {"login": self.login}), ApiCall("POST", f"{below}/repos")]

    # What it does

    def create(self) -> None:
        """Make the repository."""
        self.git.create(f"{self.name}.git")

    def switch(self, branch: str) -> None:
        """Let HEAD point to a branch."""
        (self.git.path(f"{self.name}.git") / "HEAD").write_text(f"ref: refs/heads/{branch}\n")

    def _answer(self, call: ApiCall, _: Request) -> Response:
        call.effect()
        if isinstance(call.answer, bytes):
            return Response(call.answer, call.status, content_type=call.media)
        document = {"Response": {"RequestId": "1", **call.answer}} if self.kind == "coding" else call.answer
        body = json.dumps(document, ensure_ascii=False)
        return Response(body, 200 if self.kind == "coding" else call.status, content_type="application/json")

    def _by_git(self, request: Request) -> Response:
        if self.lag:
            self.lag -= 1
            return Response(status=404)
        headers = {name: value for name, value in request.headers.items() if name not in ("Host", "Transfer-Encoding")}
        query = request.query_string.decode()
        connection = HTTPConnection(self.git.host, timeout=30)
        try:
            target = f"{quote(request.path)}{'?' + query if query else ''}"
            connection.request(request.method, target, request.get_data() or None, headers)
            answer = connection.getresponse()
            kept = [(name, value) for name, value in answer.getheaders() if name not in ("Transfer-Encoding", "Server")]
            return Response(answer.read(), answer.status, kept)
        finally:
            connection.close()
