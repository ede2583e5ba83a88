"""The token of a deployment is renewed over HTTP: with good answers, failures, and an answer that never comes."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lab import ROOT

LAST = "token-2"
# Stands in for Pulumi: reads its token until the last one is there, and fails if there is none.
PULUMI = f"""
import os, sys, time
seen = set()
end = time.monotonic() + 60
while sys.argv[1] != "install" and "{LAST}" not in seen and time.monotonic() < end:
    seen.add(open(os.environ["AZURE_FEDERATED_TOKEN_FILE"]).read())
    time.sleep(0.02)
print(*sorted(seen), sep=",")
"""


def answers(released: threading.Event) -> Iterator[tuple[int, bytes] | None]:
    """GitHub's answers, one for each request; None never ends."""
    yield 200, b'{"value": "token-1"}'
    yield 404, b"no"
    yield 200, b""
    yield 200, b"<html>"
    yield 200, b'{"value": null}'
    yield 200, b'{"value": ""}'
    yield None
    released.set()
    while True:
        yield 200, json.dumps({"value": LAST}).encode()


@pytest.fixture
def github() -> Iterator[tuple[str, threading.Event]]:
    reached_the_end, ended = threading.Event(), threading.Event()
    given = answers(reached_the_end)
    one_at_a_time = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with one_at_a_time:
                answer = next(given)
            if answer is None:
                ended.wait(60)
                return
            status, body = answer
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/token?api=1", reached_the_end
        ended.set()
        server.shutdown()


def program(directory: Path, name: str, text: str) -> None:
    path = directory / name
    path.write_text(f"#!{sys.executable}\n{text}", encoding="utf-8")
    path.chmod(0o755)


def test_a_good_token_stays_until_the_next_good_one(tmp_path, github):
    url, reached_the_end = github
    program(tmp_path, "pulumi", PULUMI)
    # Two minutes pass in a twentieth of a second.
    program(tmp_path, "sleep", "import time\ntime.sleep(0.05)")
    credentials = dict.fromkeys(("ARM_CLIENT_ID", "ARM_TENANT_ID", "ARM_SUBSCRIPTION_ID", "PULUMI_BACKEND_URL"), "x")
    given = {
        **credentials,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "ACTIONS_ID_TOKEN_REQUEST_URL": url,
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-the-job",
    }
    started = time.monotonic()
    done = subprocess.run(
        [ROOT / ".github" / "run-stack", "up", "dev"],
        env=given,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert reached_the_end.is_set(), "each failure was tried"
    assert f"token-1,{LAST}" in done.stdout, (
        "a failed renewal must not remove the good token: an update lasts an hour"
    )
    assert time.monotonic() - started < 60, "an answer that never comes delays one renewal, not all later ones"
    assert "the token was not renewed; the last one stays in use" in done.stderr, "the log reports it"
