"""Writes docs/licences.md: the licences of what ships, and what they ask of whoever deploys it.

What the wheels say about themselves is read: their metadata, their licence files, and the SBOMs in
them. What they leave out is in this file, with its source.
"""

import ast
import importlib.metadata
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path
from typing import Annotated, Final

import typer
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from image_pipeline.cli.app import new_app, run_app
from image_pipeline.errors import CommandError

ROOT: Final = Path(__file__).parent.parent
REFUSED: Final = re.compile(r"A?GPL-")
"""Licences that would ask for the source of the whole function. LGPL is not one of them."""

READ: Final = {
    "cykooz-resizer": "Apache-2.0 OR MIT",
    "jinja2": "BSD-3-Clause",
    "pyspng": "BSD-3-Clause",
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
    "resvg-py": "MIT",
}
"""Packages whose metadata has no SPDX licence, or a wrong one → what their licence files say."""

CLASSIFIERS: Final = {
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
}
"""The last part of a classifier that names one licence → its SPDX identifier."""

BUNDLED: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "isal": {"isa-l": ("ISA-L", "BSD-3-Clause")},
    "pi-heif": {
        "libde265": ("libde265", "LGPL-3.0-or-later"),
        "libheif": ("libheif", "LGPL-3.0-or-later"),
    },
    "pillow": {
        "AOM": ("libaom", "BSD-2-Clause"),
        "BROTLI": ("Brotli", "MIT"),
        "BZIP2": ("bzip2", "bzip2-1.0.6"),
        "DAV1D": ("dav1d", "BSD-2-Clause"),
        "FREETYPE2": ("FreeType", "FTL"),
        "HARFBUZZ": ("HarfBuzz", "MIT-Modern-Variant"),
        "LCMS2": ("Little CMS", "MIT"),
        "LIBAVIF": ("libavif", "BSD-2-Clause"),
        "LIBJPEG": ("libjpeg-turbo", "IJG AND BSD-3-Clause"),
        "LIBLZMA": ("liblzma", "0BSD"),
        "LIBPNG": ("libpng", "libpng-2.0"),
        "LIBTIFF": ("libtiff", "libtiff"),
        "LIBWEBP": ("libwebp", "BSD-3-Clause"),
        "LIBYUV": ("libyuv", "BSD-3-Clause"),
        "OPENJPEG": ("OpenJPEG", "BSD-2-Clause"),
        "RAQM": ("Raqm", "MIT"),
        "XAU": ("libXau", "MIT-open-group"),
        "XCB": ("libxcb", "X11"),
        "XDMCP": ("libXdmcp", "MIT-open-group"),
        "ZLIB": ("zlib-ng", "Zlib"),
        "ZSTD": ("Zstandard", "BSD-3-Clause"),
    },
}
"""Package → what its licence files call a native library in its wheel → name and SPDX licence.

The licence was read there, or in the library's source where the file does not name it exactly."""

UNNAMED: Final[dict[str, dict[str, str]]] = {
    "pyspng": {"libspng": "BSD-2-Clause", "zlib": "Zlib"},
}
"""Package → native library in its wheel that no licence file in it names → SPDX licence.

By its build file, https://github.com/nurpax/pyspng/blob/master/setup.py."""

ARCHITECTURES: Final = {"x86_64": "x86-64", "aarch64": "arm64"}
"""Python's name of an architecture of Lambda → the name on the page."""

INTRODUCTION: Final = """\
# Licences

- [The function](#the-function) · [Rust crates](#rust-crates)
- [What the licences ask](#what-the-licences-ask) · [The command](#the-command)

Image pipeline has the [MIT licence](../LICENSE). This page lists the licences of the libraries that
it uses. `make licences` writes it from the metadata, the licence files and the SBOMs of the wheels
that `lambda/requirements.txt` names. It was read in the wheels for x86-64; those for arm64 have the
same versions. The page is no legal advice.

`make build` writes the list of packages as an SBOM in CycloneDX too: `.aws-sam/sbom.cdx.json`.

## The function

These libraries are in the function that you deploy. boto3 is not, because Lambda's runtime brings
it. Nothing is under the GPL or AGPL: `make licences` stops at such a licence.
"""

CRATES: Final = """\
## Rust crates

These packages are written in Rust: {packages}. The table counts their crates by licence, those for
other systems included. The SBOM of a wheel names each crate with its version: it is in the built
function, in `*.dist-info/sboms/`.
"""

ASKED: Final = """\
## What the licences ask

**If you deploy the function to your own account**, you pass nothing on, and none of these licences
asks anything of you.

**If you give the built function to others**, as a package or on a machine of theirs:

- **All licences**: pass on the copyright notices and the texts of the licences. They are in the
  built function, in `*.dist-info/licenses/` and `isal/isa-l/`{missing}. The wheels have no texts of
  the Rust crates either: they are with the source of each crate, on crates.io.
- **Apache-2.0**: also say what you changed, and pass on a file `NOTICE` if there is one.
- **FTL** (FreeType): also say in your documentation: "Portions of this software are copyright © The
  FreeType Project (https://freetype.org). All rights reserved."
- **IJG** (libjpeg-turbo): also say in your documentation: "This software is based in part on the
  work of the Independent JPEG Group."
- **LGPL** ({lgpl}): also say that the libraries are used, pass on the texts of the
  [LGPL](https://www.gnu.org/licenses/lgpl-3.0.html) and the
  [GPL](https://www.gnu.org/licenses/gpl-3.0.html), which are not in the wheel, offer the source
  of the libraries, and let others replace them. Each is a file of its own in `pi_heif.libs/`, so
  it can be replaced. `pi_heif-*.dist-info/licenses/LICENSES_bundled.txt` says where the sources
  are.

A licence of code is no licence of patents. HEIC images are compressed with HEVC, which is patented
in some countries. If this concerns you, do not let users upload HEIC.

## The command

The wheel of `image-pipeline` has no library of others in it. pip or uv installs these, each with
its own licence:
"""

app = new_app()


@app.command()
def licences(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
) -> None:
    """Write the licences of what ships to a file.

    **Example**

    `make licences`
    """
    path.write_text(markdown(), encoding="utf-8")


def markdown() -> str:
    """Return the page. Raises CommandError for a licence that is not known, or that is refused."""
    required = pinned(ROOT / "lambda" / "requirements.txt")
    shipped = [_installed(each) for each in required]
    crates: dict[str, Counter[str]] = {
        canonicalize_name(each.name): found for each in shipped if (found := crate_licences(each))
    }
    textless: list[str] = [
        canonicalize_name(each.name) for each in shipped if not _licence_files(each)
    ]
    textless += [name for each in shipped for name in UNNAMED.get(canonicalize_name(each.name), ())]
    lgpl = [name for each in shipped for name, it in bundled(each) if it.startswith("LGPL")]
    return "\n".join(
        [
            INTRODUCTION,
            "| Library | Version | Licence | In its wheel |",
            "|---|---|---|---|",
            *map(_row, required, shipped),
            "",
            CRATES.format(packages=", ".join(crates)),
            *_crate_table(crates),
            "",
            ASKED.format(
                lgpl=", ".join(lgpl),
                missing=f", except those of {', '.join(textless)}" if textless else "",
            ),
            "| Library | Licence |",
            "|---|---|",
            *(
                f"| {canonicalize_name(each.name)} | {licence(each)} |"
                for each in command_dependencies()
            ),
            "",
        ]
    )


def pinned(requirements: Path) -> list[Requirement]:
    """Return the packages of a compiled requirements file."""
    lines = requirements.read_text(encoding="utf-8")
    return [Requirement(found) for found in re.findall(r"^(\w.+?==.+?) ?\\?$", lines, re.MULTILINE)]


def architectures(requirement: Requirement) -> list[str]:
    """Return the architectures of Lambda on which a package is installed."""
    return [
        name
        for machine, name in ARCHITECTURES.items()
        if not requirement.marker
        or requirement.marker.evaluate({"sys_platform": "linux", "platform_machine": machine})
    ]


def licence(distribution: Distribution) -> str:
    """Return the licence of a package as an SPDX expression.

    Raises CommandError where neither its metadata nor READ names one, or where it is refused.
    """
    metadata = distribution.metadata
    classifiers = [
        CLASSIFIERS.get(each.rpartition(" :: ")[2], "")
        for each in metadata.get_all("Classifier", [])
        if each.startswith("License ::")
    ]
    candidates = (
        READ.get(canonicalize_name(distribution.name)),
        metadata.get("License-Expression"),
        metadata.get("License"),
        *(classifiers if len(classifiers) == 1 else ()),
    )
    for each in candidates:
        if each and (known := _spdx(each)):
            return _allowed(known, distribution.name)
    raise CommandError(
        f"The metadata of {distribution.name} {distribution.version} name no SPDX licence. "
        "Read its licence file, and add it to READ in tools/licences.py."
    )


def bundled(distribution: Distribution) -> list[tuple[str, str]]:
    """Return name and SPDX licence of each native library that a wheel says that it contains.

    Raises CommandError if BUNDLED has other libraries than the wheel's licence files.
    """
    table = BUNDLED.get(canonicalize_name(distribution.name), {})
    named = set(_named_in_licence_files(distribution))
    if named != table.keys():
        raise CommandError(
            f"The licence files of {distribution.name} {distribution.version} have other libraries "
            f"than BUNDLED in tools/licences.py: {', '.join(sorted(named ^ table.keys()))}."
        )
    found = [*table.values(), *UNNAMED.get(canonicalize_name(distribution.name), {}).items()]
    return [(name, _allowed(it, name)) for name, it in found]


def crate_licences(distribution: Distribution) -> Counter[str]:
    """Return SPDX licence → number of Rust crates, from the SBOMs in a wheel.

    Raises CommandError for a crate whose licence is missing or refused.
    """
    found: Counter[str] = Counter()
    for file in distribution.files or ():
        if "sboms" not in file.parts:
            continue
        for component in json.loads(file.read_text()).get("components", ()):
            if component.get("purl", "").startswith("pkg:cargo/"):
                (stated,) = component.get("licenses") or [{}]
                known = _spdx(stated.get("expression") or stated.get("license", {}).get("id", ""))
                if not known:
                    raise CommandError(
                        f"The SBOM of {distribution.name} has no licence of {component['name']}."
                    )
                found[_allowed(known, component["name"])] += 1
    return found


def command_dependencies() -> list[Distribution]:
    """Return the packages that the command needs on this system, and what these need, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: dict[str, Distribution] = {}
    waiting = [Requirement(each) for each in project["dependencies"]]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found[name] = importlib.metadata.distribution(name)
        waiting += map(Requirement, found[name].requires or ())
    return [each for _, each in sorted(found.items())]


def allows(expression: str, refused: re.Pattern[str]) -> bool:
    """Return whether an SPDX expression can be satisfied without a licence that matches."""
    words = re.sub(
        r"[\w.+-]+(?: WITH [\w.+-]+)?",
        lambda found: (
            found[0].lower() if found[0] in ("AND", "OR") else str(not refused.match(found[0]))
        ),
        expression,
    )
    return _holds(ast.parse(words, mode="eval").body)


def _holds(node: ast.AST) -> bool:
    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            return all(map(_holds, values))
        case ast.BoolOp(values=values):
            return any(map(_holds, values))
        case ast.Constant(value=bool(value)):
            return value
    raise ValueError(f"{ast.unparse(node)} is no SPDX expression.")


def _allowed(expression: str, name: str) -> str:
    if not allows(expression, REFUSED):
        raise CommandError(f"{name} is under {expression}, which must not ship with the function.")
    return expression


def _spdx(text: str) -> str | None:
    try:
        return canonicalize_license_expression(text)
    except InvalidLicenseExpression:
        return None


def _installed(requirement: Requirement) -> Distribution:
    distribution = importlib.metadata.distribution(requirement.name)
    if not requirement.specifier.contains(distribution.version):
        raise CommandError(
            f"{requirement.name} {distribution.version} is installed, not "
            f"{requirement.specifier}. Run `make setup`."
        )
    return distribution


def _licence_files(distribution: Distribution) -> list[importlib.metadata.PackagePath]:
    return [each for each in distribution.files or () if "licenses" in each.parts]


def _named_in_licence_files(distribution: Distribution) -> Iterator[str]:
    """Yield what licence files have as a heading, and the folders with a licence of their own."""
    for file in _licence_files(distribution):
        text = file.read_text()
        yield from re.findall(r"^Name: (\S+)$", text, re.MULTILINE)
        yield from re.findall(r"^----\n\n([A-Z][A-Z0-9]+)$", text, re.MULTILINE)
    for file in distribution.files or ():
        if file.name == "LICENSE" and ".dist-info" not in file.parts[0]:
            yield file.parent.name


def _row(requirement: Requirement, distribution: Distribution) -> str:
    inside = [f"{name} ({it})" for name, it in bundled(distribution)]
    if number := crate_licences(distribution).total():
        inside.append(f"{number} [Rust crates](#rust-crates)")
    where = architectures(requirement)
    only = "" if len(where) == len(ARCHITECTURES) else f" ({' and '.join(where)} only)"
    cells = (
        canonicalize_name(distribution.name),
        f"{distribution.version}{only}",
        licence(distribution),
        ", ".join(inside),
    )
    return f"| {' | '.join(cells)} |"


def _crate_table(crates: dict[str, Counter[str]]) -> Iterator[str]:
    yield f"| Licence | {' | '.join(crates)} |"
    yield f"|---|{'---:|' * len(crates)}"
    total = sum(crates.values(), Counter[str]())
    for name, _ in sorted(total.items(), key=lambda each: (-each[1], each[0])):
        yield f"| {name} | {' | '.join(str(each[name] or '') for each in crates.values())} |"


if __name__ == "__main__":
    run_app(app)
