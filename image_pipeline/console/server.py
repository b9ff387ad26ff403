"""Serves the console of a stack on loopback."""

import socket
import threading
from typing import Final

import uvicorn

from image_pipeline.console.app import application
from image_pipeline.stack.deployed import Stack

STOP_SECONDS: Final = 2
"""Time for requests under way when the console is stopped."""


def serve(stack: Stack, listener: socket.socket, secret: str, ended: threading.Event) -> None:
    """Serve the pages of `stack` to whoever has the secret, until a signal or until `ended`."""
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
