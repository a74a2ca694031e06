"""The comment in a pull request: a table for each registry, the commands to pull, and one to install them."""

from __future__ import annotations

from datetime import UTC, datetime

from mirrord.report.build import MARK, BuiltImage, comment
from mirrord.report.words import words
from mirrord.wire.oci.reference import Reference

NOW = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)
HUB, GHCR = "https://hub.docker.com/r/gocrane/craned", ""


def image(name: str, key: str, registry: str, place: str, page: str = "", *, there: bool = True) -> BuiltImage:
    return BuiltImage(name, key, registry, page, Reference.parse(f"{place}/{name}:pr-7-abcdef0"), there)


IMAGES = [
    image("craned", "craned", "Docker Hub", "docker.io/gocrane", HUB),
    image("agent", "craneAgent", "Docker Hub", "docker.io/gocrane"),
    image("craned", "craned", "GitHub Container Registry", "ghcr.io/gocrane/crane"),
    image("agent", "", "GitHub Container Registry", "ghcr.io/gocrane/crane", there=False),
]


def test_a_table_for_each_registry() -> None:
    """It begins with its mark; what a registry lacks has no command, and that registry no chart to install."""
    text = comment(IMAGES, "abcdef0", NOW, words("en"), "helm install crane crane/crane")
    assert text.startswith(f"{MARK}\n### Images of this pull request\n\nBuilt from `abcdef0`; as of ")
    assert (
        text.partition("anew.\n")[2]
        == f"""
#### Docker Hub

| Image | Pull command |
| --- | --- |
| [craned]({HUB}) | `docker pull docker.io/gocrane/craned:pr-7-abcdef0` |
| agent | `docker pull docker.io/gocrane/agent:pr-7-abcdef0` |

Install them by Helm:

```sh
helm install crane crane/crane \\
  --set craned.image.repository=docker.io/gocrane/craned \\
  --set craned.image.tag=pr-7-abcdef0 \\
  --set craneAgent.image.repository=docker.io/gocrane/agent \\
  --set craneAgent.image.tag=pr-7-abcdef0
```

#### GitHub Container Registry

| Image | Pull command |
| --- | --- |
| craned | `docker pull ghcr.io/gocrane/crane/craned:pr-7-abcdef0` |
| agent | not there yet |
"""
    )


def test_in_chinese() -> None:
    """All words are; the mark is the same, so that a change of language writes the same comment anew."""
    text = comment(IMAGES[2:], "abcdef0", NOW, words("zh"))
    assert text.startswith(f"{MARK}\n### 此合并请求的镜像\n")
    assert "| 镜像 | 拉取命令 |" in text
    assert "| agent | 尚未就绪 |" in text
    assert "helm" not in text


def test_values_without_a_prefix() -> None:
    """A chart of one image has `image.repository` at its top."""
    text = comment(
        [image("app", "", "Quay", "quay.io/team")], "v1-3-gabc", NOW, words("en"), "helm upgrade app ./chart"
    )
    assert "  --set image.repository=quay.io/team/app \\\n  --set image.tag=pr-7-abcdef0\n```\n" in text
