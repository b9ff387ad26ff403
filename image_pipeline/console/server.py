"""Serves the console of a stack on loopback."""

import socket
import threading
from typing import Final

import uvicorn

from image_pipeline.console.app import application
from image_pipeline.stack.deployed import Stack

STOP_SECONDS: Final = 2
"""Time for requests under way when the console is stopped."""


def serve(
    stack: Stack,
    listener: socket.socket,
    key: str,
    ended: threading.Event,
    site: str | None = None,
) -> None:
    """Serve the pages of `stack` until a signal or until `ended`; `key` signs addresses.

    The pages link to `site`, which shows thumbnails of the stack, if there is one.
    """
    server = uvicorn.Server(
        uvicorn.Config(
            application(stack, listener.getsockname()[1], key, site),
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
