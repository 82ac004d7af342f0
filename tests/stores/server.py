"""A real S3 server on this machine: SeaweedFS, from PyPI."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

KEY, SECRET = "test-key", "test-secret"
BUCKET = "tests"
PUBLIC = "public"
"""A bucket for everybody."""
START_SECONDS = 60


def find_weed() -> str | None:
    """The server's program, in the environment of this Python or on the path."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


class Server:
    """Runs until `stop`, on what is in the folder. Buckets come into being with the first object in them."""

    def __init__(self, weed: str, folder: Path) -> None:
        config = folder / "s3.json"
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        everybody = {"name": "anonymous", "actions": [f"{may}:{PUBLIC}" for may in ("Read", "Write", "List")]}
        config.write_text(json.dumps({"identities": [identity, everybody]}))
        (folder / "data").mkdir(exist_ok=True)
        roles = ("master", "volume", "filer", "s3")
        ports = _free_ports(2 * len(roles))
        command = [weed, "server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}"]
        command += [f"-s3.config={config}", "-volume.max=100", "-master.volumeSizeLimitMB=1024"]
        # Small objects beside their names, where they are written in half the time.
        command += ["-filer.saveToFilerLimit=1024", "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        for role in roles:
            command += [f"-{role}.port={ports.pop()}", f"-{role}.port.grpc={ports.pop()}"]
        self.port = int(next(part for part in command if part.startswith("-s3.port=")).partition("=")[2])
        self._log = folder / "weed.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def options(self, **more: Any) -> dict[str, Any]:
        """`storage_options` for it."""
        return {
            "endpoint": self.endpoint,
            "region": "us-east-1",
            "access_key_id": KEY,
            "secret_access_key": SECRET,
            "timeout": 5,
            "deadline": 10,
            "backoff": 0.01,
            **more,
        }

    def _wait(self) -> None:
        """Until an object can be written: the parts come up one after the other."""
        import obstore
        from obstore.store import S3Store

        known = {name: self.options()[name] for name in ("endpoint", "region", "access_key_id", "secret_access_key")}
        store = S3Store(BUCKET, **known, client_options={"allow_http": True}, retry_config={"max_retries": 0})
        until = time.monotonic() + START_SECONDS
        while True:
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"SeaweedFS does not start:\n{self._log.read_text(errors='replace')[-4000:]}")
            try:
                urllib.request.urlopen(f"{self.endpoint}/status", timeout=1).close()
                obstore.put(store, "object", b"")
                return
            except (OSError, obstore.exceptions.BaseError):
                time.sleep(0.1)

    def stop(self) -> None:
        # It takes its time to end in order, and nobody wants its data.
        self._process.kill()
        self._process.wait()


def _free_ports(count: int) -> list[int]:
    """All taken at once, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
