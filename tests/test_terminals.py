"""Whatever standard output and error are: a pipe that ends, another encoding, narrow, or closed."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from home import COMMAND, Home
from test_output import printed

from image_pipeline.cli import output, streams
from image_pipeline.cli.app import COMMANDS, MIN_BOXES
from image_pipeline.cli.tables import Table

PRINTING = """
import sys
from image_pipeline.cli import output
from image_pipeline.cli.app import run_app
from image_pipeline.cli.tables import Table

def table():
    shown = Table("name")
    for number in range(5000):
        shown.add_row(f"row {number}")
    output.out.print(shown)

def data():
    output.print_json([{"row": number} for number in range(50_000)])

def messages():
    for number in range(5000):
        output.err.print(f"row {number}")
    output.print_json({"done": True})

def line():
    output.print_json({})

run_app({"table": table, "json": data, "messages": messages, "line": line}[sys.argv[1]])
"""
"""Prints more than a pipe holds, or one line, as a command does."""


def first_line(what: str, stream: str) -> tuple[int, str, str]:
    """Read one line of a stream and close it; the exit code, that line, and the other stream."""
    with subprocess.Popen(  # noqa: S603 - our own code
        [sys.executable, "-c", PRINTING, what],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        read, other = process.stdout, process.stderr
        if stream == "stderr":
            read, other = other, read
        assert read
        assert other
        line = read.readline() if what != "line" else ""
        read.close()
        rest = other.read()
    return process.returncode, line, rest


@pytest.mark.parametrize("what", ["table", "json", "line"])
def test_a_reader_of_results_may_end_early(what: str) -> None:
    """`| head -1` of a large table or of JSON, or `| true`: exit code 0, and no message."""
    code, _, rest = first_line(what, "stdout")
    assert (code, rest) == (0, "")


def test_a_command_goes_on_without_a_reader_of_its_messages() -> None:
    """`2> >(head -1)` does not stop the work: the result is whole."""
    code, line, rest = first_line("messages", "stderr")
    assert (code, line, json.loads(rest)) == (0, "row 0\n", {"done": True})


def test_both_streams_may_be_closed() -> None:
    """`2>&-` and `>&-`: the exit code is the same, and nothing fails for it."""
    words = ["/bin/sh", "-c", '"$0" thums >&- 2>&-', str(COMMAND)]
    assert subprocess.run(words, check=False).returncode == 2  # noqa: S603 - the command


def encoded(encoding: str, monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """Standard output and error in an encoding, prepared as at the start of a command."""
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding, write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    streams.prepare()
    return written


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", r"-> ... x - + x \xe9 \u65e5 *"),
        ("latin-1", r"-> ... × · + x é \u65e5 *"),
        ("utf-8", "→ … × · ✓ ✗ é 日 ⠋"),
    ],
)
def test_any_encoding_shows_any_text(
    encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it does not have is replaced by what looks alike, or by an escape."""
    written = encoded(encoding, monkeypatch)
    output.out.print("→ … × · ✓ ✗ é 日 ⠋", markup=False)
    output.print_error("é")
    first, second = written.getvalue().decode(encoding).splitlines()
    assert first == shown
    assert second.startswith("Error: ")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_is_the_same_data_in_any_encoding(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the encoding does not have is escaped, not replaced."""
    written = encoded(encoding, monkeypatch)
    data = {"key": "é → 日 🎈 \x1b\udc9b"}
    output.print_json(data)
    assert json.loads(written.getvalue().decode(encoding)) == data


def test_a_table_is_drawn_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no lines to draw with."""
    written = encoded("ascii", monkeypatch)
    table = Table("a")
    table.add_row("b")
    output.out.print(table)
    assert "|" in written.getvalue().decode()
    assert "\\u" not in written.getvalue().decode()


def test_a_narrow_table_cuts_nothing() -> None:
    """At 40 columns numbers and names go on in the next line."""
    table = Table("image", "pixels", "bytes", "saved")
    table.add_row("uploads/a-long-name-of-a-photo.jpg", "12000 x 12000", "1,234,567,890", "100%")
    text = printed(lambda: output.out.print(table), width=40)
    assert "…" not in text
    columns = [line.strip("│┃").split("│") for line in text.splitlines() if "│" in line]
    whole = ["".join(column).replace(" ", "") for column in zip(*columns, strict=True)]
    assert whole == ["uploads/a-long-name-of-a-photo.jpg", "12000x12000", "1,234,567,890", "100%"]
    assert max(map(len, text.splitlines())) <= 40


@pytest.mark.parametrize(("variable", "coloured"), [("", True), ("1", False)])
def test_no_color_is_honoured(
    variable: str, coloured: bool, monkeypatch: pytest.MonkeyPatch  # noqa: FBT001
) -> None:
    """With the variable NO_COLOR a terminal gets no colours (https://no-color.org)."""
    monkeypatch.setenv("NO_COLOR", variable)
    monkeypatch.setenv("TERM", "xterm-256color")
    text = io.StringIO()
    output.SafeConsole(file=text, force_terminal=True).print("[red]x[/]")
    assert ("\x1b[31m" in text.getvalue()) == coloured


@pytest.mark.parametrize("columns", [MIN_BOXES, 40])
def test_help_shows_every_option_whole(
    columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In boxes from MIN_BOXES columns on; in a narrower terminal as plain text."""
    monkeypatch.setattr(Home, "environment", {"COLUMNS": str(columns)})
    for name in COMMANDS:
        text = Home(tmp_path, 0).run(name, "--help").stdout
        assert ("│" in text) == (columns == MIN_BOXES)
        assert "…" not in "".join(line for line in text.splitlines() if "--" in line), name


# --- completion ---------------------------------------------------------------------------------
COMPLETED = """
import os, sys
from image_pipeline.cli import main
try:
    main()
finally:
    print(*{"boto3", "PIL"} & set(sys.modules), file=sys.stderr)
"""


def complete(words: str) -> tuple[list[str], str]:
    """What bash gets for the last of the words, and what was imported of what takes long."""
    variables = {
        "_IMAGE_PIPELINE_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    script = "import sys; sys.argv = ['image-pipeline']\n" + COMPLETED
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", script],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split(), done.stderr.strip()


def test_commands_are_completed_at_once() -> None:
    """None is imported for it."""
    assert complete("image-pipeline re") == (["replay", "record"], "")


def test_options_of_a_command_are_completed() -> None:
    """The command itself is imported for them."""
    found, _ = complete("image-pipeline status --pro")
    assert found == ["--profile"]


def test_completion_is_installed(tmp_path: Path) -> None:
    """For bash: a script in the user's home that bash can read, named in .bashrc."""
    done = subprocess.run(  # noqa: S603 - the command under test
        [COMMAND, "--install-completion", "bash"],
        env=os.environ
        | {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (script,) = tmp_path.glob(".bash_completions/*")
    assert str(script) in (tmp_path / ".bashrc").read_text()
    checked = subprocess.run(["/bin/bash", "-n", script], check=False)  # noqa: S603 - a shell
    assert checked.returncode == 0
