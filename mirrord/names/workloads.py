"""Images that Kubernetes objects, compose files and values of charts name. Pure; inner mappings come first.

Where an image stands:

- `image: TEXT`, in containers of every kind, services of compose, values and custom resources, with `registry:` and
  `tag:` beside it where a chart has them there;
- `image: {reference: TEXT}`, a volume;
- `{registry, repository, tag, digest}`, of values: `repository` and at least one of the others;
- `sidecarImage: TEXT` and the like, when it has a tag, a digest or a path;
- the environment variable `RELATED_IMAGE_*` of an operator.

What stands below `status:` is what was seen, and not what is wanted: it is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

_FIELDS: Final = frozenset({"image", "registry", "repository", "tag", "digest", "reference", "name", "value"})
_WITH_REPOSITORY: Final = ("registry", "tag", "digest")
_OPERATORS: Final = "RELATED_IMAGE_"
_LONGEST: Final = 4096  # characters; longer ones are no images
_TEMPLATES: Final = ("{{", "$")


class ImagePart:
    """What is left of a mapping: its own texts that matter, and the images in it and below."""

    __slots__ = ("fields", "images")

    def __init__(self, fields: dict[str, str], images: list[str]) -> None:
        self.fields = fields
        self.images = images


def gather(pairs: Iterable[tuple[str, Any]]) -> ImagePart:
    """Reduce a mapping, whose inner mappings are reduced already; other values are texts, None and lists of these."""
    whole = dict(pairs)
    fields: dict[str, str] = {}
    lists: list[list[str]] = []
    for key, value in whole.items():
        if isinstance(value, str):
            if key in _FIELDS and len(value) <= _LONGEST:
                fields[key] = value
        elif value and key != "status":
            lists += [part.images for part in _parts(value) if part.images]
    return ImagePart(fields, joined([*lists, list(_own(whole, fields))]))


def joined(lists: list[list[str]]) -> list[str]:
    """Join lists into the longest of them, so that however deep they lie each text is moved a few times only."""
    longest = max(lists, key=len, default=[])
    for one in lists:
        if one is not longest:
            longest += one
    return longest


def images_of(value: Any) -> list[str]:
    """Return the images of a whole document."""
    return joined([part.images for part in _parts(value)])


def is_template(text: str) -> bool:
    """Whether a text still has something in it that a program replaces: `{{ .Values.image }}`, `${TAG}`."""
    return any(sign in text for sign in _TEMPLATES)


def _parts(value: Any) -> Iterator[ImagePart]:
    """Yield the mappings that a value is, or that are in its lists, without recursion."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, ImagePart):
            yield one
        elif isinstance(one, list | tuple):
            left += reversed(one)


def _own(whole: dict[str, Any], fields: dict[str, str]) -> Iterator[str]:
    """Yield the images that stand in the mapping itself."""
    if any(key in whole for key in _WITH_REPOSITORY) and "://" not in fields.get("repository", "://"):
        yield _whole(fields, fields["repository"])
    if fields.get("image"):
        yield _whole(fields, fields["image"])
    volume = whole.get("image")
    if isinstance(volume, ImagePart) and volume.fields.get("reference"):
        yield volume.fields["reference"]
    if fields.get("name", "").startswith(_OPERATORS) and fields.get("value"):
        yield fields["value"]
    for key, text in whole.items():
        if key.endswith("Image") and isinstance(text, str) and any(sign in text for sign in "/:@"):
            yield text[:_LONGEST]


def _whole(fields: dict[str, str], name: str) -> str:
    """Return a name with registry, tag and digest of the keys beside it, where it has none itself."""
    registry = fields.get("registry", "").rstrip("/")
    first, slash, _ = name.partition("/")
    if registry and not (slash and ("." in first or ":" in first)):
        name = f"{registry}/{name}"
    if "@" in name or ":" in name.rpartition("/")[2]:
        return name
    tag, digest = fields.get("tag", ""), fields.get("digest", "")
    if tag.startswith("sha256:"):
        tag, digest = "", tag
    return f"{name}{f':{tag}' if tag else ''}{f'@{digest}' if digest else ''}"
