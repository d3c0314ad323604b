"""A local HTTP server for the length of a test."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def answering(answer: Callable[[str, dict[str, Any]], dict[str, Any]]) -> Iterator[str]:
    """Answer each JSON that is posted, by its path and what it holds, with another."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = {"model": "m", "object": "list", **answer(self.path, sent)}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as url:
        yield url


def completion(text: str) -> dict[str, Any]:
    """Return what a server answers where the model says a text."""
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


@contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answer by a handler, each request in a thread of its own, at the URL that is returned."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as opened:
        threading.Thread(target=opened.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{opened.server_port}/v1"
        opened.shutdown()
