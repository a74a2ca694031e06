"""`settings.blobs`: where `local` is when it is not on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mirrord.config.load import Configuration
from mirrord.wire.bucket_address import BucketAddress
from mirrord.wire.secret import Secret

Load = Callable[..., Configuration]
Refusal = Callable[..., tuple[str, ...]]


def test_by_default_it_is_the_disk(load: Load) -> None:
    """Nothing is written, and there is no bucket."""
    assert load("settings: {}").bucket is None


def test_a_text_is_enough_on_aws(load: Load) -> None:
    """A URL says which bucket, with the keys of the machine."""
    assert load("settings: {blobs: 's3://images/local/'}").bucket == BucketAddress("images", "local")


def test_everything_can_be_written(load: Load) -> None:
    """Each key changes what it names."""
    written = (
        "settings: {blobs: {url: 's3://images', endpoint: 'http://127.0.0.1:9000/', region: eu-central-1,"
        " access_key: {env: ONE}, secret_key: {env: TWO}, redirect: true}}"
    )
    bucket = load(written, {"ONE": "first", "TWO": "second"}).bucket
    keys = Secret("first"), Secret("second")
    assert bucket == BucketAddress("images", "", "http://127.0.0.1:9000", "eu-central-1", keys, redirect=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("'s3://AKIAKEY:hunter2@images'", "settings.blobs: has a `@`, and a URL must not have keys in it"),
        ("{url: 's3://AKIAKEY:hunter2@images'}", "settings.blobs.url: has a `@`, and a URL must not have keys in it"),
        ("'s3://images/../x'", "settings.blobs: 's3://images/../x' is not a bucket; write s3://BUCKET"),
        ("'https://images'", "settings.blobs: 'https://images' is not a bucket; write s3://BUCKET"),
        (
            "{url: 's3://images', endpoint: 'http://s3.example.org'}",
            "settings.blobs.endpoint: is not encrypted; write https://, or `insecure: true` beside it",
        ),
        (
            "{url: 's3://images', endpoint: 'https://a:hunter2@s3.example.org'}",
            "settings.blobs.endpoint: is not the URL of a server",
        ),
        (
            "{url: 's3://images', access_key: {env: ONE}}",
            "settings.blobs: has no secret_key; write both keys, or none",
        ),
        ("{url: 's3://images', secret_key: hunter2}", "settings.blobs.secret_key: a secret must not be written"),
        ("{url: 's3://images', bucket: x}", "settings.blobs.bucket: unknown key; write url: s3://"),
        ("{url: 's3://images', ca: /nowhere/ca.pem}", "settings.blobs.ca: /nowhere/ca.pem does not exist"),
    ],
)
def test_mistakes(refusal: Refusal, text: str, said: str) -> None:
    """What is wrong is said once, with what to write, and never with a key."""
    (problem,) = refusal(f"settings: {{blobs: {text}}}", {"ONE": "first"})
    assert said in problem
    assert "hunter2" not in problem


def test_a_key_that_is_not_here(refusal: Refusal, tmp_path: Path) -> None:
    """An absent key is named by its variable."""
    (problem,) = refusal(
        "settings: {blobs: {url: 's3://images', access_key: {env: ONE}, secret_key: {env: TWO}}}", {"ONE": "first"}
    )
    assert "settings.blobs.secret_key: environment variable TWO is not set" in problem
