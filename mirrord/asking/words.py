"""What is answered to an issue, in English and Chinese, as Markdown. Pure.

An answer is public, and everybody may ask. So the title of a stranger begins no mention, link or tag there, and what
went wrong inside, with the names of our machines, is for the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from mirrord.printable import plain
from mirrord.report.words import Words
from mirrord.wire.notify.text import cut, harmless
from mirrord.wire.oci.reference import Reference

_TITLE: Final = 120  # bytes of a title that are shown
_EN: Final[Mapping[str, str]] = {
    "queued": "{image} ({platforms}) is queued. This issue is closed when the image is there.",
    "platforms.usual": "the usual platforms",
    "done": "{image} has been copied. Pull it with",
    "misspelt": "{title} is not an image. Did you mean {image}? Then open a new issue with this title.",
    "no_image": "{title} is not an image. Open a new issue whose title is an image, such as {example}.",
    "limited": (
        "The limit of {count} images an hour is reached for you. Further issues are closed without an answer; open a"
        " new one in an hour."
    ),
    "not.missing": "{image} is not at its registry, or not public. Check name and tag, and open a new issue.",
    "not.taken_down": "{image} was taken down here, and is not copied.",
    "not.not_allowed": "{image} is not among the images that may be asked for here.",
    "not.platform": "{image} is not there for {platforms}. Choose other platforms, and open a new issue.",
    "not.other": "{image} could not be copied. The operators of this mirror find the reason in its log.",
    "label.asked": "An image that this mirror should copy",
    "label.done": "The image was copied",
    "label.refused": "The image was not copied",
}
_ZH: Final[Mapping[str, str]] = {
    "queued": "{image}（{platforms}）已加入队列，同步完成后将关闭此 issue。",
    "platforms.usual": "默认平台",
    "done": "{image} 已同步完成，请使用以下命令拉取：",
    "misspelt": "{title} 不是一个镜像，也许应该是 {image}？如果是，请以它为标题新建 issue。",
    "no_image": "{title} 不是一个镜像。请新建 issue，标题为镜像，例如 {example}。",
    "limited": "您已达到每小时 {count} 个镜像的上限。此后的 issue 将直接关闭，请一小时后再新建。",
    "not.missing": "镜像 {image} 不存在或未公开。请检查名称和标签后新建 issue。",
    "not.taken_down": "镜像 {image} 已在此下架，不再同步。",
    "not.not_allowed": "镜像 {image} 不在此处允许请求的镜像之列。",
    "not.platform": "镜像 {image} 没有平台 {platforms}。请选择其他平台后新建 issue。",
    "not.other": "镜像 {image} 同步失败，镜像站的维护者可在日志中找到原因。",
    "label.asked": "请求镜像站同步的镜像",
    "label.done": "镜像已同步",
    "label.refused": "镜像未同步",
}
TEXTS: Final = {"en": _EN, "zh": _ZH}
"""By language; `tests/asking/test_words.py` holds them to the same keys and placeholders."""


class Answers:
    """The answers to issues in one language, each as Markdown."""

    def __init__(self, language: str) -> None:
        """Answer in a language of `TEXTS`."""
        self._words = Words(language, TEXTS[language])

    def queued(self, image: Reference, platforms: Sequence[str]) -> str:
        """Say that an image waits to be copied; without platforms the configured ones are meant."""
        return self._text("queued", image=code(image), platforms=self._platforms(platforms))

    def done(self, image: Reference, places: Sequence[str]) -> str:
        """Say that an image was copied, and how it is pulled from each place."""
        commands = "\n".join(f"docker pull {place}" for place in places)
        return f"{self._text('done', image=code(image))}\n\n```\n{commands}\n```"

    def misspelt(self, title: str, meant: Reference) -> str:
        """Suggest what was probably meant by a title."""
        return self._text("misspelt", title=code(title), image=code(meant))

    def no_image(self, title: str) -> str:
        """Say that a title is no image."""
        return self._text("no_image", title=code(title), example=code("docker.io/library/nginx:1.27"))

    def limited(self, count: int) -> str:
        """Say that somebody asked for too much."""
        return self._text("limited", count=count)

    def refused(self, image: Reference, why: str, platforms: Sequence[str] = ()) -> str:
        """Say why an image was not copied; `why` is a reason of `AskedImage`."""
        key = f"not.{why}" if f"not.{why}" in _EN else "not.other"
        return self._text(key, image=code(image), platforms=self._platforms(platforms))

    def label(self, which: Literal["asked", "done", "refused"]) -> str:
        """Describe a label; plain text."""
        return self._text(f"label.{which}")

    def _platforms(self, platforms: Sequence[str]) -> str:
        return ", ".join(map(code, platforms)) or self._text("platforms.usual")

    def _text(self, key: str, **values: object) -> str:
        return self._words.text(key, **values)


def code(text: object) -> str:
    """Return a text of strangers as code in Markdown, in one line and cut; references keep every character."""
    shown = harmless(cut(plain(str(text)).strip(), _TITLE)) if not isinstance(text, Reference) else str(text)
    return f"`{shown or '?'}`"
