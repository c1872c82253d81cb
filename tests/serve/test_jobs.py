"""The queue's promises, at any interleaving: nothing lost, nothing twice, nothing stuck, users in turn."""

import importlib.util
import multiprocessing
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from kinema.errors import InputError
from kinema.serve.jobs import CRASHES, STARTS, Limits, Queue, QueueFullError


@pytest.fixture(scope="session")
def postgres():
    """A Postgres of the tests' own: the command that makes SQL run in it. Skips where Postgres is not installed."""
    programs = next(Path("/usr/lib/postgresql").glob("*/bin"), None)
    if programs is None or os.getuid() or importlib.util.find_spec("psycopg") is None:
        pytest.skip(
            "needs Postgres, its Python driver, and root, to become its user: apt-get install postgresql; pip install psycopg[binary]"
        )
    folder = Path(tempfile.mkdtemp(prefix="kinema-postgres-"))
    shutil.chown(folder, "postgres", "postgres")

    def call(program, *options):
        subprocess.run(["runuser", "-u", "postgres", "--", programs / program, *options], check=True, capture_output=True, cwd="/")

    call("initdb", "-D", folder / "data", "--auth=trust", "--no-sync")
    call("pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log", "-o", f"-c listen_addresses='' -k {folder} -F", "start")
    yield lambda text: call("psql", "-h", folder, "-c", text), folder
    call("pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def url(request, tmp_path):
    """The address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/queue.sqlite"
    command, folder = request.getfixturevalue("postgres")
    name = f"kinema_{secrets.token_hex(6)}"
    command(f"CREATE DATABASE {name}")
    return f"postgresql+psycopg://postgres@/{name}?host={folder}"


@pytest.fixture
def opened(url):
    """Opens queues with the limits that are named, and closes them."""
    made = []

    def opened(**limits):
        made.append(Queue(url, Limits(**limits)))
        return made[-1]

    yield opened
    for queue in made:
        queue.engine.dispose()


@pytest.fixture
def queue(opened):
    return opened(waiting=30, waiting_per_user=20, lease=5.0)


def test_a_job_goes_from_queued_to_done(queue):
    job = queue.submit("ann", {"prompt": "a cat"})
    taken = queue.claim("w")
    assert (taken.id, taken.status, taken.request) == (job.id, "running", {"prompt": "a cat"})
    assert queue.report(taken, "denoise", 0.5)
    assert queue.finish(taken, "video.mp4")
    assert (queue.get(job.id).status, queue.get(job.id).file, queue.claim("w")) == ("done", "video.mp4", None)


def test_users_take_turns_however_many_jobs_one_of_them_has(queue):
    for n in range(6):
        queue.submit("greedy", {"n": n})
    for n in range(2):
        queue.submit("modest", {"n": n})
    order = []
    while (job := queue.claim("w")) is not None:
        order.append(job.user)
        queue.finish(job, "x")
        time.sleep(0.002)
    assert order[:4] in (["greedy", "modest"] * 2, ["modest", "greedy"] * 2)


def test_priority_goes_first(queue):
    queue.submit("ann", {"n": 0})
    urgent = queue.submit("ann", {"n": 1}, priority=5)
    assert queue.claim("w").id == urgent.id


def test_the_same_key_is_the_same_job_and_another_request_under_it_is_refused(queue):
    first = queue.submit("ann", {"n": (0, 1)}, key="k")
    assert queue.submit("ann", {"n": (0, 1)}, key="k").id == first.id
    assert queue.submit("bob", {"n": (0, 1)}, key="k").id != first.id
    with pytest.raises(InputError, match="another request"):
        queue.submit("ann", {"n": 1}, key="k")


def test_one_user_and_all_together_are_bounded(queue):
    for n in range(20):
        queue.submit("ann", {"n": n})
    with pytest.raises(QueueFullError, match="yours"):
        queue.submit("ann", {"n": 20})
    for n in range(10):
        queue.submit(f"user{n}", {"n": n})
    with pytest.raises(QueueFullError, match="this server"):
        queue.submit("bob", {"n": 0})


def test_a_crash_is_retried_once_and_then_told(queue):
    job = queue.submit("ann", {})
    for _ in range(CRASHES):
        assert queue.claim("w").id == job.id
        queue.worker_died("w", "the worker died of signal 9")
    assert (queue.get(job.id).status, queue.get(job.id).error) == ("failed", "the worker died of signal 9")


def test_going_down_with_the_service_is_forgiven_a_few_times(queue):
    job = queue.submit("ann", {})
    for _ in range(STARTS - 1):
        queue.claim("w")
        queue.worker_died("w", "the service stopped", crashed=False)
        assert queue.get(job.id).status == "queued"


def test_a_worker_that_lost_its_lease_cannot_publish(opened):
    queue = opened(lease=0.05)
    queue.submit("ann", {})
    slow = queue.claim("slow")
    time.sleep(0.1)
    quick = queue.claim("quick")
    assert quick.id == slow.id
    assert not queue.report(slow, "denoise", 0.9)
    assert not queue.finish(slow, "late.mp4")
    assert queue.finish(quick, "good.mp4")
    assert queue.get(quick.id).file == "good.mp4"


def test_cancelling_works_while_waiting_while_running_and_not_afterwards(queue):
    waiting, running, done = (queue.submit("ann", {"n": n}) for n in range(3))
    assert queue.cancel(waiting.id).status == "cancelled"
    taken = queue.claim("w")
    assert taken.id == running.id
    queue.cancel(running.id)
    assert not queue.report(taken, "denoise", 0.5)
    assert queue.stopped(taken)
    queue.finish(queue.claim("w"), "x")
    assert queue.cancel(done.id).status == "done"
    assert queue.cancel("video_none") is None


def take_all(url, worker, results):
    queue = Queue(url)
    while (job := queue.claim(worker)) is not None:
        queue.finish(job, worker)
        results.put(job.id)
    queue.engine.dispose()


def test_two_processes_never_take_the_same_job(opened, url):
    queue = opened()
    jobs = [queue.submit("ann", {"n": n}).id for n in range(40)]
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    workers = [spawn.Process(target=take_all, args=(url, f"w{n}", results)) for n in range(2)]
    for worker in workers:
        worker.start()
    taken = [results.get(timeout=60) for _ in jobs]
    for worker in workers:
        worker.join()
    assert sorted(taken) == sorted(jobs)


def test_many_threads_submit_and_nothing_is_lost(opened):
    queue = opened()
    threads = [threading.Thread(target=lambda user=user: [queue.submit(user, {"n": n}) for n in range(5)]) for user in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert queue.counts() == {"queued": 40}


class QueueMachine(RuleBasedStateMachine):
    """Any order of submitting, claiming, crashing, cancelling and finishing keeps the books straight."""

    running = Bundle("running")

    def __init__(self):
        super().__init__()
        self.folder = TemporaryDirectory()
        self.queue = Queue(f"sqlite:///{self.folder.name}/queue.sqlite")
        self.submitted, self.published, self.worker = set(), {}, 0

    def teardown(self):
        self.queue.engine.dispose()
        self.folder.cleanup()

    @rule(user=st.sampled_from("ab"))
    def submit(self, user):
        self.submitted.add(self.queue.submit(user, {}).id)

    @rule(target=running)
    def claim(self):
        self.worker += 1
        job = self.queue.claim(f"w{self.worker}")
        return multiple() if job is None else job

    @rule(job=consumes(running))
    def finish(self, job):
        if self.queue.finish(job, "file"):
            assert job.id not in self.published
            self.published[job.id] = job.worker

    @rule(job=running)
    def cancel(self, job):
        self.queue.cancel(job.id)

    @rule(job=consumes(running), crashed=st.booleans())
    def die(self, job, crashed):
        self.queue.worker_died(job.worker, "died", crashed)

    @invariant()
    def nothing_is_lost(self):
        jobs = {job.id: job for job in self.queue.jobs(limit=1000)}
        assert jobs.keys() == self.submitted
        assert {name for name, job in jobs.items() if job.status == "done"} == self.published.keys()


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))


def test_an_empty_key_is_a_key_like_any_other(queue):
    assert queue.submit("ann", {"n": 0}, key="").id == queue.submit("ann", {"n": 0}, key="").id


def test_a_name_that_no_job_has_is_not_sent_to_the_database(queue):
    for name in ("", "\x00", "video_\x00", "x" * 10_000, "video_none"):
        assert queue.get(name) is None
        assert queue.jobs(after=name) == []


def test_a_key_used_by_many_at_once_makes_one_job(queue):
    made = []
    threads = [threading.Thread(target=lambda: made.append(queue.submit("ann", {"n": 0}, key="k").id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1
