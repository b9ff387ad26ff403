"""Thumbnails go with their original, if that is wanted: those of this very source alone."""

from copy import replace

import pytest
from memory_bucket import MemoryBucket
from test_reconcile import KEY, SETTINGS, THUMBNAILS, P, Q, World, once

from thumbnailer.errors import StorageUnavailable
from thumbnailer.events import Upload
from thumbnailer.imaging import fingerprint
from thumbnailer.provenance import Provenance
from thumbnailer.reconcile import Done, Skipped

DELETING = replace(SETTINGS, delete_with_original=True)
GONE = "the source is gone"


class Deleting(World):
    """A world whose pipeline deletes thumbnails with their original."""

    settings = DELETING

    def process(self, key: str = KEY, **options: bool) -> Done | Skipped:
        return self.pipeline(self.settings).process(Upload("input", key), **options)

    def upload(self, key: str = KEY, body: bytes = P) -> None:
        self.input.upload(key, body)
        assert isinstance(self.process(key), Done)
        self.requests()

    def delete(self, key: str = KEY) -> None:
        del self.input.objects[key]


@pytest.fixture
def world() -> Deleting:
    return Deleting()


def test_thumbnails_go_with_their_original(world: Deleting) -> None:
    """A GET that finds nothing, a HEAD and a conditional delete each, and a last look."""
    world.upload()
    world.delete()
    assert world.process() == Skipped(GONE, THUMBNAILS[::-1])
    assert world.output.objects == {}
    assert world.requests() == [
        ("get", KEY),
        ("head", KEY),
        *[(request, key) for key in THUMBNAILS[::-1] for request in ("head", "delete")],
    ]


def test_the_manifest_goes_first(world: Deleting) -> None:
    """Where it is all thumbnails are, so it may not outlive them."""
    world.settings = replace(DELETING, write_manifest=True)
    world.upload()
    world.delete()
    assert world.process() == Skipped(GONE, ("a/photo.json", *THUMBNAILS[::-1]))
    assert world.output.objects == {}


def test_by_default_they_stay(world: Deleting) -> None:
    """Without the setting nothing is ever deleted, nor looked at."""
    world.settings = SETTINGS
    world.upload()
    world.delete()
    assert world.process() == Skipped(GONE)
    assert set(world.output.objects) == set(THUMBNAILS)
    assert world.requests() == [("get", KEY)]


def test_a_doubled_deletion_does_nothing(world: Deleting) -> None:
    """The second event finds nothing to delete."""
    world.upload()
    world.delete()
    world.process()
    assert world.process() == Skipped(GONE)


def test_thumbnails_of_another_source_stay(world: Deleting) -> None:
    """photo.png has the same thumbnails, and has them now: photo.jpg's deletion leaves them."""
    world.upload()
    world.upload("uploads/a/photo.png", Q)
    world.delete()
    assert world.process() == Skipped(GONE)
    assert world.shows(Q, "uploads/a/photo.png")


def test_what_is_not_ours_stays(world: Deleting) -> None:
    """An object that somebody else put there, without provenance, is never deleted."""
    for key in THUMBNAILS:
        world.output.upload(key, b"by hand")
    assert world.process() == Skipped(GONE)
    assert set(world.output.objects) == set(THUMBNAILS)


def test_an_upload_during_the_deletion_has_its_thumbnails(world: Deleting) -> None:
    """It comes back between the last delete and the last look: its thumbnails are made."""
    world.upload()
    world.delete()
    once(world.output, "delete", lambda: world.input.upload(KEY, P))
    assert isinstance(world.process(), Done)
    assert world.shows(P)


def test_a_deletion_during_the_writing_leaves_nothing(world: Deleting) -> None:
    """It goes while its thumbnails are written, and the deletion's own event saw none yet."""
    world.input.upload(KEY, P)
    once(world.output, "put", world.delete)
    outcome = world.process()
    assert isinstance(outcome, Skipped)
    assert outcome.reason == GONE
    assert world.output.objects == {}


def test_thumbnails_that_changed_meanwhile_are_looked_at_again(world: Deleting) -> None:
    """Over the etag that was seen, and no other: a newer thumbnail is read before it is deleted."""
    world.upload()
    world.delete()
    state, _ = world.output.objects[THUMBNAILS[1]]
    newer = Provenance("uploads/a/photo.png", "e", state.modified, fingerprint(SETTINGS.specs[0]))

    def replace_it() -> None:
        headers = type("Headers", (), {"metadata": newer.to_metadata()})()
        world.output.upload(THUMBNAILS[1], b"newer", headers)

    once(world.output, "delete", replace_it)
    assert world.process() == Skipped(GONE, (THUMBNAILS[0],))
    assert world.output.objects[THUMBNAILS[1]][1] == b"newer"


def test_a_lost_reply_to_a_delete_owes_the_last_look(world: Deleting) -> None:
    """The delete took effect but its reply was lost: the retry must still look at the source."""
    world.upload()
    world.delete()

    def lost(request: str, _key: str) -> None:
        if request == "delete":
            world.output.after = lambda _request, _key: None
            world.input.upload(KEY, P)
            raise StorageUnavailable("the reply was lost")

    world.output.after = lost
    with pytest.raises(StorageUnavailable):
        world.process()
    assert isinstance(world.process(), Done)
    assert world.shows(P)


class Forgetful(MemoryBucket):
    """Deletes, and says that it did not: the client's own retry met what it had deleted."""

    def delete(self, key: str, *, replacing: str) -> bool:
        super().delete(key, replacing=replacing)
        return False


def test_a_delete_that_was_retried_within_the_client_owes_it_too(world: Deleting) -> None:
    """Then it looks as if somebody else had deleted it."""
    world.output = Forgetful("output")
    world.upload()
    world.delete()
    once(world.output, "delete", lambda: world.input.upload(KEY, P))
    assert isinstance(world.process(), Done)
    assert world.shows(P)


def test_a_key_too_long_for_thumbnails_has_none_to_delete(world: Deleting) -> None:
    """Its deletion is no failure."""
    assert world.process("uploads/" + "x" * 1016) == Skipped(GONE)
