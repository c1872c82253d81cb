"""How the service bears many people at once, tried for real: a server of its own, clients that queue videos, a visitor who loads the page.

    python -m kinema.serve.load --clients 50 --jobs 200

Prints what became of the jobs, whether users were served in turn, and how fast page and list were answered while videos were made.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sql

from kinema.errors import MissingExtraError
from kinema.serve.guard import COOKIE, Keys
from kinema.serve.jobs import JOBS, Queue

try:
    import httpx
except ImportError as error:
    raise MissingExtraError("httpx", "serve") from error

SMALLEST = {"prompt": "a cat", "model": "mini", "size": "16x16", "frames": 1, "steps": 1, "guidance": 1}
LOOKED_AT = ("/", "/v1/videos")
PAUSE = 0.1  # seconds between two looks of the visitor
PATIENCE = 300.0  # seconds that a start may take


def run(folder: Path, clients: int, jobs: int) -> dict[str, Any]:
    """Serve, queue `jobs` videos from `clients` users, wait for all. Returns the figures."""
    keys = [Keys(folder / "keys").add(f"user{n}") for n in range(clients)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "kinema", "serve", "--folder", str(folder), "--port", url.rpartition(":")[2]]
    with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}) as server:
        try:
            wait_for(url, server)
            began = time.monotonic()
            threads = [threading.Thread(target=queue_videos, args=(url, key, jobs // clients)) for key in keys]
            for thread in threads:
                thread.start()
            answers = look(url, keys[0], jobs // clients * clients)
            seconds = time.monotonic() - began
        finally:
            server.terminate()
    return judge(folder, clients) | {"seconds": round(seconds, 1)} | {f"GET {path}": told(times) for path, times in answers.items()}


def wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    over = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < over:
        try:
            httpx.get(f"{url}/healthz", timeout=10)
            return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise SystemExit("the server did not start")


def queue_videos(url: str, key: str, count: int) -> None:
    """What one client does."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=120) as client:
        for seed in range(count):
            client.post("/v1/videos", json=SMALLEST | {"seed": seed}).raise_for_status()


def look(url: str, key: str, jobs: int) -> dict[str, list[float]]:
    """Load page and list until all jobs are over: seconds of every answer, beginning with the first video in work."""
    found: dict[str, list[float]] = {path: [] for path in LOOKED_AT}
    with httpx.Client(base_url=url, cookies={COOKIE: key}, headers={"Authorization": f"Bearer {key}"}, timeout=120) as visitor:
        while (counts := visitor.get("/healthz").json()["jobs"]).get("done", 0) + counts.get("failed", 0) < jobs:
            for path in LOOKED_AT if counts.get("running") else ():
                began = time.perf_counter()
                visitor.get(path).raise_for_status()
                found[path].append(time.perf_counter() - began)
            time.sleep(PAUSE)
    return found


def judge(folder: Path, clients: int) -> dict[str, Any]:
    """What the queue says afterwards: jobs by status, starts, and the most that one user got within a round of all users.

    Rounds count from the second on: in the first not everybody had asked yet.
    """
    queue = Queue(f"sqlite:///{folder / 'queue.sqlite'}")
    with queue.reader.connect() as db:
        rows = db.execute(sql.select(JOBS.c.user, JOBS.c.starts).order_by(JOBS.c.started)).all()
    order = [row[0] for row in rows]
    rounds = [Counter(order[start : start + clients]) for start in range(clients, len(order), clients)]
    most = max((max(each.values()) for each in rounds), default=0)
    return {"jobs": queue.counts(), "starts": sum(row[1] for row in rows), "most_of_one_user_in_a_round": most}


def told(seconds: list[float]) -> dict[str, int]:
    late = sorted(seconds)[int(0.95 * len(seconds))] if seconds else 0.0
    return {"answers": len(seconds), "median_ms": round(1000 * statistics.median(seconds or [0.0])), "p95_ms": round(1000 * late)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=200, help="of all clients together")
    args = parser.parse_args()
    with TemporaryDirectory(prefix="kinema-load-") as folder:
        print(json.dumps(run(Path(folder), args.clients, args.jobs), indent=1))


if __name__ == "__main__":
    main()
