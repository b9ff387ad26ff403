"""Environment variables → frozen, validated `Settings`."""

import hashlib
import json
import re
import string
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from thumbnailer.errors import InvalidSettings

WEBP_MAX_SIDE: Final = 16_383
"""Pixels; 14 bits in the file (https://developers.google.com/speed/webp/docs/riff_container)."""

RECIPE_VERSION: Final = 1
"""Raise it when the same source and settings are to give other bytes on purpose; every thumbnail
is then made again when its source is next seen."""

MANIFEST_VERSION: Final = 1
"""Raise it when manifests are to be written again."""

KEY_FIELDS: Final = frozenset({"dir", "stem", "ext", "width"})
KEY_TEMPLATE: Final = "{dir}{stem}_{width}w.webp"
CACHE_CONTROL: Final = "public, max-age=86400"
MAX_PREFIX_BYTES: Final = 512

MAX_KEY_BYTES: Final = 1024
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")


class Settings(NamedTuple):
    """What the function is told by its environment, checked.

    `widths` are in pixels, in the order given; `memory_mb` is the function's memory in MB
    (AWS_LAMBDA_FUNCTION_MEMORY_SIZE, which Lambda sets itself). `input_bucket` is where uploads are
    expected, if it is told: what is processed is what events name.
    """

    output_bucket: str
    dead_letter_queue_url: str
    widths: tuple[int, ...] = (128, 512)
    quality: int = 85
    input_prefix: str = "uploads/"
    output_key_template: str = KEY_TEMPLATE
    cache_control: str = CACHE_CONTROL
    animated: bool = True
    write_manifest: bool = False
    delete_with_original: bool = False
    log_level: str = "INFO"
    memory_mb: int = 512
    input_bucket: str | None = None

    @property
    def recipe(self) -> str:
        """Twelve hex digits that change with every setting that shapes a thumbnail's bytes.

        Widths and names are left out: each is told by the thumbnail's own key.
        """
        shaping = {
            "version": RECIPE_VERSION,
            "quality": self.quality,
            "animated": self.animated,
        }
        return _digest(shaping)

    @property
    def manifest_recipe(self) -> str:
        """The same for a manifest, which tells of all thumbnails: widths and names shape it too."""
        shaping = {
            "version": MANIFEST_VERSION,
            "thumbnails": self.recipe,
            "widths": self.widths,
            "key_template": self.output_key_template,
        }
        return _digest(shaping)

    def thumbnail_key(self, source_key: str, width: int) -> str:
        """Key of the thumbnail of `source_key` (under the input prefix) at `width` pixels.

        `uploads/a/photo.jpg` at 128 → `a/photo_128w.webp`. Folders stay as they are, `//` and
        `..` too: a key is a name, not a path.
        """
        return self._key(source_key, self.output_key_template, width)

    def manifest_key(self, source_key: str) -> str:
        """Key of the manifest of `source_key`: `uploads/a/photo.jpg` → `a/photo.json`.

        Where thumbnails are told apart by `{ext}`, so are manifests: `a/photo.jpg.json`.
        """
        told_apart = "{ext}" in self.output_key_template
        return self._key(source_key, "{dir}{stem}.{ext}.json" if told_apart else "{dir}{stem}.json")

    def recipes(self, source_key: str) -> dict[str, str]:
        """All that is made of `source_key`, in the order that it is written: keys to recipes."""
        recipes = {self.thumbnail_key(source_key, width): self.recipe for width in self.widths}
        if self.write_manifest:
            recipes[self.manifest_key(source_key)] = self.manifest_recipe
        return recipes

    def _key(self, source_key: str, template: str, width: int = 0) -> str:
        directory, slash, name = source_key.removeprefix(self.input_prefix).rpartition("/")
        stem, _, ext = name.rpartition(".")
        if not stem:  # no dot, or a leading one only: `.profile` is all stem
            stem, ext = name, ""
        return template.format(dir=directory + slash, stem=stem, ext=ext, width=width)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read and check every variable.

        Raises InvalidSettings naming every fault, not the first only.
        """
        faults: list[str] = []

        def read[T](name: str, default: str | None, parse: Callable[[str], T]) -> T:
            text = environment.get(name, default)
            try:
                if text is None:
                    raise ValueError("is not set")  # noqa: TRY301 - a fault like the others
                return parse(text)
            except ValueError as error:
                faults.append(f"{name} {error}")
                return None  # type: ignore[return-value]  # never used: faults end in a raise

        settings = cls(
            output_bucket=read("OUTPUT_BUCKET", None, _bucket_name),
            dead_letter_queue_url=read("DLQ_URL", None, _queue_url),
            widths=read("THUMB_SIZES", "128,512", parse_widths),
            quality=read("WEBP_QUALITY", "85", _quality),
            input_prefix=read("INPUT_PREFIX", "uploads/", _prefix),
            output_key_template=read("OUTPUT_KEY_TEMPLATE", KEY_TEMPLATE, parse_key_template),
            cache_control=read("CACHE_CONTROL", CACHE_CONTROL, _header),
            animated=read("ANIMATED", "true", _flag),
            write_manifest=read("WRITE_MANIFEST", "false", _flag),
            delete_with_original=read("DELETE_WITH_ORIGINAL", "false", _flag),
            log_level=read("LOG_LEVEL", "INFO", _log_level),
            memory_mb=read("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512", _whole_number),
            input_bucket=read("INPUT_BUCKET", "", _bucket_name_if_any),
        )
        if faults:
            raise InvalidSettings(
                "Mend the function's environment variables (parameters of the stack): "
                + "; ".join(faults)
            )
        return settings


def _digest(shaping: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:12]


def _bucket_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", text):
        raise ValueError(f"must be the name of a bucket, not {text!r}")
    return text


def _bucket_name_if_any(text: str) -> str | None:
    return _bucket_name(text) if text else None


def _queue_url(text: str) -> str:
    if not re.fullmatch(r"https?://[^/\s]+/.+", text):
        raise ValueError(f"must be the URL of an SQS queue, not {text!r}")
    return text


def _whole_number(text: str) -> int:
    # int() also takes "1_000" and other scripts' digits.
    if not re.fullmatch(r"\s*[0-9]{1,9}\s*", text):
        raise ValueError(f"must be a whole number, not {text!r}")
    return int(text)


def parse_widths(text: str) -> tuple[int, ...]:
    """Read "128,512" as widths in pixels. Raises ValueError for what is none, or named twice."""
    try:
        widths = tuple(_whole_number(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f'must be widths in pixels such as "128,512", not {text!r}') from None
    wrong = [width for width in widths if not 1 <= width <= WEBP_MAX_SIDE]
    if wrong:
        raise ValueError(f"must lie between 1 and {WEBP_MAX_SIDE} pixels, not {wrong}")
    if len(set(widths)) < len(widths):
        raise ValueError(f"must not name a width twice: {text!r}")
    return widths


def _quality(text: str) -> int:
    quality = _whole_number(text)
    if not 1 <= quality <= 100:  # noqa: PLR2004 - WebP's own scale
        raise ValueError(f"must lie between 1 and 100, not {quality}")
    return quality


def _prefix(text: str) -> str:
    # The template allows less; this is what would never match, or be a pattern in the policy.
    if not text or not text.isprintable() or len(text.encode()) > MAX_PREFIX_BYTES:
        raise ValueError(
            f"must be 1 to {MAX_PREFIX_BYTES} printable bytes, such as uploads/, not {text!r}"
        )
    return text


def parse_key_template(text: str) -> str:
    """Check a template of thumbnails' keys. Raises ValueError for an unknown or missing field."""
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"is not a template ({error}): {text!r}") from None
    fields = {field for _, field, _, _ in parts if field is not None}
    if unknown := sorted(fields - KEY_FIELDS):
        raise ValueError(f"knows {{dir}}, {{stem}}, {{ext}} and {{width}}, not {unknown}")
    if any(spec or conversion for _, _, spec, conversion in parts):
        raise ValueError(f"takes plain fields without ':' or '!': {text!r}")
    if missing := sorted({"stem", "width"} - fields):
        raise ValueError(f"must contain {missing}, or thumbnails would overwrite each other")
    return text


def _header(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"must be a printable ASCII header value, not {text!r}")
    return text


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"must be true or false, not {text!r}")
    return text.lower() == "true"


def _log_level(text: str) -> str:
    if text.upper() not in LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}, not {text!r}")
    return text.upper()
