"""Writes docs/commands.md: the help of every command, as Markdown."""

from pathlib import Path
from typing import Annotated

import typer
from typer.cli import get_docs_for_click

from image_pipeline.cli.app import LazyCommand, command_line, new_app, run_app
from image_pipeline.cli.version import NAME

app = new_app()


@app.command()
def command_docs(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
) -> None:
    """Write the help of `image-pipeline` and of all its commands to a file.

    **Example**

    `make commands`
    """
    path.write_text(markdown())


def markdown() -> str:
    """The help of the group and of all its commands, in the form that Typer has for it."""
    group = command_line()
    for name, command in group.commands.items():
        if isinstance(command, LazyCommand):
            group.commands[name] = command.load()
    context = typer.Context(group, info_name=NAME, **group.context_settings)
    docs = get_docs_for_click(obj=group, ctx=context, name=NAME, title="Commands")
    return f"{docs.strip()}\n"


if __name__ == "__main__":
    run_app(app)
