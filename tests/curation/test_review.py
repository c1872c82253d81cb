"""The review: a real server and a real client; what is said is kept at once; numbers agree with published ones."""

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import films
import numpy as np
import pytest

from kinema.curation.labels import CRITERIA, Judgement, Labels, alpha, calibration, suggest, verdict, verdicts, wilson
from kinema.curation.summary import settle
from kinema.curation.table import TIERS, read_table, records_of
from kinema.errors import InputError

GOOD = dict.fromkeys(CRITERIA, 2)
BAD = GOOD | {"blur": 0}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("review")
    films.go(films.library(folder / "raw", 3), folder / "out")
    return folder / "out"


@pytest.fixture
def server(dataset: Path) -> Iterator[str]:
    """The page on a free port, with no labels yet."""
    uvicorn = pytest.importorskip("uvicorn", reason="needs the extra `curate`")
    from kinema.curation.review import app_of

    for left in dataset.glob("labels.sqlite*"):
        left.unlink()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = uvicorn.Server(uvicorn.Config(app_of(dataset, "256p"), host="127.0.0.1", port=port, log_level="error", ws="none"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    running.should_exit = True
    thread.join()


def ask(url: str, body: Any = None, **headers: str) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"} | headers)
    with urllib.request.urlopen(request) as answer:
        content = answer.read()
        return json.loads(content) if "json" in answer.headers["Content-Type"] else content


def judge(server: str, key: str, reviewer: str, scores: dict, adjudicate: bool = False) -> Any:
    return ask(f"{server}/api/judge", {"key": key, "reviewer": reviewer, "scores": scores, "adjudicate": adjudicate})


def test_two_reviewers_and_an_adjudicator_decide(server: str, dataset: Path):
    first = ask(f"{server}/api/next?reviewer=ann")["clip"]["key"]
    assert judge(server, first, "ann", GOOD) == {"keep": True}
    assert ask(f"{server}/api/next?reviewer=ann")["clip"]["key"] != first
    assert ask(f"{server}/api/next?reviewer=bob")["clip"]["key"] == first  # what one has judged comes first
    judge(server, first, "bob", BAD)
    assert ask(f"{server}/api/next?reviewer=cleo")["disputed"] == 1
    assert verdicts(dataset) == {}
    dispute = ask(f"{server}/api/next?reviewer=cleo&adjudicate=true")["clip"]
    assert dispute["key"] == first
    assert {each["reviewer"] for each in dispute["earlier"]} == {"ann", "bob"}
    judge(server, first, "cleo", GOOD, adjudicate=True)
    assert verdicts(dataset) == {first: True}


def test_a_judgement_outlives_the_server_at_once(server: str, dataset: Path):
    key = ask(f"{server}/api/next?reviewer=ann")["clip"]["key"]
    judge(server, key, "ann", BAD)
    judge(server, key, "bob", BAD)
    assert {each.reviewer for each in Labels(dataset).by_clip()[key]} == {"ann", "bob"}  # another connection, the server still runs
    settle(dataset, films.funnel().recipe)
    assert {row["key"]: row["review"] for row in records_of(read_table(dataset / TIERS))}[key] == "refused"


def test_clips_are_served_in_parts_and_nothing_else_is(server: str, dataset: Path):
    clip = ask(f"{server}/api/next?reviewer=ann")["clip"]
    whole = ask(f"{server}/{clip['video']}")
    assert ask(f"{server}/{clip['video']}", Range="bytes=4-11") == whole[4:12]
    for path in ("clip/../../curation.toml.mp4", "clip/%2e%2e%2fledger.mp4", "labels.sqlite"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            ask(f"{server}/{path}")


@pytest.mark.parametrize(
    "change", [{"key": "unknown"}, {"scores": {"colour": 2}}, {"scores": GOOD | {"blur": 7}}, {"reviewer": "  "}, {"adjudicate": True}]
)
def test_what_makes_no_sense_is_refused(server: str, change: dict):
    key = ask(f"{server}/api/next?reviewer=ann")["clip"]["key"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(f"{server}/api/judge", {"key": key, "reviewer": "ann", "scores": GOOD} | change)
    assert refused.value.code == 422
    assert "error" in json.loads(refused.value.read())


def test_the_page_needs_no_network(server: str):
    page = ask(server).decode()
    assert "http://" not in page
    assert "https://" not in page


def test_a_verdict_needs_two_who_agree():
    ann, bob, other = (Judgement("k", name, scores) for name, scores in (("ann", GOOD), ("bob", GOOD), ("bob", BAD)))
    assert verdict([ann]) is None
    assert verdict([ann, bob]) is True
    assert verdict([ann, other]) is None
    assert verdict([ann, other, Judgement("k", "cleo", BAD, "adjudicated")]) is False


def test_alpha_is_one_for_perfect_and_about_zero_for_random_scores():
    rng = np.random.default_rng(0)
    assert alpha([[0, 0], [1, 1], [2, 2], [1, 1]], "ordinal") == pytest.approx(1)
    assert abs(alpha(rng.integers(0, 3, (4000, 2)).tolist(), "ordinal") or 1) < 0.05
    assert alpha([[1], [2]], "ordinal") is None
    assert alpha([[2, 2], [2, 2]], "nominal") is None


def test_wilson_agrees_with_published_values():
    assert wilson(8, 10) == pytest.approx((0.490, 0.943), abs=5e-4)  # Newcombe 1998's method 3
    assert wilson(0, 10) == pytest.approx((0.0, 0.278), abs=5e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_suggested_threshold_reaches_its_precision_and_is_the_loosest():
    values = np.arange(100.0)
    kept = values >= 30
    found = suggest("x", "at least", values, kept, 0.95)
    assert found.precision >= 0.95
    assert found.recall == 1
    assert 20 < (found.threshold or 0) <= 30
    assert found.interval[0] < found.precision < found.interval[1]
    assert suggest("x", "at most", values, kept, 1.0).threshold is None


def test_calibration_without_verdicts_says_what_to_do(dataset: Path):
    for left in dataset.glob("labels.sqlite*"):
        left.unlink()
    with pytest.raises(InputError, match="kinema curate review"):
        calibration(dataset, {"brightness": ["at least"]})
