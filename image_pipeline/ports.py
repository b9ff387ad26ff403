"""Ports of the loopback interface, where everything that runs on this machine listens."""

import os
import socket
from typing import Final

from image_pipeline.errors import CommandError

HOST: Final = "127.0.0.1"
"""The address that servers listen on: other machines cannot reach it."""

MAX_PORT: Final = 65_535
"""RFC 9293, 3.1: a port has 16 bits."""


def listening(port: int) -> socket.socket:
    """Listen on `port`, a number from 0 to 65535. Raises CommandError if that is not possible."""
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise CommandError(
            f"Port {port} is not available ({reason}). Choose another one with --port."
        ) from error


def check_port(port: int) -> None:
    """Raise CommandError unless a server can listen on `port`, a number from 0 to 65535."""
    listening(port).close()


def free_port() -> int:
    """A port that nothing listens on."""
    (port,) = free_ports(1)
    return port


def free_ports(count: int) -> list[int]:
    """`count` different ports that nothing listens on."""
    servers = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports: list[int] = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


def preferred_port(port: int) -> int:
    """`port` where a server can listen on it, else a free one."""
    if port > MAX_PORT:
        return free_port()
    try:
        check_port(port)
    except CommandError:  # taken
        return free_port()
    return port
