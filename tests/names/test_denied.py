"""What was taken down is found by name, tag, digest and mirror, however many entries there are."""

from __future__ import annotations

import re

import pytest

from mirrord.errors import UsageError
from mirrord.model.digest import Digest
from mirrord.names.book import NameBook
from mirrord.names.denied import Denied, DeniedEntry, check_reason, parse_denied_image

DIGEST = Digest.of(b"image")
APP = "quay.io/acme/app"


def denied(*images: str, book: NameBook | None = None) -> Denied:
    canonical = (book or NameBook()).canonical
    return Denied(DeniedEntry(number, "why", parse_denied_image(text, canonical)) for number, text in enumerate(images))


@pytest.mark.parametrize(
    ("image", "name", "ref", "found"),
    [
        (APP, APP, "v1", True),
        (APP, APP, DIGEST, True),
        (APP, APP, "", True),
        (APP, f"{APP}/more", "v1", False),
        (APP, "quay.io/acme/ap", "v1", False),
        (f"{APP}:v1", APP, "v1", True),
        (f"{APP}:v1", APP, "v2", False),
        (f"{APP}:v1", APP, "", False),
        ("quay.io/acme/*", APP, "v1", True),
        ("quay.io/acme/*", "quay.io/acme/deep/app", "v1", False),
        ("quay.io/**", "quay.io/acme/deep/app", "v1", True),
        ("quay.io/**", "ghcr.io/acme/app", "v1", False),
        ("nginx", "docker.io/library/nginx", "1.27", True),
        ("nginx:1.27", "docker.io/library/nginx", "1.27", True),
        ("index.docker.io/library/nginx", "docker.io/library/nginx", "1.27", True),
    ],
)
def test_names(image: str, name: str, ref: str, found: bool) -> None:
    """A name denies all of its repository, a tag that tag, a wildcard what an allow list would allow."""
    assert bool(denied(image).image(name, ref)) is found


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_digest_counts_under_every_name_and_so_do_its_signatures(algorithm: str) -> None:
    """Another tag, another registry: it is the same image. So are cosign's tags, and the list of referrers.

    Of a digest by sha512 they have the first 64 digits, or as many as there is room for.
    """
    digest = Digest.of(b"denied", algorithm)
    book = Denied([DeniedEntry(1, "why", digests=(digest,))])
    about = f"{algorithm}-{digest.hex[:64]}"
    ends = (f"{about}.sig", f"{about}.att", f"{about}.sbom")
    assert all(book.image(APP, ref) for ref in (digest, about, f"{algorithm}-{digest.hex}"[:128], *ends))
    others = (Digest.of(b"other", algorithm), f"{algorithm}-{'0' * 64}.sig", f"{algorithm}-")
    assert not any(book.image(APP, ref) for ref in ("v1", *others))


def test_aliases_lead_to_one_name() -> None:
    """An entry by an old name of a registry denies the image by its present name."""
    book = NameBook({"k8s.gcr.io": "registry.k8s.io"})
    assert denied("k8s.gcr.io/pause:3.9", book=book).image("registry.k8s.io/pause", "3.9")


def test_one_item_of_a_mirror() -> None:
    """By its name in that mirror, by its digest in each; the mirror itself is not denied."""
    one = DeniedEntry(1, "why", mirror="charts", item="app-1.0.0", digests=(DIGEST,))
    book = Denied([one, DeniedEntry(2, "why", mirror="gone")])
    assert book.item("charts", "app-1.0.0") == book.item("more", "other", DIGEST) == one
    assert not any((book.item("charts", "app-2.0.0"), book.item("more", "app-1.0.0"), book.mirror("charts")))
    assert book.item("gone", "anything")
    assert (one.what, one.whole, book.about("more")) == ("charts app-1.0.0", "", [one])


def test_mirrors_and_the_first_of_several_entries() -> None:
    """A mirror is denied by its name; of two entries for one thing the first gives the reason."""
    book = Denied([DeniedEntry(1, "first", mirror="app"), DeniedEntry(2, "second", mirror="app")])
    found = book.mirror("app")
    assert found is not None
    assert (found.reason, book.mirror("other"), book.image("app", "app")) == ("first", None, None)
    assert not Denied()
    assert Denied().image(APP, "v1") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("quay.io", "write quay.io/NAME"),
        (f"{APP}@{DIGEST}", f"write digests: ['{DIGEST}']"),
        ("quay.io/a*/b", "write quay.io/**"),
        ("*", "no registry before the wildcard"),
        ("Quay.io/Acme/app", "a repository is lower case"),
        ("", "the image reference is empty"),
    ],
)
def test_wrong_images(text: str, said: str) -> None:
    """What denies nothing, or more than anybody meant, is refused with what to write instead."""
    with pytest.raises(UsageError, match=re.escape(said)):
        parse_denied_image(text)


@pytest.mark.parametrize(("text", "said"), [(" ", "is empty"), ("a\nb", "one line"), ("x" * 501, "at most 500")])
def test_wrong_reasons(text: str, said: str) -> None:
    """Clients see a reason: it is one printable line."""
    with pytest.raises(UsageError, match=said):
        check_reason(text)


def test_lookups_do_not_grow_with_the_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand entries: a lookup looks at as many dictionary keys as one with ten."""
    looked: list[int] = []

    class Counting(dict):  # type: ignore[type-arg]  # as many as a lookup asks
        def get(self, key: object, default: object = None) -> object:
            looked[-1] += 1
            return super().get(key, default)

    for count in (10, 10_000):
        book = denied(*(f"quay.io/acme/app{number}:v1" for number in range(count)), "ghcr.io/acme/**")
        for name in ("_by_digest", "_by_tag", "_by_mirror"):
            monkeypatch.setattr(book, name, Counting(getattr(book, name)))
        monkeypatch.setattr(book._whole, "_by_text", Counting(book._whole._by_text))
        looked.append(0)
        assert book.image("quay.io/acme/app3", "v1")
        assert not book.image("quay.io/acme/none/of/them", "v1")
    assert looked[0] == looked[1]
