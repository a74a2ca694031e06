"""How the APIs of Git hosts write answers and refusals.

Gitea's fields, statuses and texts are those that Gitea 1.26 was seen to answer, the others' those that the hosts
document, or that others report of them; as far as a mirror needs them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal

from mirrord.testing.reply import Reply

Forge = Literal["github", "gitee", "coding", "cnb", "gitea", "gitlab"]
Body = Mapping[str, Any]

GONE: Final[Mapping[str, Body]] = {
    "github": {"message": "Not Found", "status": "404"},
    "gitee": {"message": "Not Found Project"},
    "gitea": {"errors": None, "message": "not found"},
    "gitlab": {"message": "404 Project Not Found"},
    "cnb": {"errcode": 5, "errmsg": "Not Found"},
}
CUSTOM: Final = {"resource": "Repository", "code": "custom"}
TAKEN: Final[Mapping[str, tuple[int, Body]]] = {
    "github": (
        422,
        {
            "message": "Repository creation failed.",
            "errors": [{**CUSTOM, "field": "name", "message": "name already exists on this account"}],
        },
    ),
    "gitee": (422, {"error": {"base": ["已存在同地址仓库(忽略大小写)"]}}),
    "gitea": (409, {"message": "The repository with the same name already exists."}),
    "gitlab": (400, {"message": {"name": ["has already been taken"], "path": ["has already been taken"]}}),
    "cnb": (409, {"errcode": 6, "errmsg": "repository already exists"}),
    "coding": (200, {}),
}
_DENIED: Final[Mapping[str, Body]] = {
    "github": {"message": "Bad credentials", "status": "401"},
    "gitee": {"message": "401 Unauthorized: Access token does not exist"},
    "gitea": {"message": "invalid username, password or token"},
    "gitlab": {"message": "401 Unauthorized"},
    "cnb": {"errcode": 16, "errmsg": "Unauthorized"},
}


def said(status: int, document: Body) -> Reply:
    """Answer with a document."""
    return Reply(status, {"Content-Type": "application/json"}, json.dumps(document, ensure_ascii=False).encode())


def denied(forge: Forge) -> Reply:
    """Say that the token is wrong."""
    return failure("AuthFailure", "令牌无效") if forge == "coding" else said(401, _DENIED[forge])


def success(**answer: object) -> Reply:
    """Wrap an answer as Coding does."""
    return said(200, {"Response": {"RequestId": "1", **answer}})


def failure(code: str, message: str) -> Reply:
    """Say no as Coding does: with status 200."""
    return success(Error={"Code": code, "Message": message})
