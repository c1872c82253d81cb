"""The page over real HTTP: twenty raters at once, a server that is killed, and nothing that tells which model is which."""

import http.client
import json
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

from kinema.cli import main
from kinema.errors import InputError
from kinema.evaluate.arena.design import next_task
from kinema.evaluate.arena.study import Study, build_study
from kinema.evaluate.arena.votes import Votes, read_votes
from kinema.evaluate.videos import match_videos
from kinema.media.video import read_metadata, read_video, write_video

PATIENCE = 120.0  # seconds: a busy machine starts a server slowly
PROMPTS = [f"A thing number {n}." for n in range(6)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two models' videos: a folder each, with the model's name inside the files."""
    root, rng = tmp_path_factory.mktemp("videos"), np.random.default_rng(0)
    for model in ("secret-one", "secret-two"):
        (root / model).mkdir()
        for number, prompt in enumerate(PROMPTS):
            frames = rng.integers(0, 255, (5, 32, 32, 3), dtype=np.uint8)
            write_video(root / model / f"{number:04}_{model}.mp4", frames, 8, {"prompt": prompt, "model": model})
    return {model: root / model for model in ("secret-one", "secret-two")}


@pytest.fixture(scope="module")
def study(videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("arena") / "study"
    build_study(folder, PROMPTS, videos)
    return folder


class RefusedError(Exception):
    """The server answered with this status."""


def free_port() -> int:
    """Below those that clients are given: one that calls while the server is down could get the server's own, and keep it from it."""
    for port in random.sample(range(20_000, 32_000), 50):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("50 ports are taken")


class Server:
    """The real process, on a free port."""

    def __init__(self, study):
        self.port = free_port()
        self.study = study
        self.start()

    def start(self):
        self.process = subprocess.Popen([sys.executable, "-m", "kinema", "arena", "serve", str(self.study), "--port", str(self.port)])

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def call(self, path, body=None, patience=PATIENCE):
        """One request, repeated until the server answers, as the page does."""
        data = None if body is None else json.dumps(body).encode()
        until = time.monotonic() + patience
        while True:
            request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=10) as reply:
                    return reply.geturl(), reply.read()
            except urllib.error.HTTPError as refusal:
                refusal.close()
                raise RefusedError(refusal.code) from None
            except (OSError, http.client.HTTPException):  # killed before or while it answered
                if time.monotonic() > until:
                    raise
                assert self.process.poll() in (None, -signal.SIGKILL), "the server ended by itself"
                time.sleep(0.1)


@pytest.fixture(scope="module")
def server(study):
    running = Server(study)
    yield running
    running.kill()


def rate_all(server: Server, _) -> tuple[str, int]:
    """One rater from front page to the end; returns who it was and how many answers were confirmed."""
    rater, count = server.call("/")[0].rpartition("/")[2], 0
    while True:
        task = json.loads(server.call(f"/r/{rater}/next")[1])
        if task["finished"]:
            return rater, count
        answers = dict.fromkeys(task["questions"], "left")
        server.call(f"/r/{rater}/answer", {"task": task["task"], "answers": answers})
        count += 1


def wait_for_votes(study, count):
    until = time.monotonic() + PATIENCE
    while len(Votes(study / "votes.sqlite").all()) < count:
        assert time.monotonic() < until, "the raters stand still"
        time.sleep(0.02)


def test_twenty_raters_at_once_lose_no_vote_through_three_kills(server, study):
    with ThreadPoolExecutor(21) as threads:
        raters = [threads.submit(rate_all, server, n) for n in range(20)]
        for kill in (1, 2, 3):
            wait_for_votes(study, 100 * kill)
            server.kill()
            server.start()
        counts = dict(rater.result() for rater in raters)
    votes = Votes(study / "votes.sqlite").all()
    for rater, count in counts.items():
        assert len({v.task for v in votes if v.rater == rater}) == count
        assert sum(v.rater == rater for v in votes) == 4 * count
    assert len(counts) == 20
    assert min(counts.values()) >= len(PROMPTS)


def test_nothing_that_a_rater_gets_names_a_model(server, study):
    link, page = server.call("/")
    task = server.call(link.partition(str(server.port))[2] + "/next")[1]
    described = json.loads(task)
    seen = [page, task, *(server.call(path)[1] for path in described["videos"])]
    assert not any(b"secret" in each for each in seen)
    assert len(described["videos"]) == 2


def test_what_is_not_in_the_study_is_not_served(server):
    for path in ("/media/../study.json", "/media/%2e%2e%2fstudy.json", "/media/none.mp4", "/r/nobody", "/r/nobody/next"):
        with pytest.raises(RefusedError, match="404"):
            server.call(path)


def test_answers_that_make_no_sense_are_refused_and_a_repeated_one_changes_nothing(server):
    link = server.call("/")[0].partition(str(server.port))[2]
    task = json.loads(server.call(link + "/next")[1])
    for wrong in ({}, {"overall": "left"}, dict.fromkeys(task["questions"], "maybe")):
        with pytest.raises(RefusedError, match="422"):
            server.call(link + "/answer", {"task": task["task"], "answers": wrong})
    good = {"task": task["task"], "answers": dict.fromkeys(task["questions"], "same")}
    assert json.loads(server.call(link + "/answer", good)[1]) == {"recorded": True}
    assert json.loads(server.call(link + "/answer", good)[1]) == {"recorded": False}
    assert json.loads(server.call(link + "/next")[1])["task"] != task["task"]


def test_copies_keep_the_pictures_and_drop_what_the_file_tells(videos, study):
    opened = Study.open(study)
    for number, path in match_videos(videos["secret-one"], PROMPTS).items():
        copy = study / "media" / opened.media[number]["secret-one"]
        assert (read_video(copy)[0] == read_video(path)[0]).all()
        assert read_metadata(copy) is None


def test_a_report_of_real_votes_round_trips_through_csv(study, tmp_path, capsys):
    votes = Votes(tmp_path / "votes.sqlite")
    opened = Study.open(study)
    for rater in ("x", "y"):
        votes.add_rater(rater, rater)
        while (task := next_task(opened, votes, rater)) is not None:
            best = "left" if task.left == "secret-one" else "right"
            votes.answer(task.id, rater, dict.fromkeys(opened.questions, best))
    votes.export(tmp_path / "votes.csv")
    assert read_votes(tmp_path / "votes.csv") == votes.all()
    assert main(["arena", "report", str(study), "--votes", str(tmp_path / "votes.csv")]) == 0
    text = capsys.readouterr().out
    assert text.index("| secret-one |") < text.index("| secret-two |")
    assert "http" not in (study / "report.html").read_text().replace("http-equiv", "")


def test_a_study_is_never_built_over_another_and_needs_two_models(videos, study, tmp_path):
    with pytest.raises(InputError, match="holds a study already"):
        build_study(study, PROMPTS, videos)
    with pytest.raises(InputError, match="two models"):
        build_study(tmp_path / "new", PROMPTS, dict(list(videos.items())[:1]))


@pytest.mark.parametrize("names", [["3.mp4", "1.mp4", "2.mp4"], ["video_0.mp4", "video_2.mp4", "video_1.mp4"], ["b.mp4", "c.mp4", "a.mp4"]])
def test_videos_find_their_prompts_by_number_or_rank(tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert [path.name for _, path in sorted(match_videos(tmp_path, ["x", "y", "z"]).items())] == sorted(names)


def test_videos_that_fit_no_prompt_are_refused(tmp_path):
    (tmp_path / "7.mp4").write_bytes(b"")
    (tmp_path / "8.mp4").write_bytes(b"")
    with pytest.raises(InputError, match="cannot tell"):
        match_videos(tmp_path, ["x", "y", "z"])
