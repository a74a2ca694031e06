"""The only door to obstore: the objects below a prefix of a bucket that speaks S3."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mirrord.errors import ConfigError, ConflictError, MirrordError, MissingError, StorageError
from mirrord.files import storage_errors
from mirrord.model.objects import LARGEST, BucketAwayError, StoredDocument, StoredObject
from mirrord.model.remote import BucketAsked
from mirrord.wire.bucket_address import BucketAddress
from mirrord.wire.bucket_answers import code_of, is_away, told_by

if TYPE_CHECKING:
    from obstore.store import S3Credential  # noqa: TID251 - this is the door
    from obstore.store import S3Store as ObstoreS3  # noqa: TID251 - this is the door

PART: Final = 8 << 20
"""Bytes of a part of an upload, at least; larger where there would be too many of them."""
_PARTS: Final = 9000  # of 10 000 that S3 takes
_AT_ONCE: Final = 32  # requests about objects; each is short
_UPLOADS: Final = 6  # each has two parts in memory
_PAGE: Final = 1000
_SETTLE: Final = 10.0  # seconds that an upload has to take back what it sent
_MOMENT: Final = 0.05  # seconds
_KEPT: Final = timedelta(minutes=6)  # of keys: obstore asks for them again in the last five minutes of their time
_ABSENT: Final = frozenset(("", "NoSuchKey", "NotFound"))  # codes of a 404 about an object; that of a HEAD has none
_RIGHTS: Final = "s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and s3:ListBucket"


@dataclass(frozen=True, slots=True)
class BucketPatience:
    """How long a bucket may take.

    Attributes:
        stalled: seconds without a byte after which a request is given up.
        attempts: how often a request is repeated after 5xx, a reset or a stall.
        whole: seconds after which nothing is repeated.
    """

    stalled: float = 30.0
    attempts: int = 20
    whole: float = 40.0


PATIENCE: Final = BucketPatience()


def _unheard(_: BucketAsked) -> None:
    pass


class ObjectBucket:
    """Fulfils `mirrord.blobs.objects.Objects`."""

    def __init__(
        self,
        address: BucketAddress,
        patience: BucketPatience = PATIENCE,
        tell: Callable[[BucketAsked], None] = _unheard,
    ) -> None:
        """Connect with the first request, and `tell` how each has ended; ConfigError without the extra it needs."""
        self._address, self._patience, self._tell = address, patience, tell
        self._turns, self._uploads = asyncio.Semaphore(_AT_ONCE), asyncio.Semaphore(_UPLOADS)
        try:
            import obstore  # noqa: PLC0415, TID251 - this is the door; an extra
        except ImportError as error:
            raise ConfigError(f"settings.blobs: {address} needs obstore; pip install 'mirrord[scale]'") from error
        self._obstore: Any = obstore
        _let_threads_end()

    @cached_property
    def _store(self) -> ObstoreS3:
        from obstore.store import S3Store  # noqa: PLC0415, TID251 - this is the door; an extra

        address, patience = self._address, self._patience
        config: dict[str, Any] = {"disable_bulk_delete": True}  # not everybody who speaks S3 has it
        client: dict[str, Any] = {
            "timeout": "1d",  # of all of a large object
            "connect_timeout": timedelta(seconds=min(10.0, patience.stalled)),
            "read_timeout": timedelta(seconds=patience.stalled),
            "allow_http": address.endpoint.startswith("http://"),
        }
        if address.endpoint:
            config["endpoint"] = address.endpoint
        if address.region:
            config["region"] = address.region
        if address.ca:
            with storage_errors(address.ca):
                client["root_certificate"] = Path(address.ca).read_bytes()  # once, at start
        with self._errors("open"):
            return S3Store(
                address.bucket,
                prefix=address.prefix or None,
                config=config,  # type: ignore[arg-type]  # a dict, not the TypedDict that its stub wants
                client_options=client,  # type: ignore[arg-type]  # a dict, not the TypedDict that its stub wants
                credential_provider=self._keys if address.keys else None,
                retry_config={
                    "max_retries": patience.attempts,
                    "retry_timeout": timedelta(seconds=patience.whole),
                    "backoff": {
                        "init_backoff": timedelta(seconds=patience.whole / 80),
                        "max_backoff": timedelta(seconds=patience.whole / 8),
                        "base": 3,  # each delay is at most so many times the one before, and any from the first one up
                    },
                },
            )

    def _keys(self) -> S3Credential:
        """Return the keys as they are now: obstore asks once a minute, in a thread of its own."""
        address = self._address
        assert address.keys is not None
        access, secret = address.fresh() if address.fresh else address.keys
        until = datetime.now(UTC) + _KEPT  # noqa: TID251 - obstore compares it with the wall clock
        return {
            "access_key_id": access.reveal(),
            "secret_access_key": secret.reveal(),
            "token": None,
            "expires_at": until,
        }

    def __str__(self) -> str:
        """Return where it is."""
        return str(self._address)

    async def head(self, key: str) -> StoredObject | None:
        """Ask with one HEAD."""
        with contextlib.suppress(MissingError), self._asking("head", "look at", key):
            async with self._turns:
                return _about(await self._obstore.head_async(self._store, key))
        return None

    async def read(self, key: str, unless: str = "", most: int = LARGEST) -> StoredDocument | None:
        """Ask with one conditional GET, whose body is left unread where the headers say that it is too large."""
        options = {"if_none_match": unless} if unless else None
        with contextlib.suppress(MissingError), self._asking("get", "read", key):
            async with self._turns:
                try:
                    found = await self._obstore.get_async(self._store, key, options=options)
                except self._obstore.exceptions.NotModifiedError:
                    return StoredDocument(unless)
                etag, size = str(found.meta["e_tag"] or ""), int(found.meta["size"])
                return StoredDocument(etag, size, bytes(await found.bytes_async()) if size <= most else None)
        return None

    async def stream(self, key: str, offset: int, count: int) -> AsyncIterator[bytes]:
        """Ask with one GET of a range."""
        if not count:
            return
        with self._asking("stream", "read", key):
            found = await self._obstore.get_async(self._store, key, options={"range": (offset, offset + count)})
            async for piece in found.stream(min_chunk_size=1 << 18):
                yield bytes(piece)

    async def write(self, key: str, data: bytes, media_type: str, over: str | None = None) -> str:
        """Send one PUT."""
        if len(data) > LARGEST:
            raise StorageError(f"{self}: cannot write {key}: too large: {len(data)} bytes")
        mode: Any = "overwrite" if over is None else {"e_tag": over} if over else "create"
        with self._asking("put", "write", key):
            async with self._turns:
                made = await self._obstore.put_async(
                    self._store, key, data, attributes={"Content-Type": media_type}, mode=mode, use_multipart=False
                )
        return str(made["e_tag"] or "")

    async def upload(self, key: str, pieces: AsyncIterator[bytes], size: int, media_type: str) -> None:
        """Send parts, two at a time. Obstore takes them back when their source fails, not when it is cancelled."""
        left = asyncio.Event()

        async def until_left() -> AsyncIterator[bytes]:
            async for piece in pieces:
                if left.is_set():
                    raise ConflictError("cancelled")
                yield piece
            if left.is_set():
                raise ConflictError("cancelled")

        async def send() -> None:
            with self._asking("upload", "write", key):
                await self._obstore.put_async(
                    self._store,
                    key,
                    until_left(),
                    attributes={"Content-Type": media_type},
                    chunk_size=max(PART, -(-size // _PARTS)),
                    max_concurrency=2,
                )

        async with self._uploads:
            sending = asyncio.create_task(send())
            try:
                await asyncio.shield(sending)
            except asyncio.CancelledError:
                left.set()
                await asyncio.wait([sending], timeout=_SETTLE)
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                raise

    async def delete(self, keys: Collection[str]) -> None:
        """Send a DELETE for each, until so many have failed that the bucket must be away."""
        failed = list[StorageError]()

        async def delete(key: str) -> None:
            async with self._turns:
                if len(failed) < _AT_ONCE:
                    try:
                        with contextlib.suppress(MissingError), self._asking("delete", "delete", key):
                            await self._obstore.delete_async(self._store, key)
                    except StorageError as error:
                        failed.append(error)

        await asyncio.gather(*map(delete, keys))
        for error in failed:
            raise error

    async def listed(self, prefix: str) -> AsyncIterator[Mapping[str, StoredObject]]:
        """Ask for a thousand at a time."""
        with self._asking("list", "list", prefix):
            async for page in self._obstore.list(self._store, prefix, chunk_size=_PAGE):
                yield {str(one["path"]): _about(one) for one in page}

    async def url(self, key: str, seconds: int) -> str:
        """Sign, which asks nobody."""
        with self._errors("sign", key):
            return str(await self._obstore.sign_async(self._store, "GET", key, timedelta(seconds=seconds)))

    @contextlib.contextmanager
    def _asking(self, operation: str, what: str, key: str) -> Iterator[None]:
        """Tell how a request ended, see `_errors`; not of one that was given up here."""
        began, outcome = time.monotonic(), ""
        try:
            with self._errors(what, key):
                yield
            outcome = "done"
        except MissingError:
            outcome = "absent"
            raise
        except ConflictError:
            outcome = "" if operation == "upload" else "conflict"
            raise
        except StorageError:
            outcome = "failed"
            raise
        finally:
            if outcome:
                self._tell(BucketAsked(operation, outcome, time.monotonic() - began))

    @contextlib.contextmanager
    def _errors(self, what: str, key: str = "") -> Iterator[None]:
        """Say in one line what went wrong; what obstore says has requests with all their headers in it."""
        try:
            yield
        except (MirrordError, asyncio.CancelledError, GeneratorExit):
            raise
        except Exception as error:
            if isinstance(error, FileNotFoundError):
                self._missing(error, what, key)
            exceptions = self._obstore.exceptions
            if isinstance(error, exceptions.PreconditionError | exceptions.AlreadyExistsError):
                raise ConflictError(f"{self}: {key} was changed by another writer meanwhile") from None
            if not isinstance(error, exceptions.BaseError | OSError | ValueError):
                raise
            advice = ""
            refused = exceptions.PermissionDeniedError | exceptions.UnauthenticatedError | FileNotFoundError
            if isinstance(error, refused):
                advice = f"; check the keys of `settings.blobs`, and that they may do {_RIGHTS}"
            told = told_by(error, self._address.endpoint or "AWS")
            if "InvalidCertificate" in told:
                advice = "; name the authority of its certificate as `ca` of `settings.blobs`"
            kind = BucketAwayError if is_away(error) else StorageError
            raise kind(f"{self}: cannot {what} {key or 'it'}: {told}{advice}") from None

    def _missing(self, error: FileNotFoundError, what: str, key: str) -> None:
        """Raise what a 404 about an object or the bucket means; others come for unknown keys, or from what is no S3."""
        code = code_of(error)
        if code == "NoSuchBucket":
            raise BucketAwayError(f"{self}: the bucket does not exist; make it, or correct `settings.blobs`") from None
        if what != "write" and code in _ABSENT:
            raise MissingError(f"{self}: {key} does not exist") from None


@cache
def _let_threads_end() -> None:
    """Give obstore's threads a moment before the interpreter ends: one that still wants it then aborts the process."""
    atexit.register(time.sleep, _MOMENT)


def _about(found: Mapping[str, Any]) -> StoredObject:
    return StoredObject(int(found["size"]), str(found["e_tag"] or ""), found["last_modified"].timestamp())
