"""The running service: real clients, real videos, and every process killed when it hurts most."""

import os
import signal
import subprocess
import sys

import httpx
import pytest

SMALL = {"size": "64x64", "frames": 5, "steps": 2}


def post(server, **fields):
    return httpx.post(f"{server.url}/v1/videos", json={"prompt": "a cat"} | SMALL | fields, timeout=60).raise_for_status().json()["id"]


def get(server, name):
    return httpx.get(f"{server.url}/v1/videos/{name}", timeout=60).json()


@pytest.fixture(scope="session")
def openai(server):
    from openai import OpenAI

    with OpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=120) as client:
        yield client


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_openai_client_makes_lists_downloads_and_deletes_a_video(openai, tmp_path):
    from kinema.media.video import probe, read_metadata

    made = openai.videos.create_and_poll(
        prompt="a cat", model="mini", size="64x64", seconds="1", extra_body={"steps": 2, "seed": 5}, poll_interval_ms=200
    )
    assert (made.status, made.progress, made.size) == ("completed", 100, "64x64")
    assert openai.videos.retrieve(made.id).completed_at >= made.created_at
    assert made.id in [video.id for video in openai.videos.list(limit=10)]
    file = tmp_path / "video.mp4"
    openai.videos.download_content(made.id).write_to_file(file)
    assert probe(file).frames == 13
    assert read_metadata(file)["request"]["seed"] == 5
    assert openai.videos.delete(made.id).deleted
    assert made.id not in [video.id for video in openai.videos.list(limit=10)]


def test_the_openai_client_is_told_what_is_wrong(openai):
    from openai import BadRequestError, NotFoundError

    with pytest.raises(BadRequestError, match="width=65"):
        openai.videos.create(prompt="a cat", model="mini", size="65x64")
    with pytest.raises(NotFoundError):
        openai.videos.retrieve("video_none")
    assert "mini" in [model.id for model in openai.models.list()]


def test_events_tell_progress_and_previews_until_it_is_done(server):
    name, seen = post(server, steps=6), []
    with httpx.stream("GET", f"{server.url}/v1/videos/{name}/events", timeout=180) as stream:
        seen = [line.removeprefix("event: ") for line in stream.iter_lines() if line.startswith("event: ")]
    assert seen[-1] == "done"
    assert {"progress", "preview"} <= set(seen)
    preview = httpx.get(f"{server.url}/v1/videos/{name}/preview", timeout=60)
    assert preview.headers["content-type"] == "image/webp"
    assert preview.content[:4] == b"RIFF"


def test_the_same_request_gives_the_same_file(server, finished):
    names = [post(server, seed=3) for _ in range(2)]
    files = []
    for name in names:
        assert finished(server, name)["status"] == "completed"
        files.append(httpx.get(f"{server.url}/v1/videos/{name}/content", timeout=60).content)
    assert files[0] == files[1]


def test_cancelling_a_running_video_frees_the_worker(server, finished, until):
    long = post(server, steps=200, frames=33)
    until(lambda: get(server, long)["status"] != "queued", log=server.log)
    httpx.post(f"{server.url}/v1/videos/{long}/cancel", timeout=60).raise_for_status()
    assert finished(server, long)["error"]["code"] == "cancelled"
    assert finished(server, post(server))["status"] == "completed"


def test_a_slow_client_does_not_hold_up_others(server):
    import socket

    host, port = server.url.removeprefix("http://").split(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(50)]
    for connection in idle:
        connection.sendall(b"POST /v1/videos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{")
    assert httpx.get(f"{server.url}/healthz", timeout=60).status_code == 200
    for connection in idle:
        connection.close()


def test_listening_to_others_needs_keys(tmp_path):
    command = [sys.executable, "-m", "kinema", "serve", "--host", "0.0.0.0", "--folder", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 2
    assert "kinema serve key add" in result.stderr


@pytest.mark.slow
def test_sigterm_ends_web_and_workers_in_order_and_gives_the_job_back(tmp_path, serving, until):
    with serving(tmp_path) as server:
        name = post(server, steps=200, frames=33)
        until(lambda: get(server, name)["status"] != "queued", log=server.log)
        workers = server.workers()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        assert len(workers) == 1
        assert server.workers() == []
    with serving(tmp_path, "--workers") as again:
        job = get(again, name)
        assert (job["status"], job["kinema"]["attempts"]) == ("queued", 1)


@pytest.mark.slow
def test_whatever_is_killed_no_job_is_lost_done_twice_or_stuck(tmp_path, serving, finished, until):
    def until_running(server):
        """One of the jobs is in the middle of its work; at least one is left for whoever comes next."""

        def look():
            jobs = [get(server, name) for name in names]
            assert not all(job["status"] in ("completed", "failed") for job in jobs), "all are over: nothing is left to kill"
            return any(job["status"] == "in_progress" and job["progress"] > 5 for job in jobs)

        until(look, log=server.log)

    with serving(tmp_path) as server:
        names = [post(server, seed=n, steps=120) for n in range(3)]
        until_running(server)
        os.kill(server.workers()[0], signal.SIGKILL)  # the worker alone: the page stays up
        assert finished(server, names[0])["status"] == "completed"
        until_running(server)
        server.kill_web()  # the web alone: its worker must not go on for itself
        until(lambda: not server.workers(), log=server.log)
    with serving(tmp_path) as server:
        until_running(server)
        workers = server.workers()
        server.kill_web()  # both at once
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
    with serving(tmp_path) as server:
        jobs = [finished(server, name) for name in names]
        assert [job["status"] for job in jobs] == ["completed"] * 3
        for job in jobs:
            assert httpx.get(f"{server.url}/v1/videos/{job['id']}/content", timeout=60).status_code == 200
            attempts = [entry.name for entry in (tmp_path / "videos" / job["id"]).iterdir()]
            assert attempts == [str(job["kinema"]["attempts"])]


@pytest.mark.slow
def test_many_clients_lose_nothing_and_are_served_in_turn(tmp_path):
    from kinema.serve.load import run

    found = run(tmp_path, clients=10, jobs=40)
    assert found["jobs"] == {"done": 40}
    assert found["starts"] == 40  # none was done twice
    assert found["most_of_one_user_in_a_round"] <= 2
    assert found["GET /"]["answers"] > 0
