"""docs/licences.md: what ships, and under which licences."""

import importlib.metadata
import json
import platform
import re
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from packaging.licenses import canonicalize_license_expression

from image_pipeline.errors import CommandError
from tools import licences

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")

READ_HERE = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="the page was read in the wheels of this platform",
)

PARTS = {"openjp": "openjpeg", "sharpyuv": "webp"}
"""Shared libraries whose name does not begin with that of their project."""


def wheel(folder: Path, files: dict[str, str] | None = None, **metadata: str) -> Distribution:
    """Install a package `sample` with this metadata and these files in its dist-info."""
    info = folder / "sample-1.0.dist-info"
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in metadata.items()]
    content = {"METADATA": "\n".join(["Name: sample", "Version: 1.0", *lines, ""])} | (files or {})
    for name, text in content.items():
        path = info / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    record = "".join(f"{info.name}/{name},,\n" for name in content)
    (info / "RECORD").write_text(record, encoding="utf-8")
    return Distribution.at(info)


def sbom(*expressions: str) -> dict[str, str]:
    """The SBOM of a wheel with Rust crates of these licences."""
    components = [
        {"name": "crate", "purl": "pkg:cargo/crate@1", "licenses": [{"expression": each}]}
        for each in expressions
    ]
    return {"sboms/sample.cyclonedx.json": json.dumps({"components": components})}


def test_the_page_lists_what_the_function_ships() -> None:
    """Each package of lambda/requirements.txt is on the page with its version, and no other."""
    table = PAGE.partition("## The function\n")[2].partition("\n## ")[0]
    listed = dict(re.findall(r"^\| ([\w.-]+) \| (\d[^|]*) \|", table, re.MULTILINE))
    shipped = {each.name: each for each in licences.pinned(ROOT / "lambda" / "requirements.txt")}
    assert listed.keys() == shipped.keys()
    for name, text in listed.items():
        version, _, only = text.partition(" ")
        assert shipped[name].specifier == f"=={version}"
        assert (only == "(x86-64 only)") == (licences.architectures(shipped[name]) == ["x86-64"])


@READ_HERE
def test_the_page_is_what_the_wheels_say() -> None:
    """docs/licences.md is written from what is installed, and never by hand."""
    assert licences.markdown() == PAGE, "run `make licences`"


@READ_HERE
@pytest.mark.parametrize("package", ["pi-heif", "pillow"])
def test_every_shared_library_in_a_wheel_has_a_licence(package: str) -> None:
    """Those in the folder beside a package are those that its licence files name."""
    named = [
        re.sub(r"^lib|\d+$", "", each.lower())
        for heading, (name, _) in licences.BUNDLED[package].items()
        for each in (heading, name)
    ]
    files = importlib.metadata.distribution(package).files or ()
    shared = {
        found[1].lower()
        for each in files
        if each.parts[0].endswith(".libs") and (found := re.match(r"lib([a-zA-Z]+)", each.name))
    }
    assert shared
    assert [each for each in shared if not PARTS.get(each, each).startswith(tuple(named))] == []


def test_the_table_of_native_libraries_has_valid_licences() -> None:
    """Each is an SPDX expression, in the spelling of SPDX."""
    for table in licences.BUNDLED.values():
        for _, expression in table.values():
            assert canonicalize_license_expression(expression) == expression


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("LGPL-3.0-or-later", True),
        ("GPL-2.0-only", False),
        ("AGPL-3.0-only WITH Classpath-exception-2.0", False),
        ("MIT OR GPL-2.0-only", True),
        ("MIT AND GPL-2.0-only", False),
        ("(MIT OR Apache-2.0) AND GPL-3.0-only", False),
        ("ISC AND (Apache-2.0 WITH LLVM-exception OR GPL-3.0-only)", True),
    ],
)
def test_a_licence_is_refused_only_where_there_is_no_other_choice(
    tmp_path: Path, expression: str, *, allowed: bool
) -> None:
    """The GPL and the AGPL stop `make licences`, in a package and in a crate."""
    sample = wheel(tmp_path, sbom(expression), License_Expression=expression)
    if allowed:
        assert licences.licence(sample) == expression
        assert licences.crate_licences(sample) == {expression: 1}
    else:
        with pytest.raises(CommandError, match=r"sample is under .*, which must not ship"):
            licences.licence(sample)
        with pytest.raises(CommandError, match=r"crate is under .*, which must not ship"):
            licences.crate_licences(sample)


def test_an_unknown_licence_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    """Nothing is guessed: a package, a native library and a crate without a licence stop it."""
    text = "Name: libother\nLicense: LGPLv3\n\n----\n\nNEWLIB\n\nCopyright"
    sample = wheel(tmp_path, sbom("") | {"licenses/LICENSE": text}, License="Custom")
    with pytest.raises(CommandError, match=r"sample 1\.0 name no SPDX licence.* add it to READ"):
        licences.licence(sample)
    with pytest.raises(CommandError, match=r"other libraries than BUNDLED .*: NEWLIB, libother"):
        licences.bundled(sample)
    with pytest.raises(CommandError, match=r"The SBOM of sample has no licence of crate"):
        licences.crate_licences(sample)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"License": "MIT"}, "MIT"),
        ({"Classifier": "License :: OSI Approved :: MIT License"}, "MIT"),
        ({"License_Expression": "ISC", "License": "MIT"}, "ISC"),
    ],
)
def test_a_licence_is_read_where_a_package_has_it(
    tmp_path: Path, metadata: dict[str, str], expected: str
) -> None:
    """In its SPDX field, in the older field, or in its only classifier."""
    assert licences.licence(wheel(tmp_path, **metadata)) == expected
