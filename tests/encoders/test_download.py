"""Downloads against a local server that behaves badly."""

from __future__ import annotations

import hashlib
import http.server
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from umedfeat.disk.lock import OutputLock
from umedfeat.encoders import load_encoder
from umedfeat.encoders.weights import download
from umedfeat.encoders.weights.download import ensure_weights, pin_of
from umedfeat.encoders.weights.models import MODELS, OfficialModel
from umedfeat.errors import CheckpointRefused, WeightsUnavailable

Handler = http.server.BaseHTTPRequestHandler
Behaviour = Callable[[Handler, bytes], None]


@dataclass
class Server:
    """Answers with the next behaviour of the list, the last one for ever."""

    content: bytes
    behaviours: list[Behaviour]
    ranges: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Server, OfficialModel]]]:
    monkeypatch.setenv("UMEDFEAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "_STALL_SECONDS", 1.0)
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(*behaviours: Behaviour) -> tuple[Server, OfficialModel]:
        with zipfile.ZipFile(tmp_path / "weights.zip", "w") as archive:
            archive.writestr("encoder.pt", bytes(range(256)) * 2000)
        server = Server((tmp_path / "weights.zip").read_bytes(), list(behaviours))

        class Answers(Handler):
            def do_GET(self) -> None:
                server.ranges.append(self.headers.get("Range"))
                behave = server.behaviours.pop(0) if len(server.behaviours) > 1 else server.behaviours[0]
                behave(self, server.content)

            def log_message(self, *arguments: object) -> None:
                return

        listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        servers.append(listening)
        server.url = f"http://127.0.0.1:{listening.server_port}/weights"
        return server, replace(MODELS["umedpt"], urls=(server.url,))

    yield start
    for listening in servers:
        listening.shutdown()
        listening.server_close()


def send(handler: Handler, body: bytes, *, status: int = 200, length: int | None = None, etag: str = '"v1"') -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.send_header("ETag", etag)
    handler.end_headers()
    handler.wfile.write(body)


def good(handler: Handler, content: bytes) -> None:
    """A server that knows ranges."""
    wanted = handler.headers.get("Range")
    if wanted and handler.headers.get("If-Range") == '"v1"':
        first = int(wanted.removeprefix("bytes=").rstrip("-"))
        send(handler, content[first:], status=206)
    else:
        send(handler, content)


def truncates(handler: Handler, content: bytes) -> None:
    send(handler, content[:100_000], length=len(content))


def stalls(handler: Handler, content: bytes) -> None:
    send(handler, content[:50_000], length=len(content))
    threading.Event().wait(2.5)


def says_less_than_it_sends(handler: Handler, content: bytes) -> None:
    send(handler, content, length=len(content) // 2)


def html(handler: Handler, content: bytes) -> None:
    send(handler, b"<!DOCTYPE html><html>please log in</html>")


def broken(handler: Handler, content: bytes) -> None:
    send(handler, b"oops", status=500)


def missing(handler: Handler, content: bytes) -> None:
    send(handler, b"nothing", status=404)


def ignores_ranges(handler: Handler, content: bytes) -> None:
    send(handler, content)


def changed_in_between(handler: Handler, content: bytes) -> None:
    send(handler, content, etag='"v2"')


def complete_already(handler: Handler, content: bytes) -> None:
    """What a server says to a range behind the end of the file."""
    if handler.headers.get("Range"):
        send(handler, b"", status=416)
    else:
        send(handler, content)


def another_range(handler: Handler, content: bytes) -> None:
    if handler.headers.get("Range"):
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 0-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content)))
        handler.send_header("ETag", '"v1"')
        handler.end_headers()
        handler.wfile.write(content)
    else:
        send(handler, content)


def forgets_the_condition(handler: Handler, content: bytes) -> None:
    """Sends the rest of a newer file although the old one was meant."""
    wanted = handler.headers.get("Range")
    if wanted:
        first = int(wanted.removeprefix("bytes=").rstrip("-"))
        send(handler, b"x" * (len(content) - first), status=206, etag='"v2"')
    else:
        send(handler, content, etag='"v2"')


def says_more_than_it_sends(handler: Handler, content: bytes) -> None:
    send(handler, content if not handler.headers.get("Range") else b"", length=len(content) + 1000)


def elsewhere(handler: Handler, content: bytes) -> None:
    handler.send_response(302)
    handler.send_header("Location", "http://example.invalid/weights")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


Serve = Callable[..., tuple[Server, OfficialModel]]


def test_a_good_server_once_then_the_cache(serve: Serve) -> None:
    server, model = serve(good)
    path = ensure_weights(model, progress=False)
    assert path.read_bytes() == server.content
    assert pin_of(model) == hashlib.sha256(server.content).hexdigest()
    assert ensure_weights(model, offline=True) == path
    assert len(server.ranges) == 1
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, path.name + ".sha256"]


@pytest.mark.parametrize("first", [truncates, stalls])
def test_an_interrupted_download_is_resumed(serve: Serve, first: Behaviour) -> None:
    server, model = serve(first, good)
    assert ensure_weights(model, progress=False).read_bytes() == server.content
    assert server.ranges[0] is None
    assert server.ranges[1] is not None
    assert server.ranges[1].startswith("bytes=")


@pytest.mark.parametrize(
    "second", [ignores_ranges, changed_in_between, complete_already, another_range, forgets_the_condition]
)
def test_parts_of_two_versions_are_never_joined(serve: Serve, second: Behaviour) -> None:
    server, model = serve(truncates, second)
    assert ensure_weights(model, progress=False).read_bytes() == server.content


@pytest.mark.parametrize("behaviour", [broken, says_less_than_it_sends, html])
def test_a_passing_fault_is_tried_again(serve: Serve, behaviour: Behaviour) -> None:
    server, model = serve(behaviour, good)
    assert ensure_weights(model, progress=False).read_bytes() == server.content


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        (html, "a web page"),
        (missing, "HTTP 404"),
        (broken, "HTTP 500"),
        (says_less_than_it_sends, "cut"),
        (elsewhere, "away from https"),
        (says_more_than_it_sends, "ended early"),
    ],
)
def test_a_lasting_fault_is_told_with_the_ways_out(serve: Serve, behaviour: Behaviour, told: str) -> None:
    _, model = serve(behaviour)
    with pytest.raises(WeightsUnavailable, match=told) as caught:
        ensure_weights(model, progress=False)
    assert "--weights FILE" in caught.value.remedy
    assert not download.cached_file(model).exists()


def test_googles_page_that_asks_to_confirm_is_no_model(serve: Serve) -> None:
    """A file too large for its virus scan: status 200, a page, and the address to fetch by hand is told."""
    server, _ = serve(html)
    model = replace(MODELS["unicorn"], urls=(server.url,))
    with pytest.raises(WeightsUnavailable, match=r"unicorn.*a web page \(to log in or to confirm") as caught:
        ensure_weights(model, progress=False)
    assert server.url in caught.value.remedy
    assert not list(download.cache_folder().glob("*.part"))


def test_the_licence_is_told_once_before_the_download(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server, model = serve(truncates, good)
    ensure_weights(model, progress=False)
    ensure_weights(model, progress=False)
    told = [record for record in caplog.records if "non-commercial" in record.getMessage()]
    assert len(told) == 1
    assert "doi:10.1038/s43588-024-00662-z" in told[0].getMessage()
    assert len(server.ranges) == 2


def test_a_second_download_waits_for_the_first(serve: Serve) -> None:
    """The file of the faster one is used; the lock is the one that guards outputs."""
    server, model = serve(good)
    path = download.cached_file(model)
    path.parent.mkdir(parents=True)
    done: list[Path] = []
    waiting = threading.Thread(target=lambda: done.append(ensure_weights(model, progress=False)))
    with OutputLock(path):
        waiting.start()
        waiting.join(0.5)
        assert not done and not server.ranges
        path.write_bytes(server.content)
    waiting.join(30)
    assert done == [path] and not server.ranges


@pytest.mark.parametrize("suffix", ["", ".part", ".part.etag", ".sha256"])
def test_links_in_the_cache_are_not_followed(suffix: str, serve: Serve, tmp_path: Path) -> None:
    _, model = serve(good)
    path = download.cached_file(model)
    path.parent.mkdir(parents=True)
    canary = tmp_path / "canary"
    canary.write_text("of somebody else")
    path.with_name(path.name + suffix).symlink_to(canary)
    with pytest.raises(WeightsUnavailable, match="link"):
        ensure_weights(model, progress=False)
    assert canary.read_text() == "of somebody else"


def test_a_cache_that_anybody_can_write_to_is_told(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    _, model = serve(good)
    ensure_weights(model, progress=False)
    download.cached_file(model).parent.chmod(0o777)
    ensure_weights(model, progress=False)
    assert "anybody on this machine" in caplog.text


def test_plain_http_is_not_used(serve: Serve) -> None:
    _, model = serve(good)
    with pytest.raises(WeightsUnavailable, match="https"):
        ensure_weights(replace(model, urls=("http://example.invalid/weights",)), progress=False)


def test_the_next_url_is_tried(serve: Serve) -> None:
    server, model = serve(good)
    model = replace(model, urls=("http://example.invalid/weights", server.url))
    assert ensure_weights(model, progress=False).read_bytes() == server.content


def test_a_file_that_changed_since_its_first_use_is_refused(serve: Serve) -> None:
    _, model = serve(good)
    path = ensure_weights(model, progress=False)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(CheckpointRefused, match="pinned"):
        ensure_weights(model, progress=False)


def test_a_sites_own_pin(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = serve(good)
    monkeypatch.setenv("UMEDFEAT_PIN_UMEDPT", "0" * 64)
    with pytest.raises(CheckpointRefused, match="pinned 0000"):
        ensure_weights(model, progress=False)


def test_an_unwritable_cache_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("UMEDFEAT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsUnavailable, match="cannot be written"):
        ensure_weights(MODELS["umedpt"], progress=False)


def test_a_sites_pin_holds_for_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--weights FILE`` once went past the pin."""
    path = tmp_path / "encoder.pt.zip"
    path.write_bytes(b"other weights")
    monkeypatch.setenv("UMEDFEAT_PIN_UMEDPT", "0" * 64)
    with pytest.raises(CheckpointRefused, match="is not the pinned"):
        load_encoder("umedpt", weights=path)
    assert list(tmp_path.iterdir()) == [path]
