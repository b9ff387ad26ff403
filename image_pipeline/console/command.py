"""The `console` command: serve the pages of a stack on loopback, and open them."""

import os
import secrets
import socket
import sys
import threading
import time
import webbrowser
from typing import Annotated, Final

import typer

from image_pipeline.cli.common import (
    Local,
    Name,
    Region,
    app,
    chosen,
    err,
    out,
    stopped_by_signals,
    where,
)
from image_pipeline.console.process import SECRET_VARIABLE, ConsoleProcess, address
from image_pipeline.errors import CommandError
from image_pipeline.local.stack import LocalStack
from image_pipeline.ports import HOST, preferred_port
from image_pipeline.stack.deployed import Stack

DEFAULT_PORT: Final = 4567
LOOK_SECONDS: Final = 1.0
"""Between two looks whether the local stack is still there."""

STOP_SECONDS: Final = 2
"""For requests under way, when the console is stopped."""


@app.command()
def console(
    *,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port on 127.0.0.1; without it 4567, or any that is free."
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page, where there is a screen.")
    ] = True,
    local: Local = False,
    stack: Name = None,
    region: Region = None,
) -> None:
    """Open a web page of a stack: uploads, images, dead letters, figures.

    It listens on this machine alone, until Ctrl-C, and acts with your own AWS credentials: the
    secret in its address keeps others out. The local stack has its own one, which
    `image-pipeline up` starts; without --port that is opened.

    **Examples**

    `image-pipeline console`

    `image-pipeline console --stack my-pipeline --region eu-west-1 --port 8080`
    """
    target = chosen(local=local, name=stack, region=region)
    if not stack and port is None and (url := ConsoleProcess(LocalStack().directory).url):
        out.print(f"The console of the local stack is on [bold]{url}[/]", soft_wrap=True)
        if browser:
            open_page(url)
        return
    secret = os.environ.get(SECRET_VARIABLE) or secrets.token_urlsafe()
    with (
        stopped_by_signals(),
        listening(preferred_port(DEFAULT_PORT) if port is None else port) as listener,
    ):
        url = address(listener.getsockname()[1], secret)
        out.print(
            f"[bold green]{target.name}[/] {where(target)} is on [bold]{url}[/]", soft_wrap=True
        )
        err.print("Stop it: Ctrl-C")
        if browser:
            open_page(url)
        ended = threading.Event()
        if not stack:
            threading.Thread(target=_watch_local_stack, args=(ended,), daemon=True).start()
        try:
            serve(target, listener, secret, ended)
            err.print("The local stack has ended, and its console with it.")
        except KeyboardInterrupt:
            err.print("\nStopped.")


def open_page(url: str) -> None:
    """Open a page where somebody looks at a screen: a browser in a terminal would be in the way."""
    screen = sys.platform == "darwin" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if screen and err.is_terminal:
        webbrowser.open(url)


def listening(port: int) -> socket.socket:
    """Listen on `port` of loopback. Raises CommandError if it is taken."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise CommandError(
            f"Port {port} cannot be used ({error.strerror}): another program has it. "
            "Choose another one, or leave --port out."
        ) from error
    return listener


def serve(stack: Stack, listener: socket.socket, secret: str, ended: threading.Event) -> None:
    """Serve the pages of `stack` to who has the secret, until a signal, or until `ended` is set."""
    import uvicorn  # noqa: PLC0415 - the other commands start without a web server

    from image_pipeline.console.app import application  # noqa: PLC0415 - likewise

    server = uvicorn.Server(
        uvicorn.Config(
            application(stack, listener.getsockname()[1], secret),
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
    )

    def end() -> None:
        ended.wait()
        server.should_exit = True

    threading.Thread(target=end, daemon=True).start()
    server.run(sockets=[listener])


def _watch_local_stack(ended: threading.Event) -> None:
    while LocalStack().server():
        time.sleep(LOOK_SECONDS)
    ended.set()
