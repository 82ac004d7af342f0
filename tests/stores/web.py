"""A folder on a web server: with ranges, a password, ETags, or without."""

from __future__ import annotations

import base64
import contextlib
import http.server
import os
import ssl
import threading
from pathlib import Path


class Web:
    """Runs until `stop`.

    Args:
        login: ``user:password``, without which it gives nothing.
        says: Which headers tell versions apart.
        certificate: A file with key and certificate, for https.
    """

    def __init__(
        self,
        folder: Path,
        *,
        knows_ranges: bool = True,
        login: str | None = None,
        says: tuple[str, ...] = ("Last-Modified",),
        certificate: Path | None = None,
    ) -> None:
        wanted_login = None if login is None else "Basic " + base64.b64encode(login.encode()).decode()

        class Handler(http.server.SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def __init__(self, *arguments):
                super().__init__(*arguments, directory=str(folder))

            def do_GET(self) -> None:
                self._answer()

            def do_HEAD(self) -> None:
                self._answer()

            def _answer(self) -> None:
                path = Path(self.translate_path(self.path))
                if wanted_login not in (None, self.headers.get("Authorization")):
                    return self.send_error(401)
                if not path.is_file():
                    return self.send_error(404)
                data = path.read_bytes()
                wanted = self.headers.get("Range")
                part = data
                if knows_ranges and wanted is not None:
                    first, last = map(int, wanted.removeprefix("bytes=").split("-"))
                    part = data[first : last + 1]
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(len(part)))
                if "Last-Modified" in says:
                    self.send_header("Last-Modified", self.date_time_string(os.path.getmtime(path)))
                if "ETag" in says:
                    self.send_header("ETag", f'"{hash(data):x}"')
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(part)
                return None

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):  # Who does not want it all goes.
                    super().handle()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http{'s' if certificate else ''}://{self.host}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
