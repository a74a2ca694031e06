"""Images that Kubernetes objects, compose files and values of charts name. Pure; inner mappings come first.

Where an image stands:

- `image: TEXT`, in containers of every kind, services of compose, values and custom resources, with `registry:` and
  `tag:` beside it where a chart has them there;
- `image: {reference: TEXT}`, a volume;
- `{registry, repository, tag, digest}`, of values: `repository` and at least one of the others;
- `{name, newName, newTag, digest}`, of kustomize;
- `cache_from: [TEXT]`, of compose, also `type=registry,ref=TEXT`;
- `sidecarImage: TEXT` and the like, when it has a tag, a digest or a path;
- the environment variable `RELATED_IMAGE_*` of an operator.

What stands below `status:` is what was seen, and not what is wanted: it is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_FIELDS: Final = frozenset(
    {"image", "registry", "repository", "tag", "digest", "reference", "name", "value", "newName", "newTag"}
)
_WITH_REPOSITORY: Final = ("registry", "tag", "digest")
_OPERATORS: Final = "RELATED_IMAGE_"
_LONGEST: Final = 4096  # characters; longer ones are no images
_TEMPLATES: Final = ("{{", "$")
_REF: Final = "ref="


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text, and where it stands in its file: characters from the beginning, its quotes and anchor included."""

    text: str
    start: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class NamedImage:
    """An image that a file names.

    Attributes:
        text: the whole reference, of all keys that have a part of it.
        name: the text that has the repository in it.
        written: the part of `name` that is of the image, tag and digest included.
        registry: the text that has the registry of it alone, or None.
        is_key: whether `name` says which images are meant (kustomize), and so may not be changed.
    """

    text: str
    name: Scalar
    written: str
    registry: Scalar | None = None
    is_key: bool = False


class ImagePart:
    """What is left of a mapping: the images in it and below, and its `reference`, which may be that of a volume."""

    __slots__ = ("images", "reference")

    def __init__(self, images: list[NamedImage], reference: Scalar | None) -> None:
        self.images = images
        self.reference = reference


def gather(pairs: Iterable[tuple[str, Any]]) -> ImagePart:
    """Reduce a mapping, whose inner mappings are reduced already; other values are scalars, None and lists of these."""
    whole = dict(pairs)
    fields: dict[str, Scalar] = {}
    lists: list[list[NamedImage]] = []
    for key, value in whole.items():
        if isinstance(value, Scalar):
            if key in _FIELDS and len(value.text) <= _LONGEST:
                fields[key] = value
        elif value and key != "status":
            lists += [part.images for part in _parts(value) if part.images]
    own = list(_own(whole, fields))
    return ImagePart(joined([*lists, own]) if lists else own, fields.get("reference"))


def joined(lists: list[list[NamedImage]]) -> list[NamedImage]:
    """Join lists into the longest of them, so that however deep they lie each image is moved a few times only."""
    longest = max(lists, key=len, default=[])
    for one in lists:
        if one is not longest:
            longest += one
    return longest


def images_of(value: Any) -> list[NamedImage]:
    """Return the images of a whole document."""
    return joined([part.images for part in _parts(value)])


def is_template(text: str) -> bool:
    """Whether a text still has something in it that a program replaces: `{{ .Values.image }}`, `${TAG}`."""
    return any(sign in text for sign in _TEMPLATES)


def repository_in(text: str) -> str:
    """Return what stands before the tag and the digest of a reference."""
    name = text.partition("@")[0]
    return name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name


def _parts(value: Any) -> Iterator[ImagePart]:
    """Yield the mappings that a value is, or that are in its lists, without recursion."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, ImagePart):
            yield one
        elif isinstance(one, list | tuple):
            left += reversed(one)


def _own(whole: Mapping[str, Any], fields: Mapping[str, Scalar]) -> Iterator[NamedImage]:
    """Yield the images that stand in the mapping itself."""
    repository, image = fields.get("repository"), fields.get("image")
    if repository and "://" not in repository.text and any(key in whole for key in _WITH_REPOSITORY):
        yield _whole(fields, repository)
    if image and image.text:
        yield _whole(fields, image)
    volume = whole.get("image")
    if isinstance(volume, ImagePart) and volume.reference and volume.reference.text:
        yield _plain(volume.reference)
    name, value = fields.get("name"), fields.get("value")
    if name and value and value.text and name.text.startswith(_OPERATORS):
        yield _plain(value)
    yield from _of_kustomize(whole, fields)
    for key, scalar in whole.items():
        if key.endswith("Image") and isinstance(scalar, Scalar) and any(sign in scalar.text for sign in "/:@"):
            yield _plain(Scalar(scalar.text[:_LONGEST], scalar.start, scalar.end))
    yield from _cached(whole.get("cache_from"))


def _plain(scalar: Scalar) -> NamedImage:
    text = scalar.text.strip()
    return NamedImage(text, scalar, text)


def _of_kustomize(whole: Mapping[str, Any], fields: Mapping[str, Scalar]) -> Iterator[NamedImage]:
    """Yield what an entry of `images:` makes of an image."""
    name, other = fields.get("name"), fields.get("newName")
    tag = fields.get("newTag")
    digest = fields.get("digest")
    end = (f":{tag.text}" if tag and tag.text else "") + (f"@{digest.text}" if digest and digest.text else "")
    if other and other.text.strip():
        yield NamedImage(f"{other.text.strip()}{end}", other, other.text.strip())
    elif name and name.text.strip() and "newTag" in whole:
        yield NamedImage(f"{name.text.strip()}{end}", name, name.text.strip(), is_key=True)


def _cached(value: Any) -> Iterator[NamedImage]:
    """Yield the images of `cache_from`; caches of other types are none."""
    for one in value if isinstance(value, list | tuple) else (value,):
        if not isinstance(one, Scalar) or len(one.text) > _LONGEST:
            continue
        parts = one.text.strip().split(",")
        if "=" not in parts[0]:
            yield _plain(one)
        elif "type=registry" in parts and (reference := next((x for x in parts if x.startswith(_REF)), "")):
            text = reference.removeprefix(_REF)
            yield NamedImage(text, one, text)


def _whole(fields: Mapping[str, Scalar], name: Scalar) -> NamedImage:
    """Return a name with registry, tag and digest of the keys beside it, where it has none itself."""
    text = written = name.text.strip()
    beside = fields.get("registry")
    registry = beside.text.strip().rstrip("/") if beside else ""
    first, slash, _ = text.partition("/")
    if registry and not (slash and ("." in first or ":" in first)):
        text = f"{registry}/{text}"
    else:
        beside = None
    if "@" in written or ":" in written.rpartition("/")[2]:
        return NamedImage(text, name, written, beside)
    tag, digest = (fields[key].text if key in fields else "" for key in ("tag", "digest"))
    if tag.startswith("sha256:"):
        tag, digest = "", tag
    return NamedImage(f"{text}{f':{tag}' if tag else ''}{f'@{digest}' if digest else ''}", name, written, beside)
