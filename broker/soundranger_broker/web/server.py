"""The server: the web application on a port, in a thread of its own."""

import errno
import socket
import threading
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from soundranger_node.errors import InputError

# How many ports above the wanted one are tried.
PORTS_TO_TRY: Final = 50
MAX_PORT: Final = 65_535
# A page that does not take its leave within this time is cut off.
FAREWELL_S: Final = 1
# What a page may send: it has nothing to say.
MAX_INCOMING_BYTES: Final = 1_024


class PageServer:
    """A web application on an open port; `start` and `stop` it once each."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        self._listener = listener
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                ws_max_size=MAX_INCOMING_BYTES,
                timeout_graceful_shutdown=FAREWELL_S,
            )
        )
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="page", daemon=True)
        self.port: int = listener.getsockname()[1]

    def start(self) -> None:
        """Begin to serve; browsers that came since the port was opened are served too."""
        self._thread.start()

    def stop(self) -> None:
        """End within about two seconds, open pages or not; they reconnect by themselves to whoever comes next."""
        self._server.should_exit = True
        self._thread.join()


def serve(app: ASGIApp, host: str, port: int) -> PageServer:
    """Open a port (0: any free one) and serve `app` there until `stop`.

    Raises:
        InputError: the port is taken, not allowed or not there; the address is none of this machine.
    """
    try:
        listener = _listen(host, port)
    except OSError as error:
        raise _unusable(host, port, error) from None
    server = PageServer(app, listener)
    server.start()
    return server


def first_free_port(host: str, port: int) -> int:
    """Return the first free port from `port` on, of at most 51.

    Raises:
        InputError: all of them are taken, or the address cannot be used at all.
    """
    last = min(port + PORTS_TO_TRY, MAX_PORT)
    for candidate in range(port, last + 1):
        try:
            with _listen(host, candidate) as listener:
                return int(listener.getsockname()[1])
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise _unusable(host, candidate, error) from None
    raise InputError(f"ports {port} to {last} on {host}", "are all taken", "choose another port for the page")


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # A restarted server takes its port back at once instead of waiting for old connections to fade.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except (OSError, OverflowError):
        listener.close()
        raise
    return listener


def _unusable(host: str, port: int, error: OSError) -> InputError:
    subject = f"port {port} on {host}"
    if error.errno == errno.EADDRINUSE:
        return InputError(subject, "is taken by another program", "stop it or choose another port for the page")
    if error.errno == errno.EACCES:
        return InputError(subject, "may only be opened by root", "choose a port from 1024 up")
    return InputError(subject, f"cannot be opened ({error.strerror})", "use an address of this machine, or 0.0.0.0")
