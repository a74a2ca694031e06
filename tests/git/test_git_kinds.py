"""With which headers somebody else's file is handed to a browser."""

from __future__ import annotations

import pytest

from mirrord.syncers.git.front.content_type import LOOK, SAFETY, headers_of

PNG = b"\x89PNG\r\n\x1a\n\0"
UTF8, PLAIN = "text/plain; charset=utf-8", "text/plain"


@pytest.mark.parametrize(
    ("name", "start", "kind"),
    [
        ("README.md", "# Grüße\n".encode(), UTF8),
        ("values.yaml", b"a: b\n", UTF8),
        ("package.json", b"{}", UTF8),
        ("style.css", b"a {}", UTF8),
        ("Makefile", b"", UTF8),
        ("gbk.txt", "文件".encode("gbk"), PLAIN),
        ("cut.txt", b"a" * (LOOK - 1) + "ü".encode(), UTF8),
        ("logo.png", PNG, "image/png"),
        ("logo.txt", PNG, "image/png"),
        ("photo.jpg", b"\xff\xd8\xff\xe0", "image/jpeg"),
        ("a.gif", b"GIF89a", "image/gif"),
        ("a.webp", b"RIFF\1\2\3\4WEBPVP8 ", "image/webp"),
    ],
)
def test_what_is_shown(name: str, start: bytes, kind: str) -> None:
    """Text and images are shown as what they are, and never guessed at by a browser."""
    assert headers_of(name, start) == {"Content-Type": kind, **SAFETY}


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("a.html", b"hello"),
        ("A.HTM", b"hello"),
        ("a.svg", b"<svg/>"),
        ("pom.xml", b"<project/>"),
        ("a.js", b"1"),
        ("a.mjs", b"1"),
        ("a.pdf", b"%PDF-1.4"),
        ("a.txt", b"%PDF-1.4"),
        ("a.png", b"<svg onload=alert(1)>"),
        ("README", b"\xef\xbb\xbf \n<!DOCTYPE html>"),
        ("README", b"<ScRiPt>"),
        ("README", b"\t<?xml version='1.0'?>"),
        ("a.bin", b"\0\1"),
        ("a.tgz", b"\x1f\x8b\x08\0"),
    ],
)
def test_what_is_downloaded(name: str, start: bytes) -> None:
    """Whatever a browser could run, and whatever is no text, is a download."""
    headers = headers_of(name, start)
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert headers.items() >= SAFETY.items()


@pytest.mark.parametrize("name", ['a".html', "a\r\nX: y.html", "ü.html", "a b.html", "\udcff.html", "a;b.html"])
def test_names_stay_in_their_header(name: str) -> None:
    """A name with anything strange in it is percent-encoded (RFC 6266, RFC 8187)."""
    disposition = headers_of(name, b"")["Content-Disposition"]
    assert disposition.startswith("attachment; filename*=UTF-8''")
    assert disposition.isascii()
    assert not set(' "\r\n;') & set(disposition.partition("''")[2])
