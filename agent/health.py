"""Answers the platform's health probe on a VM that runs no ledger node yet. Standard library only.

Started as `python3 health.py PORT PATH`. A VM that is up and waits is healthy: automatic repair would replace
it otherwise, again and again. The answer says that no agent is there.
"""

import json
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What the Application Health extension reads (its rich health states), and a word for people.
ANSWER = json.dumps({"ApplicationHealthState": "Healthy", "ledgerNode": "none: no ledger agent on this VM"}).encode()


def serve(port: int, path: str) -> ThreadingHTTPServer:
    """A server on all addresses of the VM that answers GET `path`, and 404 to all else; not yet started."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == path
            self.send_response(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(ANSWER) if found else 0))
            self.end_headers()
            if found:
                self.wfile.write(ANSWER)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """A probe every few seconds is not news."""

    # The network security group lets the load balancer in and nobody else.
    return ThreadingHTTPServer(("0.0.0.0", port), Handler)  # noqa: S104


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2]).serve_forever()
