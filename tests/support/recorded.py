"""Whole bodies that GitHub and Gitee sent, with their shapes and figures; names and texts in them are ours.

Where they are from, all of them public:

- `github-opened`, `github-ping`: deliveries in the payload examples of octokit/webhooks (commit 3a58428a).
- `github-labels`, `github-label`: answers recorded in octokit/fixtures (commit cb8bc9da), scenario `labels`.
- `github-issue`: an answer of the REST API of April 2026, with all its newer fields.
- `github-comments`, `github-user`: examples of GitHub's manual, as drone/go-scm (commit 65473142) has them.
- `gitee-opened`: a delivery that drone/go-scm received. `gitee-issue`, `gitee-comments`, `gitee-pull-comments` and
  `gitee-user`: answers of Gitee's API, recorded there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

_FOLDER: Final = Path(__file__).parents[1] / "data/forges"


def recorded(name: str) -> Any:
    """Return a body, which the caller may change."""
    return json.loads((_FOLDER / f"{name}.json").read_text())
