"""A proxy between a client and a store that does to requests what networks do."""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Fault = Literal["drop", "reset", "silence", "slow", "503", "500", "429", "403", "short", "wrong range", "whole"]


@dataclass(frozen=True)
class Request:
    """What the client wants, as the plan of faults sees it."""

    number: int
    method: str
    path: str
    range: str | None


class Proxy:
    """Passes requests on to a port of this machine, but for those that `plan` has a fault for."""

    def __init__(self, port: int) -> None:
        self.plan: Callable[[Request], Fault | None] = lambda _: None
        self.seen: list[Request] = []
        self.ending = threading.Event()
        self._lock = threading.Lock()
        proxy = self

        class Handler(_Handler):
            owner, upstream = proxy, port

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                """A client that has gone is what this is about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def note(self, method: str, path: str, wanted: str | None) -> Fault | None:
        with self._lock:
            request = Request(len(self.seen), method, path, wanted)
            self.seen.append(request)
            return self.plan(request)

    def stop(self) -> None:
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: Proxy
    upstream: int
    protocol_version = "HTTP/1.1"

    def _pass(self) -> None:
        fault = self.owner.note(self.command, self.path, self.headers.get("Range"))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fault == "silence":
            self.owner.ending.wait(60)
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if fault in ("drop", "reset", "silence"):
            self.close_connection = True
            return
        if fault == "slow":
            time.sleep(0.2)
        if fault in ("503", "500", "429", "403"):
            self._answer(int(fault), [("Retry-After", "0")], b"<Error><Code>SlowDown</Code></Error>")
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=30)
        try:
            # Google's client sends a key that is empty where it has none, which other servers refuse.
            headers = {name: value for name, value in self.headers.items() if value.strip() != "Bearer"}
            upstream.request(self.command, self.path, body or None, headers)
            answer = upstream.getresponse()
            status, answered, content = answer.status, answer.getheaders(), answer.read()
            # What is asked for is signed, so it is the answer that is of another range.
            if status == 206 and fault in ("wrong range", "whole"):
                ranges = [value for name, value in answered if name.lower() == "content-range"]
                answered = [(name, value) for name, value in answered if name.lower() != "content-range"]
                if fault == "whole":
                    status = 200
                else:
                    first, last, size = re.findall(r"\d+", ranges[0])
                    answered.append(("Content-Range", f"bytes {int(first) + 1}-{int(last) + 1}/{size}"))
            self._answer(status, answered, content, cut=fault == "short")
        finally:
            upstream.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        head = self.command == "HEAD"
        length = next((value for name, value in headers if head and name.lower() == "content-length"), str(len(body)))
        self.send_header("Content-Length", length)
        self.end_headers()
        if head:
            return
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Nothing: tests look at `seen`."""
