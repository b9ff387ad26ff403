"""Options that several commands have."""

from collections.abc import Callable
from typing import Annotated, Final

import typer

LOCAL_PORT: Final = 4566
"""Default port of the local AWS, the one that AWS emulators commonly listen on."""

Port = Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")]
Local = Annotated[bool, typer.Option("--local", help="Use the local stack (the default).")]
StackName = Annotated[
    str | None, typer.Option("--stack", metavar="NAME", help="Use this stack in your AWS account.")
]
Region = Annotated[str | None, typer.Option(help="AWS region, if it is not your default region.")]
Profile = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Profile of your AWS configuration, if not the default."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Wait = Annotated[
    float,
    typer.Option("--wait", metavar="SECONDS", min=1, help="Maximum seconds to wait in each step."),
]
ErrorType = Annotated[
    str | None, typer.Option("--error", metavar="TYPE", help="Only failures with this error type.")
]
KeyPrefix = Annotated[
    str, typer.Option("--prefix", metavar="PREFIX", help="Only keys that begin with this prefix.")
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="DURATION",
        help="Only failures of the last minutes, hours or days, such as 90m, 2h or 3d.",
    ),
]
OlderThan = Annotated[
    str | None,
    typer.Option(
        "--older-than", metavar="DURATION", help="Only failures that are older, such as 2h or 3d."
    ),
]
MaxRead = Annotated[int, typer.Option("--max", min=1, help="Maximum messages to read.")]


def parsed[T](name: str, parse: Callable[[str], T], text: str) -> T:
    """Read the value of the option `name`; where `parse` refuses it, the usage error says why."""
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=name) from None
