"""Environment variables → frozen, validated `Settings`."""

import re
import string
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from thumbnailer.errors import InvalidSettings
from thumbnailer.imaging import (
    ENCODERS,
    OUTPUT_FORMATS,
    WHITE,
    Size,
    ThumbnailSpec,
    digest,
    fingerprint,
    focus_text,
    parse_colour,
    parse_focus,
    parse_sizes,
    thumbnail_spec,
)
from thumbnailer.provenance import LONG_AGO, Provenance

PLAIN_MANIFEST: Final = 1
MANIFEST: Final = 2
"""Versions of the manifest's format. The first is kept as long as all thumbnails are WebP of plain
widths, without a CDN, so that an update writes nothing again. A greater number writes all manifests
again."""

DEFAULT_SIZES: Final = "128,512"
DEFAULT_QUALITY: Final = 85
DEFAULT_PREFIX: Final = "uploads/"
DEFAULT_LOG_LEVEL: Final = "INFO"
DEFAULT_MEMORY_MB: Final = 512
"""Defaults of the template's parameters too (tests/test_template.py)."""

DEFAULT_FORMATS: Final = OUTPUT_FORMATS[:1]
DEFAULT_AVIF_QUALITY: Final = 68
DEFAULT_JPEG_QUALITY: Final = 86
"""What scores at least as well as WebP at its default (SSIMULACRA 2, median over 35 photos, `make
bench-formats`)."""

KEY_FIELDS: Final = ("dir", "stem", "ext", "size", "width", "format")
KEY_TEMPLATE: Final = "{dir}{stem}_{width}w.webp"
"""Deployed stacks have it as a parameter's value, so it stays, and means SIZE_KEY_TEMPLATE."""

SIZE_KEY_TEMPLATE: Final = "{dir}{stem}_{size}.{format}"
NEEDED_FIELDS: Final = {"{stem}": {"stem"}, "{size}": {"size", "width"}}
"""What a key template must have, and the fields of which any will do."""

EXTENSIONS: Final = {
    **{name: name for name in OUTPUT_FORMATS},
    "jpg": "jpeg",
    **dict.fromkeys(("png", "gif", "heic", "tif", "tiff", "svg"), "another format"),
}
"""Extension → the format of OUTPUT_FORMATS that files of this name have."""

MANIFEST_TEMPLATES: Final = ("{dir}{stem}.json", "{dir}{stem}.{ext}.json")
"""Of manifests beside thumbnails without and with `{ext}` in their keys."""

FOCUS: Final = "focus"
"""Name of the user metadata (x-amz-meta-focus) with which an uploader chooses what crops show."""

CACHE_CONTROL: Final = "public, max-age=86400"
RESERVED_PREFIX: Final = "_image-pipeline/"
"""Keys of the output bucket that begin like this are the stack's own: a backfill's results
(iac/template.yaml) and marks (failure_marks.py). No thumbnail and no manifest gets such a key."""

FIXED_FIELDS: Final = frozenset({"dir", "stem", "ext"})
"""Fields of a key template whose values follow from the source's key, whatever the settings."""

MAX_PREFIX_BYTES: Final = 512
"""Half of what S3 allows for a key, so the rest is for names. It is the MaxLength of InputPrefix in
iac/template.yaml."""

MAX_KEY_BYTES: Final = 1024
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""

MAX_MEMORY_MB: Final = 10_240
"""Maximum memory of a Lambda function
(https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html)."""

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")


def _whole_number(text: str) -> int:
    # int() also takes "1_000" and other scripts' digits.
    if not re.fullmatch(r"\s*[0-9]{1,9}\s*", text):
        raise ValueError(f"must be a whole number, not {text!r}")
    return int(text)


class Settings(NamedTuple):
    """The function's settings, checked.

    `sizes` are in the order of THUMB_SIZES, and `formats` are of OUTPUT_FORMATS. `quality` is
    WebP's. `background` is `#rrggbb`. `memory_mb` is the function's memory in MB
    (AWS_LAMBDA_FUNCTION_MEMORY_SIZE, which Lambda sets). `input_bucket` is where uploads are
    expected, if it is known; the function processes what events name. `distribution` is the CDN in
    which changed objects are invalidated; empty if they are not. `thumbnails_url` is where browsers
    get the thumbnails (`urls.base_url`); empty without a CDN.
    """

    output_bucket: str
    dead_letter_queue_url: str
    sizes: tuple[Size, ...] = parse_sizes(DEFAULT_SIZES)
    quality: int = DEFAULT_QUALITY
    input_prefix: str = DEFAULT_PREFIX
    output_key_template: str = KEY_TEMPLATE
    cache_control: str = CACHE_CONTROL
    animated: bool = True
    write_manifest: bool = False
    delete_with_original: bool = False
    log_level: str = DEFAULT_LOG_LEVEL
    memory_mb: int = DEFAULT_MEMORY_MB
    input_bucket: str | None = None
    formats: tuple[str, ...] = DEFAULT_FORMATS
    avif_quality: int = DEFAULT_AVIF_QUALITY
    jpeg_quality: int = DEFAULT_JPEG_QUALITY
    background: str = WHITE
    distribution: str = ""
    thumbnails_url: str = ""

    @property
    def specs(self) -> tuple[ThumbnailSpec, ...]:
        """Every thumbnail of an image, in the order of `sizes`, and of `formats` for each."""
        return tuple(
            thumbnail_spec(
                size,
                name,
                self.quality_of(name),
                animated=self.animated,
                background=self.background,
            )
            for size in self.sizes
            for name in self.formats
        )

    def quality_of(self, format_name: str) -> int:
        """Return the quality of a format's thumbnails, 1 to 100."""
        return {"webp": self.quality, "avif": self.avif_quality, "jpeg": self.jpeg_quality}[
            format_name
        ]

    @property
    def crops(self) -> bool:
        """Whether the focus of a source shapes any of its thumbnails."""
        return any(size.crops for size in self.sizes)

    @property
    def manifest_version(self) -> int:
        """PLAIN_MANIFEST or MANIFEST."""
        plain = self.formats == DEFAULT_FORMATS and all(size.is_plain for size in self.sizes)
        return PLAIN_MANIFEST if plain and not self.thumbnails_url else MANIFEST

    @property
    def manifest_fingerprint(self) -> str:
        """Twelve hex digits that change whenever the manifest's content should.

        A manifest lists all thumbnails, so their sizes and keys are part of it.
        """
        fingerprints = [fingerprint(spec) for spec in self.specs]
        if self.manifest_version == PLAIN_MANIFEST:
            thumbnails = {
                "thumbnails": fingerprints[0],  # all are alike
                "widths": [size.width for size in self.sizes],
            }
        else:
            thumbnails = {
                "thumbnails": fingerprints,
                "sizes": [str(size) for size in self.sizes],
                "thumbnails_url": self.thumbnails_url,
            }
        template = self.output_key_template
        default = key_template_meaning(template) == SIZE_KEY_TEMPLATE
        return digest(
            {
                "version": self.manifest_version,
                "key_template": KEY_TEMPLATE if default else template,
                **thumbnails,
            }
        )

    def focus(self, metadata: Mapping[str, str]) -> tuple[str, str | None]:
        """Return the focus in the user metadata of a source, and what is wrong with it, if it is.

        The focus is empty where there is none, where it is wrong, or where nothing is cropped.
        """
        found = metadata.get(FOCUS)
        if found is None or not self.crops:
            return "", None
        try:
            return focus_text(parse_focus(found)), None
        except ValueError as error:
            return "", f"the metadata {FOCUS} is ignored: it {error}"

    def url(self, key: str, version: str) -> str:
        """Return the URL of a thumbnail, which never shows another picture; `picture_version`.

        Without a CDN it is relative to the output bucket's root, and has no version.
        """
        from thumbnailer.srcset import url_path  # noqa: PLC0415 - not at init
        from thumbnailer.urls import thumbnail_url  # noqa: PLC0415 - not at init

        if not self.thumbnails_url:
            return url_path(key)
        return f"{thumbnail_url(self.thumbnails_url, key)}?v={version}"

    def picture_version(self, etag: str, focus: str) -> str:
        """Return eight hex digits that change with any thumbnail of a source: `v` in its URLs.

        `focus` is that of the source (`Provenance.focus`). The order of sizes and formats changes
        nothing.
        """
        named = sorted({(spec.size.name, spec.format, fingerprint(spec)) for spec in self.specs})
        return digest({"etag": etag, "focus": focus, "thumbnails": named})[:8]

    def is_image_key(self, key: str) -> bool:
        """Whether the object `key` of the input bucket is processed: no folder marker is."""
        return key.startswith(self.input_prefix) and not key.endswith("/")

    def thumbnail_key(self, source_key: str, size: Size, format_name: str) -> str:
        """Return the key of a thumbnail of `source_key`, which is under the input prefix.

        `uploads/a/photo.jpg` at 128 pixels → `a/photo_128w.webp`. Folders stay as they are, `//`
        and `..` too: a key is a name, not a path.
        """
        template = key_template_meaning(self.output_key_template)
        return template.format(**self._parts(source_key), **_size_fields(size, format_name))

    def manifest_key(self, source_key: str) -> str:
        """Return the key of the manifest: `uploads/a/photo.jpg` → `a/photo.json`.

        With `{ext}` in the thumbnails' keys, the manifest's key has it too: `a/photo.jpg.json`.
        """
        return self.manifest_keys(source_key)["{ext}" in self.output_key_template]

    def manifest_keys(self, source_key: str) -> tuple[str, ...]:
        """Return every key that a manifest of this source can have, whatever the settings."""
        parts = self._parts(source_key)
        return tuple(template.format(**parts) for template in MANIFEST_TEMPLATES)

    def outputs(self, source_key: str) -> dict[str, str]:
        """Return the key and fingerprint of each output of a source, in the order of writing."""
        provenances = self.provenances(source_key, "", LONG_AGO, "")
        return {key: each.fingerprint for key, each in provenances.items()}

    def provenances(
        self, source_key: str, etag: str, modified: datetime, focus: str
    ) -> dict[str, Provenance]:
        """Return the key and provenance of each output of a source, in the order of writing.

        `focus` is the source's. It is part of the provenance of what it shapes.
        """
        source = Provenance(source_key, etag, modified, "")
        provenances = {
            self.thumbnail_key(source_key, spec.size, spec.format): source._replace(
                fingerprint=fingerprint(spec), focus=focus if spec.size.crops else ""
            )
            for spec in self.specs
        }
        if self.write_manifest:
            provenances[self.manifest_key(source_key)] = source._replace(
                fingerprint=self.manifest_fingerprint, focus=focus if self.crops else ""
            )
        return provenances

    def stem(self, source_key: str) -> str:
        """Return what every key contains that any template can give for this source."""
        return self._parts(source_key)["stem"]

    def key_prefixes(self, source_key: str) -> tuple[str, str]:
        """Return two prefixes of the keys of a source's thumbnails, the wider one first.

        `uploads/a/photo.jpg` → `a/photo` and `a/photo_`. All keys that the template can give have
        the narrower one, which ends before the first field that is not in FIXED_FIELDS. The wider
        one ends with the stem if that comes earlier, so that keys of similar templates have it too.
        """
        parts = self._parts(source_key)
        prefix, stem_ends = "", None
        for literal, field, *_ in string.Formatter().parse(
            key_template_meaning(self.output_key_template)
        ):
            prefix += literal
            if field is None:  # an escaped brace, or the end
                continue
            if field not in FIXED_FIELDS:
                break
            prefix += parts[field]
            if field == "stem" and stem_ends is None:
                stem_ends = len(prefix)
        return prefix[:stem_ends], prefix

    def _parts(self, source_key: str) -> dict[str, str]:
        """Return the values of FIXED_FIELDS."""
        directory, slash, name = source_key.removeprefix(self.input_prefix).rpartition("/")
        stem, _, ext = name.rpartition(".")
        if not stem:  # no dot, or a leading one only: `.profile` is all stem
            stem, ext = name, ""
        return {"dir": directory + slash, "stem": stem, "ext": ext}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read and check every variable.

        Raises InvalidSettings, which names every fault.
        """
        faults: list[str] = []

        def read[T](name: str, default: str | None, parse: Callable[[str], T]) -> T:
            text = environment.get(name, default)
            try:
                if text is None:
                    raise ValueError("is not set")  # noqa: TRY301 - a fault like any other
                return parse(text)
            except ValueError as error:
                faults.append(f"{name} {error}")
                return None  # type: ignore[return-value]  # never used: any fault raises below

        settings = cls(
            output_bucket=read("OUTPUT_BUCKET", None, _bucket_name),
            dead_letter_queue_url=read("DLQ_URL", None, _queue_url),
            sizes=read("THUMB_SIZES", DEFAULT_SIZES, parse_sizes),
            quality=read("WEBP_QUALITY", str(DEFAULT_QUALITY), _quality),
            formats=read("THUMB_FORMATS", ",".join(DEFAULT_FORMATS), parse_formats),
            avif_quality=read("AVIF_QUALITY", str(DEFAULT_AVIF_QUALITY), _quality),
            jpeg_quality=read("JPEG_QUALITY", str(DEFAULT_JPEG_QUALITY), _quality),
            background=read("BACKGROUND_COLOR", WHITE, parse_colour),
            distribution=read("CDN_DISTRIBUTION", "", _distribution_if_any),
            thumbnails_url=read("THUMBNAILS_URL", "", _url_if_any(environment)),
            input_prefix=read("INPUT_PREFIX", DEFAULT_PREFIX, _prefix),
            output_key_template=read("OUTPUT_KEY_TEMPLATE", KEY_TEMPLATE, parse_key_template),
            cache_control=read("CACHE_CONTROL", CACHE_CONTROL, _header),
            animated=read("ANIMATED", "true", _flag),
            write_manifest=read("WRITE_MANIFEST", "false", _flag),
            delete_with_original=read("DELETE_WITH_ORIGINAL", "false", _flag),
            log_level=read("LOG_LEVEL", DEFAULT_LOG_LEVEL, _log_level),
            memory_mb=read(
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", str(DEFAULT_MEMORY_MB), _whole_number
            ),
            input_bucket=read("INPUT_BUCKET", "", _bucket_name_if_any),
        )
        shaping_keys = (settings.output_key_template, settings.sizes, settings.formats)
        if None not in shaping_keys:  # each is valid by itself
            try:
                check_keys(*shaping_keys)
            except ValueError as error:
                faults.append(f"OUTPUT_KEY_TEMPLATE {error}")
        if faults:
            raise InvalidSettings(
                "Invalid environment variables (parameters of the stack): " + "; ".join(faults)
            )
        return settings


def _bucket_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", text):
        raise ValueError(f"must be the name of a bucket, not {text!r}")
    return text


def _bucket_name_if_any(text: str) -> str | None:
    return _bucket_name(text) if text else None


def _distribution_if_any(text: str) -> str:
    if not re.fullmatch(r"[A-Z0-9]*", text):
        raise ValueError(f"must be empty or the id of a CloudFront distribution, not {text!r}")
    return text


def _url_if_any(environment: Mapping[str, str]) -> Callable[[str], str]:
    """Return the parser of THUMBNAILS_URL; where a local AWS answers, its URLs are local too."""

    def parse(text: str) -> str:
        if not text:
            return ""
        from thumbnailer.urls import base_url  # noqa: PLC0415 - few stacks have a CDN

        if not re.fullmatch(r"https?://[a-z0-9.:-]+", text):
            raise ValueError(
                f"must be empty or a URL such as https://img.example.com, not {text!r}"
            )
        return base_url(text, environment.get("AWS_ENDPOINT_URL"))

    return parse


def _queue_url(text: str) -> str:
    if not re.fullmatch(r"https?://[^/\s]+/.+", text):
        raise ValueError(f"must be the URL of an SQS queue, not {text!r}")
    return text


def _quality(text: str) -> int:
    quality = _whole_number(text)
    if not 1 <= quality <= 100:  # noqa: PLR2004 - WebP's own scale
        raise ValueError(f"must be between 1 and 100, not {quality}")
    return quality


def _prefix(text: str) -> str:
    # The template allows less. Anything else would match no key, or be a wildcard in a policy.
    if not text or not text.isprintable() or len(text.encode()) > MAX_PREFIX_BYTES:
        raise ValueError(
            f"must be 1 to {MAX_PREFIX_BYTES} printable bytes, such as uploads/, not {text!r}"
        )
    return text


def parse_formats(text: str) -> tuple[str, ...]:
    """Read `webp,avif` as formats. Raises ValueError for one that is not known, or given twice."""
    names = tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in names if name not in OUTPUT_FORMATS]:
        named = ", ".join(map(repr, unknown))
        hint = "; jpg is called jpeg" if "jpg" in unknown else ""
        raise ValueError(
            f"must be formats of {', '.join(OUTPUT_FORMATS)}, such as webp,avif, not {named}{hint}"
        )
    if len(set(names)) < len(names):
        raise ValueError(f"must not contain a format twice: {text!r}")
    return names


def parse_key_template(text: str) -> str:
    """Check a template of thumbnail keys. Raises ValueError for an unknown or missing field.

    `check_keys_differ` and `check_extension` check it beside the sizes and the formats.
    """
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"is not a template ({error}): {text!r}") from None
    fields = {field for _, field, _, _ in parts if field is not None}
    if unknown := sorted(fields.difference(KEY_FIELDS)):
        known = ", ".join(f"{{{field}}}" for field in KEY_FIELDS)
        raise ValueError(f"allows {known}, not {unknown}")
    if any(spec or conversion for _, _, spec, conversion in parts):
        raise ValueError(f"allows plain fields without ':' or '!': {text!r}")
    if text.startswith(RESERVED_PREFIX):
        raise ValueError(f"must not begin with {RESERVED_PREFIX}, where backfills write: {text!r}")
    missing = [name for name, any_of in NEEDED_FIELDS.items() if not any_of & fields]
    if missing:
        raise ValueError(
            f"must contain {' and '.join(missing)}, or thumbnails would overwrite each other"
        )
    return text


def key_template_meaning(template: str) -> str:
    """Return what a template of thumbnail keys stands for: KEY_TEMPLATE is SIZE_KEY_TEMPLATE."""
    return SIZE_KEY_TEMPLATE if template == KEY_TEMPLATE else template


def check_keys(template: str, sizes: Sequence[Size], formats: Sequence[str]) -> None:
    """Raise ValueError where a template does not suit the sizes and formats.

    WebP files under another extension are allowed where that is the only format: earlier versions
    made them.
    """
    check_keys_differ(template, sizes, formats)
    if tuple(formats) != DEFAULT_FORMATS:
        check_extension(template, formats)


def check_keys_differ(template: str, sizes: Sequence[Size], formats: Sequence[str]) -> None:
    """Raise ValueError where a template gives two of an image's thumbnails the same key."""
    found: dict[str, tuple[Size, str]] = {}
    for size in sizes:
        for name in formats:
            fields = {"dir": "", "stem": "photo", "ext": "jpg", **_size_fields(size, name)}
            key = key_template_meaning(template).format(**fields)
            other_size, other_name = found.setdefault(key, (size, name))
            if (other_size, other_name) != (size, name):
                field, what = (
                    ("{format}", f"the formats {other_name} and {name}")
                    if other_size == size
                    else ("{size}", f"the sizes {other_size.name} and {size.name}")
                )
                raise ValueError(
                    f"cannot tell {what} apart, which would both be {key!r}: put {field} into it, "
                    f"such as {SIZE_KEY_TEMPLATE}"
                )


def check_extension(template: str, formats: Sequence[str]) -> None:
    """Raise ValueError where keys have the extension of another image format than their own."""
    _, dot, extension = key_template_meaning(template).rpartition(".")
    named = EXTENSIONS.get(extension.lower()) if dot else None
    if named and (wrong := [name for name in formats if name != named]):
        raise ValueError(
            f"names {' and '.join(wrong)} files .{extension}: end it with .{{format}}, such as "
            f"{SIZE_KEY_TEMPLATE}"
        )


def _size_fields(size: Size, format_name: str) -> dict[str, str | int]:
    """Return the values of a key template's fields that are a thumbnail's own."""
    return {
        "size": size.name,
        "width": size.width,
        "format": ENCODERS[format_name].extension,
    }


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
