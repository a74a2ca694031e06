"""The title of an issue is an image, nearly one, or none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.asking.titles import PLATFORMS, Misspelt, NoImage, read_platforms, read_title
from mirrord.wire.oci.reference import Reference

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("title", "image"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("  nginx:1.27\t", "docker.io/library/nginx:1.27"),
        ("docker.io/nginx:1.2", "docker.io/library/nginx:1.2"),
        ("`quay.io/calico/node:v3.26.1`", "quay.io/calico/node:v3.26.1"),
        ("nginx\u200b:1.27\ufeff", "docker.io/library/nginx:1.27"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("GHCR.io/a/b:V1", "ghcr.io/a/b:V1"),
        (f"ghcr.io/a/b@{DIGEST}", f"ghcr.io/a/b@{DIGEST}"),
        (f"ghcr.io/a/b:v1@{DIGEST}", f"ghcr.io/a/b:v1@{DIGEST}"),
        ("https://hub.docker.com/r/bitnami/redis", "docker.io/bitnami/redis:latest"),
        ("https://hub.docker.com/_/redis", "docker.io/library/redis:latest"),
        ("hub.docker.com/_/redis/tags?page=1", "docker.io/library/redis:latest"),
        ("https://registry.hub.docker.com/r/bitnami/redis/", "docker.io/bitnami/redis:latest"),
        ("registry.hub.docker.com/library/nginx:1.27", "docker.io/library/nginx:1.27"),
        ("https://hub.docker.com/layers/library/nginx/1.27/images/sha256-0b?context=explore",
         "docker.io/library/nginx:1.27"),
        ("https://quay.io/repository/calico/node?tab=tags", "quay.io/calico/node:latest"),
        ("https://github.com/OpenIDC/repo/pkgs/container/app", "ghcr.io/openidc/app:latest"),
        ("https://github.com/a/r/pkgs/container/deep%2Fapp/1234?tag=v1", "ghcr.io/a/deep/app:latest"),
        ("https://github.com/orgs/a/packages/container/package/app", "ghcr.io/a/app:latest"),
    ],
)  # fmt: skip
def test_a_title_with_one_meaning_is_taken_at_its_word(title: str, image: str) -> None:
    """Short names get what Docker adds; a page is the image that it shows; a host stays a host."""
    assert str(read_title(title)) == image


@pytest.mark.parametrize(
    ("title", "meant"),
    [
        ("nginx:", "docker.io/library/nginx:latest"),
        ("Nginx:1.27", "docker.io/library/nginx:1.27"),
        ("docker pull nginx:1.27", "docker.io/library/nginx:1.27"),
        ("SYNC IMAGE: nginx", "docker.io/library/nginx:latest"),
        ("[sync] ghcr.io/a/b:v1", "ghcr.io/a/b:v1"),
        ("镜像 ghcr.io/a/b:v1", "ghcr.io/a/b:v1"),
        ("nginx：1.27", "docker.io/library/nginx:1.27"),
        ("nginx: 1.27", "docker.io/library/nginx:1.27"),
        ("nginx 1.27", "docker.io/library/nginx:1.27"),
        ("quay.io//calico/node", "quay.io/calico/node:latest"),
        ("/quay.io/calico/node/", "quay.io/calico/node:latest"),
        ("https://quay.io/calico/node:v3", "quay.io/calico/node:v3"),
        ("docker://quay.io/calico/node:v3", "quay.io/calico/node:v3"),
        ("could you please add quay.io/calico/node?", None),
        ("could you please add quay.io/calico/node:v3 (thanks)", "quay.io/calico/node:v3"),
        ("GHCR.IO/Org/App:V1", "ghcr.io/org/app:V1"),
        ("sync https://hub.docker.com/_/redis", "docker.io/library/redis:latest"),
    ],
)
def test_a_misspelt_title_gets_a_suggestion(title: str, meant: str | None) -> None:
    """What was meant is suggested, never copied unasked."""
    found = read_title(title)
    assert found == Misspelt(Reference.parse(meant)) if meant else isinstance(found, NoImage)


@pytest.mark.parametrize(
    "title",
    [
        "", "   ", "http://x/update_new.sh", "docker.m.daocloud.io/:latest", "docker.m.daocloud.io", "localhost:5000",
        "ghcr.io/a/b@sha256:abc", "ghcr.io/a/b@", ":latest", "@", "/", "//", "help me", "如何使用",
        "https://github.com/a/b", "a/b:v1 or c/d:v1", "x" * 400, "nginx" * 200, "../../etc/passwd", "a@b.example/c",
        "<img src=x onerror=alert(1)>", "nginx:1.27;rm -rf /", "$(id)", "{{ image }}", f"nginx@{DIGEST}x",
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused(title: str) -> None:
    """Neither an image nor a suggestion comes of it, and there is a reason."""
    found = read_title(title)
    assert isinstance(found, NoImage), found
    assert found.why


@given(st.text(max_size=300))
def test_no_title_is_too_odd(title: str) -> None:
    """Whatever a stranger writes, it is one of the three; what is an image is one again, by its own text."""
    found = read_title(title)
    if isinstance(found, Reference):
        assert found.tag or found.digest
        assert read_title(str(found)) == found
    elif isinstance(found, Misspelt):
        assert read_title(str(found.suggestion)) == found.suggestion


@pytest.mark.parametrize(
    ("body", "platforms"),
    [
        ("", ()),
        ("### Platform\n\nlinux/arm64, linux/amd64\n", ("linux/arm64", "linux/amd64")),
        ("- [X] linux/amd64\n- [ ] linux/arm64\n* [x] linux/arm/v7", ("linux/amd64", "linux/arm/v7")),
        ("<!-- linux/amd64 or\nlinux/arm64 -->\nlinux/s390x <!-- linux/386", ("linux/s390x",)),
        ("linux/amd64 linux/amd64 linux/arm64/v8", ("linux/amd64", "linux/arm64")),
        ("https://example.com/linux/amd64 linux/nothing123 linux/", ()),
        ("linux/x86_64, linux/amd46", ()),
        ("windows/amd64", ("windows/amd64",)),
    ],
)
def test_platforms_are_those_that_were_chosen(body: str, platforms: tuple[str, ...]) -> None:
    """Boxes without a tick, hidden comments and unknown words do not count; equal ones count once."""
    assert read_platforms(body) == platforms


def test_a_long_text_is_read_in_part() -> None:
    """A megabyte of openings of comments costs nothing, and no issue names hundreds of platforms."""
    assert read_platforms("<!--" * 300_000) == ()
    assert read_platforms("linux/amd64\n<!-- x -->" * 100_000) == ("linux/amd64",)
    every = " ".join(f"linux/{one}/v{number}" for one in ("arm", "arm64") for number in range(10))
    assert len(read_platforms(every)) == PLATFORMS
