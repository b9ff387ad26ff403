"""Ports of the loopback interface, where everything that runs on this machine listens."""

import socket
from typing import Final

from image_pipeline.errors import CommandError

HOST: Final = "127.0.0.1"
"""The address that servers listen on: other machines cannot reach it."""


def check_port(port: int) -> None:
    """Raise CommandError unless a server can listen on `port`, a number from 0 to 65535."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise CommandError(
                f"Port {port} is not available ({error.strerror}). Choose another one with --port."
            ) from error


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
    try:
        check_port(port)
    except (CommandError, OverflowError):  # taken, or larger than any port
        return free_port()
    return port
