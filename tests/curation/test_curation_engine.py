"""The engine: whatever breaks is on record and stops nothing; however a run went, the same comes out."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import films
import pytest

from kinema.curation.funnel import Work, merge_funnel
from kinema.curation.ledger import Ledger
from kinema.curation.table import MEASUREMENTS, REJECTIONS, SOURCES, read_table, records_of
from kinema.errors import InputError

RUN = "import sys, films; from pathlib import Path; films.go(Path(sys.argv[1]), Path(sys.argv[2]), films.Work(workers=2))"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return films.library(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def alone(library: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """What one worker makes of the library."""
    out = tmp_path_factory.mktemp("alone")
    return out, films.go(library, out)


def sums_are_exact(summary: dict) -> bool:
    return all(
        summary[name]["in"] == sum(summary[name][state] for state in ("kept", "rejected", "failed", "pending"))
        for name in ("sources", "clips")
    )


def test_twenty_poisoned_files_have_twenty_outcomes_and_stop_nothing(tmp_path: Path):
    wanted = films.poison(tmp_path / "raw")
    summary = films.go(tmp_path / "raw", tmp_path / "out", Work(workers=2), films.Mischief())
    sources = records_of(read_table(tmp_path / "out" / SOURCES))
    assert {source["path"]: f"{source['state']} {source['reason']}".strip() for source in sources} == wanted
    assert len(wanted) > 20
    assert sums_are_exact(summary)
    assert summary["clips"]["pending"] == summary["sources"]["pending"] == 0
    kept = {clip["path"] for clip in records_of(read_table(tmp_path / "out" / MEASUREMENTS)) if clip["state"] == "in"}
    assert kept == {path for path, outcome in wanted.items() if outcome == "in"}


def test_a_crash_is_on_record_with_its_signal_and_place(tmp_path: Path):
    (tmp_path / "raw").mkdir()
    films.write_film(tmp_path / "raw" / "crashes.mp4")
    films.go(tmp_path / "raw", tmp_path / "out", Work(workers=1), films.Mischief())
    (source,) = records_of(read_table(tmp_path / "out" / SOURCES))
    assert "SIGSEGV" in source["detail"]
    assert "films.py" in source["detail"]


def test_every_clip_that_is_not_at_the_top_keeps_its_reasons(alone: tuple[Path, dict]):
    out, summary = alone
    clips = records_of(read_table(out / MEASUREMENTS))
    with_reasons = {row["key"] for row in records_of(read_table(out / REJECTIONS)) if row["over"] == "clip"}
    top = summary["tiers"]["review"]["clips"]
    assert 0 < top < len(clips)
    assert len({clip["key"] for clip in clips} & with_reasons) == len(clips) - top


def test_tiers_are_nested_and_sums_exact(alone: tuple[Path, dict]):
    _, summary = alone
    counts = [tier["clips"] for tier in summary["tiers"].values()]
    assert counts == sorted(counts, reverse=True)
    assert sums_are_exact(summary)
    assert summary["sources"]["in"] == 6


def test_two_workers_find_what_one_does(library: Path, alone: tuple[Path, dict], tmp_path: Path):
    assert films.go(library, tmp_path, Work(workers=2)) == alone[1]


def test_a_rerun_does_nothing_again_and_changes_no_clip(library: Path, tmp_path: Path):
    first = films.go(library, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("clips/*/*.mp4")}
    with Ledger(tmp_path) as ledger:
        done = Counter(op for op, *_ in ledger.counts())
        times = ledger.sql.execute("SELECT max(at) FROM task").fetchone()
    assert films.go(library, tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("clips/*/*.mp4")} == before
    with Ledger(tmp_path) as ledger:
        assert Counter(op for op, *_ in ledger.counts()) == done
        assert ledger.sql.execute("SELECT max(at) FROM task").fetchone() == times
        assert ledger.runs()[1]["skipped"] > 0


def test_a_changed_operator_is_measured_again_and_no_other(library: Path, tmp_path: Path):
    films.go(library, tmp_path)
    count = "SELECT op, count(*) FROM task GROUP BY op"
    with Ledger(tmp_path) as ledger:
        before = dict(ledger.sql.execute(count))
    films.go(library, tmp_path, Work(workers=1), films.Ranks(), films.Luma(scale=1.01))
    with Ledger(tmp_path) as ledger:
        after = dict(ledger.sql.execute(count))
    changed = {op for op in after if after[op] != before[op]}
    assert changed == {"luma", "trim"}  # trim needs luma


def test_a_batch_that_crashes_convicts_nobody_else(library: Path, tmp_path: Path):
    summary = films.go(library, tmp_path, Work(workers=1), films.Caption())
    clips = records_of(read_table(tmp_path / MEASUREMENTS))
    captioned = [clip for clip in clips if clip["caption"]]
    assert len(captioned) == summary["tiers"]["256p"]["clips"] > 3
    assert any(clip["start"] == 16 for clip in captioned)
    assert not summary["clips"]["failed"]


def test_shards_that_are_merged_make_the_whole(library: Path, alone: tuple[Path, dict], tmp_path: Path):
    parts = [tmp_path / f"part{index}" for index in range(3)]
    for index, part in enumerate(parts):
        films.go(library, part, Work(workers=1, shard=(index, 3)))
    assert all(not (part / "summary.json").exists() for part in parts)
    merge_funnel(films.funnel(), parts, tmp_path / "whole", Work(workers=1), lambda *_: None)
    assert films.go(library, tmp_path / "whole") == alone[1]
    with Ledger(tmp_path / "whole") as ledger:
        assert ledger.runs()[-1]["done"] > 0
        assert ledger.sql.execute("SELECT count(*) FROM task WHERE at > (SELECT began FROM run LIMIT 1)").fetchone() == (0,)


def killed_runs(library: Path, out: Path, kills: int, seed: int) -> None:
    """Begin a run `kills` times and end it, with all it started, at a random moment."""
    moments = random.Random(seed)
    environment = os.environ | {"PYTHONPATH": str(Path(films.__file__).parent), "OMP_NUM_THREADS": "1"}
    for _ in range(kills):
        running = subprocess.Popen([sys.executable, "-c", RUN, str(library), str(out)], env=environment, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.5, 3.0))
        running.send_signal(signal.SIGKILL)
        running.wait()


def test_kill_9_at_random_moments_leaves_no_trace(library: Path, alone: tuple[Path, dict], tmp_path: Path):
    killed_runs(library, tmp_path, 4, seed=1)
    assert films.go(library, tmp_path, Work(workers=2)) == alone[1]
    assert not list(tmp_path.glob("clips/.*"))
    names = {path.stem for path in tmp_path.glob("clips/*/*.mp4")}
    assert names == {path.stem for path in alone[0].glob("clips/*/*.mp4")}


@pytest.mark.slow
def test_kill_9_twenty_times_leaves_no_trace(library: Path, alone: tuple[Path, dict], tmp_path: Path):
    killed_runs(library, tmp_path, 20, seed=2)
    assert films.go(library, tmp_path, Work(workers=2)) == alone[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_ray_cluster_finds_the_same_and_survives_poison(library: Path, alone: tuple[Path, dict], tmp_path: Path, monkeypatch):
    pytest.importorskip("ray", reason="needs the extra `ray`")
    monkeypatch.setenv("PYTHONPATH", str(Path(films.__file__).parent))
    assert films.go(library, tmp_path / "out", Work(engine="ray", workers=2)) == alone[1]
    wanted = films.poison(tmp_path / "raw")
    films.go(tmp_path / "raw", tmp_path / "poisoned", Work(engine="ray", workers=2), films.Mischief())
    found = {r["path"]: f"{r['state']} {r['reason']}".strip() for r in records_of(read_table(tmp_path / "poisoned" / SOURCES))}
    assert found == wanted | {"hungry.mp4": found["hungry.mp4"]}  # Ray sets its own limits on memory


def test_two_runs_may_not_write_to_one_dataset(tmp_path: Path):
    with Ledger(tmp_path), pytest.raises(InputError, match="another run"):
        Ledger(tmp_path)


def test_a_ledger_of_another_layout_is_refused(tmp_path: Path):
    with Ledger(tmp_path) as ledger:
        ledger.sql.execute("PRAGMA user_version=99")
    for write in (True, False):
        with pytest.raises(InputError, match="layout 99"):
            Ledger(tmp_path, write=write)


def test_an_operator_that_was_interrupted_is_tried_last_and_not_blamed(library: Path, alone: tuple[Path, dict], tmp_path: Path):
    """A run that died leaves `running` rows behind: not an attempt, but a reason to put the item last."""
    films.go(library, tmp_path)
    with Ledger(tmp_path) as ledger:
        ledger.sql.execute("UPDATE task SET state = 'running', rows = NULL WHERE op = 'luma'")
        ledger.sql.execute("UPDATE task SET interrupted = 5, attempts = 0 WHERE op = 'luma'")
        ledger.lock.close()  # as a kill does: nothing is tidied up
        ledger.sql.close()
        ledger.close = lambda: None  # type: ignore[method-assign]
    assert films.go(library, tmp_path) == alone[1]
