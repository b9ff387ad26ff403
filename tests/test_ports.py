"""image_pipeline.ports: ports of the loopback interface."""

import socket

import pytest

from image_pipeline.errors import CommandError
from image_pipeline.ports import HOST, check_port, free_port, free_ports, preferred_port


def test_free_ports_are_different_and_free() -> None:
    """A server can listen on each of them."""
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        check_port(port)


def test_a_taken_port_is_refused_and_replaced() -> None:
    """The message names the port and the option; `preferred_port` returns another one."""
    with socket.create_server((HOST, 0)) as server:
        taken = server.getsockname()[1]
        with pytest.raises(CommandError, match=rf"Port {taken} is not available .*--port"):
            check_port(taken)
        assert preferred_port(taken) != taken


def test_a_free_port_is_preferred() -> None:
    """`preferred_port` returns its argument if that is free; no port is larger than 65535."""
    port = free_port()
    assert preferred_port(port) == port
    assert preferred_port(65536) < 65536
