"""The real files, and a server that can misbehave in every way a server does."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    default = Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("TIMELOCAL_DATA") or default)
    if not folder.is_dir():
        pytest.skip("the data files are not here: set TIMELOCAL_DATA to their folder")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no data folder."""
    monkeypatch.setenv("TIMELOCAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TIMELOCAL_DATA", raising=False)
    return tmp_path / "cache"


class Server:
    """Serves `files` by path; `asked` is what was asked for.

    The first part of a path may name a misbehaviour: /truncated/x, /silent/x, /trickle/x, /refused/x.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.closing = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                _, manner, name = self.path.split("/")
                content = server.files[name]
                if manner == "silent":
                    server.closing.wait(30)
                    return
                self.send_response(403 if manner == "refused" else 200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if manner == "trickle":
                    # Never silent for as long as the client's timeout, and never done either.
                    while not server.closing.wait(0.02):
                        try:
                            self.wfile.write(content[:20])
                        except OSError:
                            return
                elif manner != "refused":
                    self.wfile.write(content[: -100 if manner == "truncated" else None])

            def log_message(self, format: str, *args: object) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self._thread.start()

    def url(self, name: str, manner: str = "good") -> str:
        return f"http://127.0.0.1:{self._http.server_port}/{manner}/{name}"

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = Server()
    yield running
    running.close()


@pytest.fixture
def everything_under() -> Callable[[Path], list[str]]:
    """The files and folders below a folder that may not exist."""
    return lambda folder: sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))
