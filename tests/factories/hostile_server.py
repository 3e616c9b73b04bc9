"""A web server on this machine that cuts, stalls and lies, as often as a test says."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What is served, and how.

    Attributes:
        files: path → content. url: of the server.
        cuts: after so many bytes the connection is closed, for the first ``times`` answers to each path.
        stalls: instead of closing it, says nothing for so many seconds.
        ranges: does it know of ranges? asked: path → requests for content.
        says: the status of every answer, as often as it is there; then those above.
    """

    files: dict[str, bytes]
    url: str = ""
    cuts: int | None = None
    times: int = 2
    stalls: float = 0.0
    ranges: bool = True
    asked: Counter[str] = field(default_factory=Counter)
    says: list[int] = field(default_factory=list)


@contextlib.contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Site]:
    """Serve until the block ends."""
    site = Site(files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            return None

        def do_HEAD(self) -> None:
            content = self._found()
            if content is not None:
                self._head(200, content, len(content))

        def do_GET(self) -> None:
            content = self._found()
            if content is None:
                return
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if site.ranges else None
            part = content[int(wanted[1]) : int(wanted[2] or len(content)) + 1] if wanted else content
            site.asked[self.path] += 1
            self._head(206 if wanted else 200, content, len(part))
            if site.cuts is None or site.asked[self.path] > site.times:
                self.wfile.write(part)
                return
            self.wfile.write(part[: site.cuts])
            self.wfile.flush()
            time.sleep(site.stalls)
            self.close_connection = True
            self.connection.close()

        def _found(self) -> bytes | None:
            """What is at the path; the answer is given where nothing is."""
            content = site.files.get(self.path)
            if site.says or content is None:
                self.send_error(site.says.pop(0) if site.says else 404)
                return None
            return content

        def _head(self, status: int, content: bytes, length: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
            if site.ranges:
                self.send_header("Accept-Ranges", "bytes")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *arguments: None  # type: ignore[method-assign]  # whoever was cut off
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
