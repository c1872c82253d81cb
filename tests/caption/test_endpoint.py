"""Captioning and rewriting through a real local HTTP server that speaks the OpenAI protocol, and misbehaves on request."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from kinema.caption.captioner import SHOWN, EndpointCaptioner
from kinema.caption.endpoint import Endpoint, EndpointConfig, EndpointError, Pace
from kinema.caption.rewrite import rewrite
from kinema.caption.schema import FIELDS
from kinema.caption.writers import EndpointWriter
from kinema.errors import InputError

pytest.importorskip("openai")
GOOD = dict.fromkeys(FIELDS, "") | {"short": "A red cat walks to the left."}
CLIP = np.zeros((20, 16, 24, 3), np.uint8)


class Server(ThreadingHTTPServer):
    """Answers with what `script` holds, one after another, and with the last of it for ever: a text, a status, or seconds to sleep."""

    def __init__(self, *script):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.asked, self.times = list(script), [], []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        server.times.append(time.monotonic())
        server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        step = server.script.pop(0) if len(server.script) > 1 else server.script[0]
        if isinstance(step, float):
            time.sleep(step)
            step = 503
        body = {"error": {"message": "busy"}} if isinstance(step, int) else {
            "id": "1", "object": "chat.completion", "created": 0, "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": step}}],
        }  # fmt: skip
        data = json.dumps(body).encode()
        try:
            self.send_response(step if isinstance(step, int) else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            pass  # the client has gone

    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(*script):
        servers.append(Server(*script))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def config(server, **more):
    return EndpointConfig(**{"url": server.url, "model": "m", "retries": 2, "timeout_s": 20.0} | more)


def test_a_clip_is_shown_as_frames_and_captioned(serve):
    server = serve(json.dumps(GOOD))
    (reading,) = EndpointCaptioner(config(server)).caption([CLIP])
    assert reading.caption.short == GOOD["short"]
    parts = server.asked[0]["messages"][0]["content"]
    assert sum(part["type"] == "image_url" for part in parts) == SHOWN
    assert server.asked[0]["response_format"]["json_schema"]["schema"]["required"] == list(FIELDS)


def test_a_busy_server_is_asked_again(serve):
    server = serve(429, 503, json.dumps(GOOD))
    (reading,) = EndpointCaptioner(config(server)).caption([CLIP])
    assert reading.caption is not None
    assert len(server.asked) == 3


def test_a_server_that_stays_busy_is_an_error_on_record_and_the_others_go_on(serve):
    server = serve(400)
    readings = EndpointCaptioner(config(server)).caption([CLIP, CLIP])
    assert [reading.caption for reading in readings] == [None, None]
    assert server.url in readings[0].error


def test_an_answer_that_is_no_caption_is_asked_for_again_with_the_error(serve):
    server = serve("A cat.", json.dumps(GOOD))
    (reading,) = EndpointCaptioner(config(server)).caption([CLIP])
    assert (reading.repairs, reading.caption.short) == (1, GOOD["short"])
    assert "not JSON" in server.asked[1]["messages"][-1]["content"]


def test_no_answer_in_time_is_an_error(serve):
    endpoint = Endpoint(config(serve(3.0), retries=0, timeout_s=0.3))
    with pytest.raises(EndpointError, match="did not answer"):
        endpoint.chat([{"role": "user", "content": "hello"}])


def test_requests_keep_to_the_rate(monkeypatch):
    waits = []
    monkeypatch.setattr("kinema.caption.endpoint.time.monotonic", lambda: 100.0)
    monkeypatch.setattr("kinema.caption.endpoint.time.sleep", waits.append)
    pace = Pace(per_minute=300.0)
    for _ in range(4):
        pace.wait()
    assert waits == pytest.approx([0.0, 0.2, 0.4, 0.6])


def test_a_prompt_is_written_then_revised(serve):
    server = serve(json.dumps(GOOD | {"short": "A cat."}), json.dumps(GOOD))
    made = rewrite("a red cat walks to the left", "master", EndpointWriter(config(server)))
    assert made.writer == "endpoint:m"
    assert made.text == GOOD["short"]
    assert "red" in server.asked[1]["messages"][-1]["content"]


def test_what_a_model_forgets_even_so_is_kept_by_the_rules(serve):
    server = serve(json.dumps(GOOD | {"short": "A cat."}))
    assert rewrite("a red cat walks to the left", "normal", EndpointWriter(config(server))).writer == "rules"


@pytest.mark.parametrize("wrong", [{"url": "localhost"}, {"model": ""}, {"retries": -1}, {"timeout_s": 0.0}])
def test_a_config_that_cannot_work_is_refused(wrong):
    with pytest.raises(InputError):
        EndpointConfig(**{"url": "http://localhost/v1", "model": "m"} | wrong)
