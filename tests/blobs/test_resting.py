"""A bucket that is away is left alone for a while, and its trouble is shown as long."""

from __future__ import annotations

import asyncio

from mirrord.blobs.resting import REST, RestingBucket
from mirrord.model.objects import BucketAwayError


async def test_an_answer_under_way_does_not_hide_that_it_rests() -> None:
    """One request finds it away while another gets its answer: it is shown as away until somebody asks again."""
    now, answers = 0.0, asyncio.Event()
    bucket = RestingBucket(lambda: now, lambda _: None)

    async def away() -> str:
        raise BucketAwayError("503")

    async def slow() -> str:
        await answers.wait()
        return "got"

    late = asyncio.create_task(bucket.asked(slow, hurried=False))
    await asyncio.sleep(0)
    assert await bucket.asked(away) is None
    answers.set()
    assert (await late, bucket.rests, bucket.trouble) == ("got", True, "503")
    now = REST
    assert (await bucket.asked(slow), bucket.trouble) == ("got", "")
