"""`image-pipeline console`."""

import os
import threading
import time
from functools import partial
from typing import Annotated, Final

import typer

from image_pipeline.cli import targets
from image_pipeline.cli.browser import open_page
from image_pipeline.cli.options import Local, Profile, Region, StackName
from image_pipeline.cli.output import err, out
from image_pipeline.cli.signals import stopped_by_signals
from image_pipeline.console.process import KEY_VARIABLE, ConsoleProcess
from image_pipeline.console.session import new_address, new_key
from image_pipeline.local import site
from image_pipeline.local.stack import LocalStack
from image_pipeline.ports import listening, preferred_port

DEFAULT_PORT: Final = 4567
POLL_SECONDS: Final = 1.0
"""Seconds between two checks whether the local stack is still running."""


def console(  # noqa: PLR0913 - options of a command
    *,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port on 127.0.0.1. The default is 4567, or a free one."
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the console in your browser.")
    ] = True,
    local: Local = False,
    stack: StackName = None,
    region: Region = None,
    profile: Profile = None,
) -> None:
    """Open the web console of a stack: uploads, images, failures, metrics.

    The console runs until Ctrl-C. It listens on this machine only, and uses your own AWS
    credentials. Its address contains a secret, so that no other user can open it. An address works
    once, in one tab: run the command again for a new one.

    `image-pipeline up` starts a console for the local stack. Without --port, this command opens
    that one.

    **Examples**

    `image-pipeline console`

    `image-pipeline console --stack my-pipeline --region eu-west-1 --port 8080`
    """
    target = targets.find_stack(local=local, name=stack, region=region, profile=profile)
    running = ConsoleProcess(LocalStack().directory)
    if not stack and port is None and (url := running.url):
        out.print(f"The console of the local stack is at [bold]{url}[/]", soft_wrap=True)
        if browser:
            open_page(running.url or url)
        return
    # A web server takes time to import, and opening the page of another one needs none.
    from image_pipeline.console.server import serve  # noqa: PLC0415

    given = os.environ.get(KEY_VARIABLE)
    key = given or new_key()
    with (
        stopped_by_signals(),
        listening(preferred_port(DEFAULT_PORT) if port is None else port) as listener,
    ):
        address = partial(new_address, listener.getsockname()[1], key)
        if not given:  # `up` prints the address of a console that it starts, and logs its output
            out.print(
                f"[bold green]{target.name}[/] {target.aws.location} is at [bold]{address()}[/]",
                soft_wrap=True,
            )
        err.print("Stop it: Ctrl-C")
        if browser:
            open_page(address())  # one of its own, so that the printed one can still be used
        ended = threading.Event()
        if not stack:
            threading.Thread(target=_watch_local_stack, args=(ended,), daemon=True).start()
        try:
            serve(target, listener, key, ended, None if stack else site.find(target.aws))
            err.print("The local stack has ended, and its console with it.")
        except KeyboardInterrupt:
            err.print("\nStopped.")


def _watch_local_stack(ended: threading.Event) -> None:
    while LocalStack().server():
        time.sleep(POLL_SECONDS)
    ended.set()
