"""Workers interleaved at random, request by request, from a seed: who has the thumbnails."""

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from memory_bucket import MemoryBucket
from pictures import encoded, quadrants

import pipeline
from errors import StorageUnavailable, TransientError
from image_utils import Made, make_thumbnails
from pipeline import Pipeline
from provenance import Provenance
from settings import Settings
from storage import Headers, State, Stored
from telemetry import Telemetry
from uploads import Upload

SETTINGS = Settings("output", "https://sqs.example/1/letters", widths=(4, 8), write_manifest=True)
DELETING = replace(SETTINGS, delete_with_original=True)
P, Q = (encoded(quadrants(size), "PNG") for size in ((8, 8), (16, 8)))
ATTEMPTS = 60
"""Of one event: enough that a worker never ends because others were quicker."""


@cache
def small_thumbnails(data: bytes, widths: tuple[int, ...], *_others: int, **_more: bool) -> Made:
    return make_thumbnails(data, widths, 85, 512)


class Turns:
    """Lets one worker at a time go on to its next request; the others wait."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._turn: int | None = None
        self._waiting: set[int] = set()
        self._alive: set[int] = set()
        self._threads: list[threading.Thread] = []
        self.faults: list[BaseException] = []

    def start(self, work: Callable[[int], None]) -> None:
        """Begin a worker, which gets its number; it waits for its first turn."""
        number = len(self._threads)

        def run() -> None:
            try:
                self.pause(number)
                work(number)
            except BaseException as fault:  # noqa: BLE001 - told by the test
                self.faults.append(fault)
            finally:
                with self._changed:
                    self._alive.discard(number)
                    self._changed.notify_all()

        self._alive.add(number)
        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def pause(self, number: int) -> None:
        """Wait for the next turn."""
        with self._changed:
            self._waiting.add(number)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._turn == number)
            self._turn = None

    def give(self, choose: Callable[[list[int]], int]) -> None:
        """Give a turn to one of those that wait, once all do."""
        with self._changed:
            self._changed.wait_for(lambda: self._turn is None and self._waiting >= self._alive)
            if self._alive:
                self._turn = choose(sorted(self._alive))
                self._waiting.discard(self._turn)
                self._changed.notify_all()

    def quiet(self) -> bool:
        """Whether no worker is left, once all of them wait or have ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._turn is None and self._waiting >= self._alive)
            return not self._alive

    def join(self) -> None:
        """Wait for the last threads to end."""
        for thread in self._threads:
            thread.join()


class Interleaved:
    """A bucket as one worker sees it: before each request the others may make theirs.

    With `lossy` some requests fail, before or after they took effect, and some replies to writes
    are lost, so that the client's own retry meets what it wrote.
    """

    def __init__(
        self, bucket: MemoryBucket, turns: Turns, worker: int, chance: Callable[[], float] | None
    ) -> None:
        self._bucket = bucket
        self._pause = lambda: turns.pause(worker)
        self._chance = chance or (lambda: 1.0)

    def get(self, key: str) -> Stored | None:
        self._pause()
        return self._bucket.get(key)

    def head(self, key: str) -> State | None:
        self._pause()
        return self._bucket.head(key)

    def put(self, key: str, body: bytes, headers: Headers, *, replacing: str | None) -> bool:
        self._pause()
        chance = self._chance()
        if chance < 0.05:
            raise StorageUnavailable("failed before it took effect")
        written = self._bucket.put(key, body, headers, replacing=replacing)
        if written and chance < 0.2:
            self._pause()
            return self._bucket.put(key, body, headers, replacing=replacing)
        if written and chance < 0.3:
            raise StorageUnavailable("failed after it took effect")
        return written

    def delete(self, key: str, *, replacing: str) -> bool:
        self._pause()
        chance = self._chance()
        if chance < 0.05:
            raise StorageUnavailable("failed before it took effect")
        deleted = self._bucket.delete(key, replacing=replacing)
        if deleted and chance < 0.2:
            self._pause()
            return self._bucket.delete(key, replacing=replacing)
        if deleted and chance < 0.3:
            raise StorageUnavailable("failed after it took effect")
        return deleted


def run(
    seed: int, keys: list[str], tick: int, *, lossy: bool, settings: Settings = SETTINGS
) -> str | None:
    """Some uploads, and a worker or two for each, in a random order; what is wrong at the end.

    With delete-with-original some of the uploads are deletions.
    """
    rng = random.Random(seed)  # noqa: S311 - to be replayed
    buckets = {"input": MemoryBucket("input"), "output": MemoryBucket("output")}
    source = buckets["input"]
    source.tick = timedelta(seconds=tick)
    turns = Turns()

    def process(key: str) -> Callable[[int], None]:
        def work(number: int) -> None:
            chance = rng.random if lossy else None
            views: dict[str, Any] = {
                name: Interleaved(bucket, turns, number, chance) for name, bucket in buckets.items()
            }
            for _ in range(ATTEMPTS):
                try:
                    worker = Pipeline(
                        settings, Telemetry("CRITICAL"), views.__getitem__, lambda: 9.0
                    )
                    worker.process(Upload("input", key))
                except TransientError:
                    continue
                return
            raise AssertionError("an event never came to an end")

        return work

    changes = (P, Q, None) if settings.delete_with_original else (P, Q)
    todo = [(rng.choice(keys), rng.choice(changes)) for _ in range(rng.randint(2, 4))]
    while todo or not turns.quiet():
        if todo and (turns.quiet() or rng.random() < 0.2):
            key, body = todo.pop()
            if body is None:
                source.objects.pop(key, None)
            else:
                source.upload(key, body)
            for _ in range(rng.choice((1, 1, 2))):
                turns.start(process(key))
        else:
            turns.give(rng.choice)
    turns.join()
    if turns.faults:
        return f"seed {seed}: {turns.faults}"
    return wrong(seed, buckets["input"], buckets["output"])


def wrong(seed: int, source: MemoryBucket, output: MemoryBucket) -> str | None:
    """What thumbnails and manifest have against the newest source, if anything."""
    for key, (state, _) in output.objects.items():
        told = Provenance.of(state.metadata)
        if told is None or told.key not in source.objects:
            return f"seed {seed}: {key} is of {told}, which is gone"
    if not source.objects:
        return None
    newest = max(source.objects, key=lambda key: (source.objects[key][0].modified, key))
    keys = [SETTINGS.thumbnail_key(newest, width) for width in SETTINGS.widths]
    for key in (*keys, SETTINGS.manifest_key(newest)):
        state, _ = output.objects[key]
        told = Provenance.of(state.metadata)
        if told is None or (told.key, told.etag) != (newest, source.objects[newest][0].etag):
            return f"seed {seed}: {key} is of {told}, newest is {newest}"
    return None


@pytest.mark.parametrize("lossy", [False, True], ids=["plain", "lossy"])
@pytest.mark.parametrize("tick", [0, 1], ids=["one second", "a second each"])
@pytest.mark.parametrize("keys", [["uploads/a.jpg"], ["uploads/a.jpg", "uploads/a.png"]])
def test_at_rest_the_newest_source_has_its_thumbnails(
    monkeypatch: pytest.MonkeyPatch,
    keys: list[str],
    tick: int,
    lossy: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Overwrites, reverts, colliding names, lost replies and faults, in any interleaving."""
    monkeypatch.setattr(pipeline, "make_thumbnails", small_thumbnails)
    found = [run(seed, keys, tick, lossy=lossy) for seed in range(120)]
    assert not any(found), [each for each in found if each][:3]


@pytest.mark.parametrize("lossy", [False, True], ids=["plain", "lossy"])
def test_at_rest_what_is_gone_has_no_thumbnails(
    monkeypatch: pytest.MonkeyPatch,
    lossy: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """With delete-with-original: uploads, overwrites, deletions and uploads again, in any order."""
    monkeypatch.setattr(pipeline, "make_thumbnails", small_thumbnails)
    keys = ["uploads/a.jpg"]
    found = [run(seed, keys, 1, lossy=lossy, settings=DELETING) for seed in range(300)]
    assert not any(found), [each for each in found if each][:3]
