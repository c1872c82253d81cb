"""The service within the test's own process, and as a process of its own."""

import asyncio
import io
import os
import signal
import socket
import subprocess
import sys
import time
import wave
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

SMALL = {"size": "64x64", "frames": 5, "steps": 2, "seed": 1}  # what mini makes in no time
START = 180.0  # seconds that a start may take on a busy machine


@pytest.fixture
def service(tmp_path):
    """mini's orders and queue, without a worker."""
    from kinema.serve.app import open_queue
    from kinema.serve.fitting import fittings
    from kinema.serve.orders import Service

    return Service(queue=open_queue(tmp_path, None), folder=tmp_path, models=fittings(["mini"]))


@pytest.fixture(scope="session")
def speech_form():
    """A picture and half a second of a tone, as a form."""
    picture, sound, rate = io.BytesIO(), io.BytesIO(), 16_000
    Image.new("RGB", (96, 96), (200, 150, 120)).save(picture, "png")
    with wave.open(sound, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((8000 * np.sin(np.arange(rate // 2) / 10)).astype(np.int16).tobytes())
    return {"input_reference": ("face.png", picture.getvalue()), "audio": ("voice.wav", sound.getvalue())}


@pytest.fixture
def client(service):
    """The whole application, called without a network."""
    from starlette.testclient import TestClient

    with TestClient(built(service), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


def built(service, local=True):
    """The application, made within a loop: outside one Gradio makes its own and never closes it."""
    from kinema.serve.app import create_app

    async def build():
        return create_app(service, local)

    return asyncio.run(build())


@pytest.fixture(scope="session")
def build():
    return built


@dataclass
class Running:
    """A server in a process of its own."""

    process: "subprocess.Popen[bytes]"
    url: str
    folder: Path
    log: Path

    def kill_web(self):
        self.process.kill()
        self.process.wait()

    def workers(self):
        """Process ids, by the folder that they work on."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = entry.read_bytes().split(b"\0")
                if b"kinema.serve.worker" in words and str(self.folder).encode() in words:
                    found.append(int(entry.parent.name))
        return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(folder, *options):
    port = free_port()
    log = folder / "serve.log"
    command = [sys.executable, "-m", "kinema", "serve", "--folder", str(folder), "--port", str(port), *options]
    with log.open("ab") as file:
        process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=file, stderr=file, start_new_session=True)
    running = Running(process, f"http://127.0.0.1:{port}", folder, log)
    try:
        wait_until(lambda: answers(running), START, log)
    except BaseException:
        end(running)
        raise
    return running


def end(running):
    running.process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        running.process.wait(30)
    with suppress(ProcessLookupError):
        os.killpg(running.process.pid, signal.SIGKILL)
    running.process.wait()


def answers(running):
    assert running.process.poll() is None, running.log.read_text()
    with suppress(httpx.HTTPError):
        return httpx.get(f"{running.url}/healthz", timeout=10).status_code == 200
    return False


def wait_until(true, seconds=120.0, log=None):
    """Poll until `true()` gives something, and return that."""
    over = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < over, f"waited for {seconds} s; {log.read_text() if log else ''}"
        time.sleep(0.1)
    return found


@contextmanager
def served(folder, *options):
    running = start(folder, *options)
    try:
        yield running
    finally:
        end(running)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One server with one worker, for all tests that leave it as it is."""
    with served(tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture(scope="session")
def finished():
    """Waits for a video of a server to be over, and returns it."""

    def over(running, name):
        def look():
            with suppress(httpx.HTTPError):
                job = httpx.get(f"{running.url}/v1/videos/{name}", timeout=30).json()
                return job if job["status"] in ("completed", "failed") else None
            return None

        return wait_until(look, START, running.log)

    return over


@pytest.fixture(scope="session")
def serving():
    """Starts a server on a folder, for a block."""
    return served


@pytest.fixture(scope="session")
def until():
    """Polls until something is true; fails the test where it never is."""
    return wait_until
