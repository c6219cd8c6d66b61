import io
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sf2cli.data import download as module
from sf2cli.data.download import download
from sf2cli.errors import Sf2Error


class Failing(BaseHTTPRequestHandler):
    """Says 503, then breaks off in the middle, then gives it all."""

    answers: list[str]

    def log_message(self, *args):
        pass

    def do_GET(self):
        answer = self.answers.pop(0)
        self.send_response(503 if answer == "busy" else 200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write({"busy": b"sorry.", "short": b"abc", "whole": b"abcdef"}[answer])


@pytest.fixture
def url(monkeypatch):
    monkeypatch.setattr(module, "_PAUSES_S", (0.01, 0.01))
    with HTTPServer(("127.0.0.1", 0), Failing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/x.tar"
        server.shutdown()
        thread.join()


def got(url):
    target = io.BytesIO()
    download(url, target)
    return target.getvalue()


def test_a_server_gets_further_chances(url):
    Failing.answers = ["busy", "short", "whole"]
    assert got(url) == b"abcdef"
    Failing.answers = ["busy", "busy", "short"]
    with pytest.raises(Sf2Error, match=r"x.tar: 3 of 6 bytes came|x.tar: .*Incomplete"):
        got(url)


def test_no_server_is_told(monkeypatch):
    monkeypatch.setattr(module, "_PAUSES_S", ())
    with pytest.raises(Sf2Error, match=r"127.0.0.1:9/x.tar: .*refused"):
        got("http://127.0.0.1:9/x.tar")


def test_a_pipe_gives_what_its_command_writes():
    assert got("pipe:printf 'a b'; printf c") == b"a bc"


def test_a_pipe_that_stalls_is_ended(monkeypatch):
    monkeypatch.setattr(module, "STALL_S", 0.3)
    with pytest.raises(Sf2Error, match=r"sleep 60: nothing came for 0 s"):
        got("pipe:printf abc; sleep 60")
