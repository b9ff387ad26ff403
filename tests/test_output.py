"""What commands print of names and messages that come from strangers."""

import ast
import copy
import io
import json
import unicodedata
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from rich.text import Text

from image_pipeline.cli import output
from image_pipeline.cli.commands import backfill, dead_letters, replay, status, thumbs, upload
from image_pipeline.cli.output import foreign, json_text, print_error, print_json, visible
from image_pipeline.folders.plan import Plan
from image_pipeline.folders.results import Result
from image_pipeline.folders.results import State as FileState
from image_pipeline.stack.dead_letters import Failure, Reading
from image_pipeline.stack.health import Health, Level, Part
from image_pipeline.stack.uploads import Outcome, State, Thumbnail
from thumbnailer.settings import Settings

HOSTILE = [
    "\x1b]0;title\x07.jpg",
    "\x1b[2J\x1b[H.jpg",
    "\x9b2J.jpg",
    "\x1b[8mhidden\x1b[0m",
    "shown\rforged",
    "a.jpg\n✓ everything is fine",
    "\u202egpj.exe",
    "\u2066isolated\u2069\u200f\u061c",
    "line\u2028separator\x85next",
    "[red]markup[/red] [link=http://evil.example]x[/link]",
    "\\[bold]\\",
    "[/]",
    ":smile:",
    "\udc9b\ud800",
    "\x00\x08\x7f\t",
]
"""Names that set the title, clear the screen, hide text, forge a line, or are markup."""

hostile = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(categories=["Cc", "Cf", "Zl", "Zp", "Lu", "Po", "Ps", "Pe"]), min_size=1),
    st.text(min_size=1),
)

BIDI = {"AL_MARK", "LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


def unsafe(text: str) -> set[str]:
    """The characters of `text` that a terminal may obey, by Unicode's own classes."""
    marks = {"\u061c", "\u200e", "\u200f"}
    return {
        each
        for each in text
        if (unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") and each != "\n")
        or unicodedata.bidirectional(each) in BIDI
        or each in marks
    }


def printed(do: Callable[[], object], width: int = 100) -> str:
    """What `do` prints, on standard output and error, to a terminal of that width."""
    text = io.StringIO()
    before = output.out.width, output.err.width
    output.out.width = output.err.width = width
    try:
        with redirect_stdout(text), redirect_stderr(text):
            do()
    finally:
        output.out.width, output.err.width = before
    return text.getvalue()


def failure(key: str, message: str) -> Failure:
    """A failed upload."""
    return Failure(
        message_id="1",
        body=message,
        bucket="in",
        key=key,
        etag=None,
        error_type="Corrupt" + message,
        error_message=message,
        permanent=True,
        attempts=1,
        sent_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@given(hostile)
@example("".join(HOSTILE))
def test_text_from_outside_is_shown_as_it_is_and_in_one_line(text: str) -> None:
    """Rendered, the markup of any text is that text, with an escape for each control character."""
    shown = visible(text)
    for markup, expected in (
        (foreign(text), shown),
        (f"[bold]{foreign(text)}[/]", shown),
        (f"{foreign(text)}[red]", shown),
        (f"{foreign(text)} x", f"{shown} x"),
    ):
        assert Text.from_markup(markup, emoji=False).plain == expected
    assert not unsafe(shown)
    assert "\n" not in shown
    for each in text:
        assert each in shown or unsafe(each) or each == "\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\r\n\tb", r"a\r\n\tb"),
        ("\x9b\x7f\x00", r"\x9b\x7f\x00"),
        ("\u202eb\u2066", r"\u202eb\u2066"),
        ("\udcff", r"\udcff"),
        ("héllo 日本 🎈👩\u200d🚀", "héllo 日本 🎈👩\u200d🚀"),
    ],
)
def test_a_control_character_is_a_visible_escape(text: str, shown: str) -> None:
    """Each is written as in a string of Python; letters, accents and emoji stay."""
    assert visible(text) == shown


@given(hostile)
def test_nothing_passes_a_console_even_if_it_was_not_marked_as_foreign(text: str) -> None:
    """Printed as text, in a table, as an error or as a title, no control character is left."""
    table = Table("name", title=Text(text))
    table.add_row(Text(text))

    def do() -> None:
        for console in (output.out, output.err):
            console.print(text, markup=False)
            console.print(Text(text), soft_wrap=True)
            console.print(table)
        print_error(text)

    assert not unsafe(printed(do))


def test_a_terminal_still_gets_colours_and_a_progress_bar() -> None:
    """Control codes of Rich's own are not escaped; those in a text between them are."""
    text = io.StringIO()
    console = output.SafeConsole(file=text, force_terminal=True, highlight=False)
    console.print("[bold]x\x1b[2J[/bold]")
    with console.status("doing"):
        pass
    assert "\x1b[1mx\\x1b[2J\x1b[0m" in text.getvalue()
    assert "\x1b[2K" in text.getvalue()
    assert isinstance(output.out, Console)


@given(hostile, hostile)
def test_json_is_the_same_data_without_control_characters(key: str, value: str) -> None:
    """Every reader of JSON gets the exact text, and a terminal gets only escapes."""
    data = {key: value, "list": [value]}
    for text in (json_text(data), printed(lambda: print_json(data))):
        assert not unsafe(text)
        assert json.loads(text) == json.loads(json.dumps(data))
    assert "\n" not in json_text(data)


# --- every command that prints names ------------------------------------------------------------
def fake_stack() -> Any:
    """A stack whose commands need no AWS."""
    counts = SimpleNamespace(
        get_paginator=lambda _: SimpleNamespace(paginate=lambda **_: [{"KeyCount": 1}])
    )
    return SimpleNamespace(
        name="test",
        input_bucket="in",
        settings=Settings("out", "queue"),
        architecture="arm64",
        options="",
        outputs={},
        parameters={},
        aws=SimpleNamespace(s3=counts, sqs=None, location="here", endpoint_url=None),
        live_version=lambda: "1",
    )


def show_dead_letters(text: str, *, as_json: bool, patch: pytest.MonkeyPatch) -> None:
    """Run `dead-letters` with one message."""
    reading = Reading([failure(text, text)], 1, 1)
    patch.setattr(dead_letters, "read_with_progress", lambda *_: reading)
    patch.setattr(dead_letters.targets, "find_stack", lambda **_: fake_stack())
    dead_letters.dead_letters(as_json=as_json, maximum=10)
    dead_letters.dead_letters(as_json=as_json, maximum=10, every=True)


def show_status(text: str, *, as_json: bool, patch: pytest.MonkeyPatch) -> None:
    """Run `status` with one failure, and a part all of whose texts are from outside."""
    s3 = SimpleNamespace(meta=SimpleNamespace(region_name="here"))
    aws = SimpleNamespace(s3=s3, location="here", endpoint_url=None)
    part = Part(Level.ATTENTION, text, (text,), (text,), {"text": text}, (failure(text, text),))
    stack = SimpleNamespace(name="test", aws=aws, outputs={"Version": text})
    found = Health(stack, {"alarms": part})
    patch.setattr(status.targets, "find_subject", lambda **_: None)
    patch.setattr(status.health, "examine", lambda _: found)
    with pytest.raises(typer.Exit):
        status.status(limit=10, stack="test", as_json=as_json)


def show_upload(text: str, *, as_json: bool, patch: pytest.MonkeyPatch) -> None:
    """Run `upload` with an outcome of every state."""
    spec = Settings("out", "queue").specs[0]
    done = Outcome(Path(text), text, 1, (1, 1), state=State.DONE)
    outcomes = [
        copy.replace(done, thumbnails=[Thumbnail(spec, text, 1)]),
        copy.replace(done, state=State.FAILED, failure=failure(text, text)),
        copy.replace(done, state=State.SUPERSEDED, superseded_by=text),
        copy.replace(done, state=State.UNKNOWN),
    ]
    patch.setattr(upload.targets, "find_stack", lambda **_: fake_stack())
    patch.setattr(upload, "upload_and_wait", lambda *_: outcomes)
    with pytest.raises(typer.Exit):
        upload.upload([], as_json=as_json)


def show_thumbs(text: str, *, as_json: bool, patch: pytest.MonkeyPatch) -> None:
    """Print what `thumbs` and `thumbs --watch` print of a file that failed and one with a note."""
    results = [
        Result(Path(text), FileState.FAILED, error_type=text, error_message=text),
        Result(Path(text), FileState.MADE, notes=(text,), stderr=(text,)),
    ]
    patch.setattr(thumbs.thumbnails, "run", lambda *_: iter(results))
    patch.setattr(thumbs.thumbnails, "record_failures", lambda *_: None)
    with Plan(Path(text), Settings("", ""), 512) as plan:
        thumbs._once(plan, Path(text), 1, as_json=as_json, verbose=True)  # noqa: SLF001
    for each in results:
        thumbs._print_result(each, as_json=as_json)  # noqa: SLF001


def show_others(text: str, *, as_json: bool, patch: pytest.MonkeyPatch) -> None:
    """Print the plans of `replay` and `backfill`."""
    del as_json, patch  # they are for people, and need no AWS
    replay.show_plan([failure(text, text)], 1, None, fake_stack())
    stack = fake_stack()
    stack.output = lambda _: "10"
    backfill.show_survey(stack, text, backfill.Survey(), None)


@pytest.mark.parametrize(
    "show", [show_dead_letters, show_status, show_upload, show_thumbs, show_others]
)
@pytest.mark.parametrize("as_json", [False, True])
@given(text=hostile)
@settings(max_examples=30)
def test_no_command_prints_a_control_character(
    show: Callable[..., None], as_json: bool, text: str  # noqa: FBT001 - a parameter of the test
) -> None:
    """Whatever keys, file names and messages are, no terminal obeys them and no line is forged."""
    text = text.replace("\0", "\x01")  # no path has one
    with pytest.MonkeyPatch.context() as patch:
        found = printed(lambda: show(text, as_json=as_json, patch=patch), width=10_000)
    assert not unsafe(found)
    if not as_json and "\n" in text:
        assert not [line for line in found.splitlines() if line == text.splitlines()[-1]]


def test_an_exported_failure_is_its_message(tmp_path: Path) -> None:
    """The file of --export has the exact message, and nothing that a terminal obeys."""
    text = "".join(HOSTILE)
    file = tmp_path / "failures.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        reading = Reading([failure(text, text)], 1, 1)
        patch.setattr(dead_letters, "read_with_progress", lambda *_: reading)
        patch.setattr(dead_letters.targets, "find_stack", lambda **_: fake_stack())
        printed(lambda: dead_letters.dead_letters(export=file, maximum=10))
    (line,) = file.read_text().splitlines()
    assert json.loads(line)["body"] == text
    assert not unsafe(line)


def test_only_the_functions_of_output_print() -> None:
    """No command writes to a terminal by itself. `--version` prints nothing from outside."""
    folder = Path(output.__file__).parent
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if name in ("print", "Console", "typer.echo", "sys.stdout.write", "sys.stderr.write"):
                found.add((path.name, name))
    assert found == {("output.py", "print"), ("app.py", "typer.echo")}
