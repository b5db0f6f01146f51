"""A hub on this machine that behaves as the real one does, and as badly as a test wants.

Large files (`lfs`) are given by a second server, the CDN, to which the first sends clients on; small ones
directly. Both know ranges. What can be wrong: see `Hub`.
"""

import hashlib
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Hub:
    """What the hub holds and how it misbehaves; `asked` is every request as (host's role, path, headers).

    `files`: path -> bytes. `break_at`: the CDN hangs up after so many bytes, as often as `breaks` says.
    `served`: other bytes than were promised. `ranges`: whether the CDN knows them. `refuses`: (status,
    X-Error-Code) of every answer. `gate`: the token without which nothing is given. `extra`: of the listing.
    `busy`: so many answers are 503 first. `pause`: waited for in the middle. `slow_s`: between
    pieces of 100 kB.
    """

    repo: str = "owner/tiny-GGUF"
    files: dict[str, bytes] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    siblings: list[dict[str, Any]] = field(default_factory=list)
    break_at: int = 0
    breaks: int = 0
    served: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    refuses: tuple[int, str] | None = None
    gate: str = ""
    busy: int = 0
    pause: threading.Event | None = None
    slow_s: float = 0.0
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    address: str = ""
    cdn: str = ""
    elsewhere: str = ""  # where large files are, instead of the CDN

    def listing(self) -> dict[str, Any]:
        found = []
        for path, data in self.files.items():
            entry: dict[str, Any] = {"rfilename": path, "size": len(data)}
            entry["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            if lfs(path):
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            found.append(entry)
        return {"id": self.repo, "sha": COMMIT, "siblings": [*found, *self.siblings], **self.extra}


def lfs(path: str) -> bool:
    return path.endswith((".gguf", ".safetensors"))


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Run the hub and its CDN for the length of a block."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub, role)) for role in ("hub", "cdn")]
    hub.address, hub.cdn = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        if hub.pause is not None:
            hub.pause.set()
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


def _handler(hub: Hub, role: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            hub.asked.append((role, self.path, dict(self.headers)))
            path = urllib.parse.unquote(self.path.partition("?")[0])
            if hub.busy:
                hub.busy -= 1
                return self.no(503, "")
            if role == "hub" and hub.refuses:
                return self.no(*hub.refuses)
            if role == "hub" and hub.gate and self.headers.get("Authorization") != f"Bearer {hub.gate}":
                return self.no(401, "GatedRepo")
            if path.startswith(f"/api/models/{hub.repo}/revision/"):
                return self.give(json.dumps(hub.listing()).encode(), ranges=False)
            file = path.removeprefix(f"/{hub.repo}/resolve/{COMMIT}/")
            if file not in hub.files:
                return self.no(404, "EntryNotFound" if hub.repo in path else "RepoNotFound")
            if role == "hub" and lfs(file):
                self.send_response(302)
                self.send_header("Location", (hub.elsewhere or hub.cdn) + self.path)
                self.send_header("X-Linked-Size", str(len(hub.files[file])))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None
            return self.give(hub.served.get(file, hub.files[file]), ranges=hub.ranges)

        def no(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def give(self, data: bytes, *, ranges: bool) -> None:
            start = 0
            asked = self.headers.get("Range", "")
            if ranges and asked.startswith("bytes="):
                start = int(asked[6:].partition("-")[0])
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(data) - start))
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.end_headers()
            rest = data[start:]
            if role == "cdn" and hub.breaks:
                hub.breaks -= 1
                self.wfile.write(rest[: hub.break_at])
                self.wfile.flush()
                self.close_connection = True
                return
            if role == "cdn" and hub.pause is not None:
                self.wfile.write(rest[: len(rest) // 2])
                self.wfile.flush()
                hub.pause.wait(20)
                rest = rest[len(rest) // 2 :]
            try:
                for at in range(0, len(rest), 100_000) if hub.slow_s else ():
                    self.wfile.write(rest[at : at + 100_000])
                    time.sleep(hub.slow_s)
                if not hub.slow_s:
                    self.wfile.write(rest)
            except OSError:
                self.close_connection = True  # the client is gone

    return Handler
