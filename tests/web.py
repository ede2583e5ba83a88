"""A local HTTP server for tests, which stops without delay."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from threading import Thread

_POLL_SECONDS = 0.01
"""How long stopping takes; by default it would be half a second."""


class Handler(BaseHTTPRequestHandler, ABC):
    """Answers requests by `reply`, and logs nothing."""

    @abstractmethod
    def reply(self, body: bytes) -> None:
        """Answer a GET or a POST."""

    def do_GET(self) -> None:
        """Handle a GET request, which has no body."""
        self.reply(b"")

    def do_POST(self) -> None:
        """Handle a POST request with its body."""
        self.reply(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, *_: object) -> None:
        """Do nothing."""


@contextmanager
def serving(handler: type[Handler], tls: SSLContext | None = None) -> Iterator[str]:
    """Serve during the block; yields the URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, args=(_POLL_SECONDS,), daemon=True).start()
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
        server.shutdown()
