"""The uploaded images, by folder and page: newest first, or those whose name contains a text.

S3 lists by name only, 1,000 names a request
(https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html). Each page is made from a
limited number of requests, so that it opens as fast for a bucket of millions as for any other.
"""

import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from image_pipeline.console.details import card_size
from image_pipeline.console.links import presigned_url
from image_pipeline.stack.aws import aws_errors_explained
from image_pipeline.stack.deployed import Stack
from thumbnailer.srcset import MOST_SHOWN_FIRST

PAGE_SIZE: Final = 48
"""Images on a page. Divisible by 2, 3, 4 and 6, so that most grids end with a full row."""

LISTED: Final = 1000
"""Names in one answer of S3."""

MAX_SORTED: Final = 3 * LISTED - 2
"""Maximum images and folders in a folder whose images are sorted by time. With one more, and the
marker of the folder, that is three requests, so that a page opens within a second. S3 answers each
in 100 to 200 ms (https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html).
"""

MAX_SEARCHED: Final = 10_000
"""Maximum images whose names are searched for a text: eleven requests."""

MAX_FOLDERS: Final = 96
"""Maximum folders above the images. The page sorted by name has all."""

LISTING_SECONDS: Final = 60.0
"""How long a listing is reused for the next pages, and for other searches of the same folder."""

LAST_CHARACTER: Final = "\U0010ffff"
"""The last one by UTF-8, by which S3 sorts: a listing after `a/` and this has nothing of `a/`."""


class Object(NamedTuple):
    """An uploaded object as S3 lists it; `size` is in bytes, `etag` without quotes."""

    modified: datetime
    key: str
    size: int
    etag: str


type Entry = Object | str
"""An object, or the key prefix of a folder, which ends with a slash."""


class View(NamedTuple):
    """What a page of the gallery shows, as the parameters of its URL.

    `folder` is a key without the input prefix, and is empty or ends with a slash. `find` is a text
    that names contain. The newest images come first, without the first `skip`; with `sort` of
    "name", or if there are too many, those whose keys are after `after`, by name.
    """

    folder: str = ""
    find: str = ""
    skip: int = 0
    after: str = ""
    sort: str = ""

    @property
    def url(self) -> str:
        """The URL of the page, scrolled to the gallery unless it is the first page of all."""
        query = {name: value for name, value in self._asdict().items() if value}
        return f"/?{urlencode(query)}#gallery" if query else "/"

    @property
    def parents(self) -> list[tuple[str, "View"]]:
        """The name and the page of the folder, after those of all folders that it is in."""
        parts = self.folder.split("/")[:-1]
        paths = ("/".join(parts[: end + 1]) + "/" for end in range(len(parts)))
        return [(name, View(path)) for name, path in zip(parts, paths, strict=True)]


@dataclass(frozen=True, slots=True)
class Card:
    """An image in the gallery; `size` is in bytes, `etag` without quotes.

    `name` is the key without the input prefix, `label` also without the folder that is shown.
    `thumbnail` is a presigned URL of the object `thumbnail_key`, whether or not it exists.
    """

    key: str
    name: str
    label: str
    size: int
    modified: datetime
    etag: str
    thumbnail: str
    thumbnail_key: str


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the gallery, sorted newest first if `by_time`, else by name.

    `folders` are names and pages, at most MAX_FOLDERS of `total_folders`. `total` is the number of
    images. Both totals are None if there are more than were listed. A search is `complete` if it
    covers all that the folder contains. `following` and `previous` are the pages beside this one,
    if there are such.
    """

    folders: list[tuple[str, View]]
    cards: list[Card]
    by_time: bool = True
    total: int | None = None
    total_folders: int | None = None
    complete: bool = True
    following: View | None = None
    previous: View | None = None


class Listing(NamedTuple):
    """What S3 listed at `time`, of a monotonic clock; `more` says that there is more of it.

    `objects` are sorted newest first. `first` are the first entries by name, for one page.
    """

    time: float
    folders: list[str]
    objects: list[Object]
    first: list[Entry]
    more: bool


class Gallery:
    """The images in a stack's input bucket, by folder and page."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._listings: dict[tuple[str, bool], Listing] = {}
        """By key prefix, and whether of all that is under it. Replaced, never changed."""

    def page(self, view: View) -> Page:
        """Return the page of `view`. Raises CommandError if AWS refuses."""
        with aws_errors_explained():
            if view.find:
                return self._found(view)
            if not (view.sort or view.after):
                listing = self._listing(self._prefix(view), MAX_SORTED, refresh=not view.skip)
                if listing.more:
                    return self._by_name(view, listing.first, more=True)
                return self._sorted(view, listing.folders, listing.objects)
            entries, more = self._list(self._prefix(view), PAGE_SIZE, view.after)
            return self._by_name(view, entries, more=more)

    def forget(self) -> None:
        """List everything again, because images have been deleted."""
        self._listings = {}

    def _by_name(self, view: View, entries: Sequence[Entry], *, more: bool) -> Page:
        last = entries[-1] if entries else ""
        after = f"{last}{LAST_CHARACTER}" if isinstance(last, str) else last.key
        return Page(
            self._folders(view, (each for each in entries if isinstance(each, str))),
            self._cards(view, [each for each in entries if isinstance(each, Object)]),
            by_time=False,
            following=view._replace(after=after, sort="name") if more else None,
        )

    def _found(self, view: View) -> Page:
        """Search what was listed; and for names that begin with the text, whatever there is."""
        prefix, wanted = self._prefix(view), _folded(view.find)
        listing = self._listing(prefix, MAX_SEARCHED, everything=True)
        images = {
            each for each in listing.objects if wanted in _folded(each.key.removeprefix(prefix))
        }
        folders = {
            each
            for each in _parents(prefix, listing.objects)
            if wanted in _folded(each.removesuffix("/").rpartition("/")[2])
        }
        if listing.more:
            entries, _ = self._list(prefix + view.find, LISTED - 1)
            images |= {each for each in entries if isinstance(each, Object)}
            folders |= {each for each in entries if isinstance(each, str)}
        found = self._sorted(view, sorted(folders), sorted(images, reverse=True))
        return replace(found, complete=not listing.more)

    def _sorted(self, view: View, folders: Sequence[str], objects: Sequence[Object]) -> Page:
        """Return the page of `objects`, in their order, with the folders if it is the first one."""
        end = view.skip + PAGE_SIZE
        return Page(
            self._folders(view, folders[:MAX_FOLDERS]) if not view.skip else [],
            self._cards(view, objects[view.skip : end]),
            total=len(objects),
            total_folders=len(folders),
            following=view._replace(skip=end) if len(objects) > end else None,
            previous=view._replace(skip=max(view.skip - PAGE_SIZE, 0)) if view.skip else None,
        )

    def _prefix(self, view: View) -> str:
        return self._stack.settings.input_prefix + view.folder

    def _listing(
        self, prefix: str, limit: int, *, everything: bool = False, refresh: bool = False
    ) -> Listing:
        """Return up to `limit` entries of a folder, or with `everything` images below it too.

        A recent listing is reused unless `refresh`.
        """
        now, name = time.monotonic(), (prefix, everything)
        recent = {
            each: listing
            for each, listing in self._listings.items()
            if now - listing.time < LISTING_SECONDS
        }
        if refresh or name not in recent:
            entries, more = self._list(prefix, limit, everything=everything)
            folders = [each for each in entries if isinstance(each, str)]
            objects = sorted((each for each in entries if isinstance(each, Object)), reverse=True)
            recent[name] = Listing(now, folders, objects, entries[:PAGE_SIZE], more)
        self._listings = recent
        return recent[name]

    def _list(
        self, prefix: str, limit: int, after: str = "", *, everything: bool = False
    ) -> tuple[list[Entry], bool]:
        """Return up to `limit` entries by name, and whether there are more."""
        found = list(islice(self._entries(prefix, limit, after, everything), limit + 1))
        return found[:limit], len(found) > limit

    def _entries(
        self, prefix: str, limit: int, after: str, everything: bool  # noqa: FBT001
    ) -> Iterator[Entry]:
        """Yield images and folders by name, without folder markers."""
        options: dict[str, Any] = {} if everything else {"Delimiter": "/"}
        options |= {"StartAfter": after} if after else {}
        pages = self._stack.aws.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._stack.input_bucket,
            Prefix=prefix,
            # One more than the limit, and one for the marker of the folder itself.
            PaginationConfig={"PageSize": min(limit + 2, LISTED)},
            **options,
        )
        for page in pages:
            entries: list[Entry] = [each["Prefix"] for each in page.get("CommonPrefixes", [])]
            entries += [
                Object(each["LastModified"], each["Key"], each["Size"], each["ETag"].strip('"'))
                for each in page.get("Contents", [])
                if self._stack.settings.is_image_key(each["Key"])
            ]
            yield from sorted(entries, key=_name)

    def _folders(self, view: View, prefixes: Iterable[str]) -> list[tuple[str, View]]:
        """Return the names and pages of folders, named as seen from the folder that is shown."""
        start = self._stack.settings.input_prefix
        paths = [each.removeprefix(start) for each in prefixes]
        return [(path.removeprefix(view.folder).removesuffix("/"), View(path)) for path in paths]

    def _cards(self, view: View, objects: Sequence[Object]) -> list[Card]:
        settings = self._stack.settings
        size = card_size(settings.sizes)
        shown = min(settings.formats, key=MOST_SHOWN_FIRST.index)
        cards = []
        for each in objects:
            name = each.key.removeprefix(settings.input_prefix)
            thumbnail = settings.thumbnail_key(each.key, size, shown)
            url = presigned_url(self._stack, settings.output_bucket, thumbnail)
            label = name.removeprefix(view.folder)
            cards.append(
                Card(each.key, name, label, each.size, each.modified, each.etag, url, thumbnail)
            )
        return cards


def _name(entry: Entry) -> str:
    return entry if isinstance(entry, str) else entry.key


def _folded(text: str) -> str:
    """Return `text` without what a search ignores: case, and how accents are encoded."""
    return unicodedata.normalize("NFC", text).casefold()


def _parents(prefix: str, objects: Iterable[Object]) -> set[str]:
    """Return the key prefixes of all folders between `prefix` and the objects."""
    found: set[str] = set()
    for each in objects:
        path = each.key.rpartition("/")[0] + "/"
        while len(path) > len(prefix) and path not in found:
            found.add(path)
            path = path.removesuffix("/").rpartition("/")[0] + "/"
    return found
