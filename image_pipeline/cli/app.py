"""The command group, whose commands are imported when they are needed.

`image-pipeline --help` and `--version` import none of them, and so neither boto3 nor Pillow.
"""

import gc
import importlib
import keyword
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from shutil import get_terminal_size
from typing import Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from image_pipeline.cli import streams
from image_pipeline.errors import CommandError, PartFailed

PURPOSE: Final = (
    "Make thumbnails of the images in an S3 bucket. Try it on this machine, or use a deployed "
    "stack."
)

MIN_BOXES: Final = 78
"""Columns of a terminal from which on Typer's help shows every option whole. A measurement,
which a test repeats."""

COMMANDS: Final = {
    "thumbs": "Make thumbnails of local files, without AWS.",
    "demo": "See it work: upload sample images to a local stack and show the results.",
    "up": "Start a local AWS, build the function, deploy the stack, and open its console.",
    "down": "Stop the local stack and delete everything in it, its buckets included.",
    "upload": "Upload images, wait for the results, and show the thumbnails or the errors.",
    "status": "Show the state of every part of a stack, and the latest failures.",
    "console": "Open the web console of a stack: uploads, images, failures, metrics.",
    "dead-letters": "Show the uploads that failed, and why. The messages stay on the queue.",
    "discard": "Delete dead-letter messages that no replay can help, after a copy of them.",
    "replay": "Process failed uploads again, and delete the messages of those that succeed.",
    "backfill": "Make the thumbnails that are missing or were made with other settings.",
    "try": "Compare other sizes, formats and qualities with the current ones, on your own images.",
    "prune": "Delete thumbnails whose original is gone, or that earlier settings made.",
    "deploy": "Build the function, deploy the stack to your AWS account, and test it.",
    "package": "Package the stack for a deploy without its sources: a template and zips.",
    "adopt-bucket": "Prepare an existing bucket for a stack with ExistingInputBucket=true.",
    "cost": "Estimate the cost of processing images with a stack's memory, sizes and formats.",
    "smoke": "Check that a stack works, with an image and a broken file.",
    "verify": "Prove that a stack works, step by step: events, retries, replay, backfill, alarms.",
    "record": "Save the deployed template and parameters, so that they can be deployed again.",
}
"""Command → the first line of its help, which is all that `image-pipeline --help` shows of it.

Command `dead-letters` is the function `dead_letters` in the module `commands/dead_letters.py`: see
`python_name`.
"""


WORK: Final = {"thumbs": "image_pipeline.folders.thumbnails"}
"""Command that works in several processes → the module that these import.

They start before pydantic and the command are imported, which takes longer, so that both cores are
used."""

NO_WORK: Final = {"--help", "-h", "--dry-run", "--prune"}
"""Options with which such a command starts no processes."""


def python_name(command: str) -> str:
    """Return the name of a command's module and function. A keyword gets an underscore."""
    name = command.replace("-", "_")
    return f"{name}_" if keyword.iskeyword(name) else name


class StackCommand(TyperCommand):
    """A command that names `status`, with its own options, where a part of the stack failed."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises CommandError."""
        gc.enable()  # `main` has disabled it for the start
        try:
            return super().invoke(ctx)
        except PartFailed as error:
            if self.name == "status" or "stack" not in ctx.params:
                raise
            given = {name: ctx.params.get(name) for name in ("stack", "region", "profile")}
            options = "".join(
                f" --{name} {shlex.quote(each)}" for name, each in given.items() if each
            )
            raise CommandError(
                f"{error} See the state of every part: image-pipeline status{options}"
            ) from error


class LazyCommand(TyperCommand):
    """A command of COMMANDS that is imported when it is invoked, or asked for its own help."""

    def __init__(self, name: str, summary: str) -> None:
        super().__init__(name, help=summary)
        self._summary = summary

    def make_context(self, *given: Any, **more: Any) -> Any:
        """The context of the real command, which the group then invokes."""
        return self.load().make_context(*given, **more)

    def load(self) -> TyperCommand:
        """Import the real command."""
        assert self.name  # noqa: S101 - __init__ sets it
        name = python_name(self.name)
        module = importlib.import_module(f"image_pipeline.cli.commands.{name}")
        app = new_app()
        app.command(self.name, short_help=self._summary, cls=StackCommand)(getattr(module, name))
        command = get_command(app)
        assert isinstance(command, TyperCommand)  # noqa: S101 - an app of one command is that one
        return command


def start_workers(words: Sequence[str]) -> None:
    """Start the processes in which the command of these words works, if it is one of WORK."""
    if words and words[0] in WORK and not NO_WORK & {*words}:
        from image_pipeline.folders.workers import start_server  # noqa: PLC0415 - see WORK

        start_server(WORK[words[0]])


def command_line() -> TyperGroup:
    """Make the group `image-pipeline`, none of whose commands is imported yet."""
    app = new_app(PURPOSE, completion=True)
    app.callback()(_group_options)
    group = get_command(app)
    assert isinstance(group, TyperGroup)  # noqa: S101 - an app with a callback is one
    for name, summary in COMMANDS.items():
        group.add_command(LazyCommand(name, summary))
    return group


def new_app(purpose: str | None = None, *, completion: bool = False) -> typer.Typer:
    """Make an empty command line with the settings that all programs of this project share.

    With `completion` it has the options that complete it in a shell.
    """
    return typer.Typer(
        help=purpose,
        no_args_is_help=True,
        add_completion=completion,
        # Typer's boxes cut the names of options in a narrow terminal; its plain help does not.
        rich_markup_mode=("markdown" if get_terminal_size().columns >= MIN_BOXES else None),
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def run_app(app: Callable[[], object]) -> None:
    """Run a command line on `sys.argv`, and exit with its exit code.

    A CommandError or an error of the file system is printed as one message, with exit code 1. If
    the reader of a pipe ends early, as in `| head`, the command ends quietly with 0.
    """
    streams.prepare()
    # The command reads no more than an image's header. By its text, for Pillow is not imported yet.
    warnings.filterwarnings("ignore", r"Image size .* decompression bomb", RuntimeWarning)
    try:
        app()
    except CommandError as error:
        _fail(str(error))
    except SystemExit as left:
        if isinstance(left.__context__, BrokenPipeError):  # Typer, or Rich, exits with 1
            raise SystemExit(0) from None
        raise
    except OSError as error:  # a file or folder of the user's: AWS's errors are CommandErrors
        _fail(f"{error.strerror}: {error.filename}")
    finally:
        streams.flush()


def _fail(message: str) -> NoReturn:
    from image_pipeline.cli.output import print_error  # noqa: PLC0415 - `--version` prints none

    print_error(message)
    sys.exit(1)


def _print_version(asked: bool) -> None:  # noqa: FBT001 - Typer passes the flag's value
    if asked:
        from image_pipeline.cli.version import version  # noqa: PLC0415 - only --version needs it

        typer.echo(version())
        raise typer.Exit


def _group_options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    del version  # its callback has printed it
