"""The command line, the report, status and diff, on small films."""

import json
import re
from pathlib import Path

import films
import pytest

from kinema.cli.curate import spelled_out
from kinema.curation.diff import compare
from kinema.curation.recipe import Recipe
from kinema.curation.scan import scan
from kinema.curation.status import lines
from kinema.curation.summary import settle
from kinema.curation.table import MEASUREMENTS, read_table, records_of
from kinema.errors import InputError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("command")
    raw = films.library(folder / "raw", 3)
    (raw / "broken.mp4").write_text("<b>no film</b>")
    films.go(raw, folder / "out")
    return folder / "out"


def test_the_word_run_may_be_left_out():
    assert spelled_out(["curate", "films", "--out", "x"]) == ["curate", "run", "films", "--out", "x"]
    assert spelled_out(["curate", "status", "x"]) == ["curate", "status", "x"]
    assert spelled_out(["curate", "--help"]) == ["curate", "--help"]
    assert spelled_out(["generate", "films"]) == ["generate", "films"]


def test_a_folder_without_videos_is_refused_by_the_command(command, tmp_path: Path):
    (tmp_path / "raw").mkdir()
    done = command("curate", "raw", "--out", "out")
    assert done.returncode == 2
    assert "holds no video" in done.stderr
    assert command("curate", "status", "raw").returncode == 2
    assert "I/N" in command("curate", "raw", "--out", "out", "--shard", "4/4").stderr


@pytest.mark.slow
def test_the_whole_command_measures_a_film_with_every_operator(command, tmp_path: Path):
    (tmp_path / "raw").mkdir()
    films.write_film(tmp_path / "raw" / "film.mp4", 60, size=(288, 352))
    done = command("curate", "raw", "--out", "out", "--workers", "1")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["sources"] == {"in": 1, "kept": 1, "rejected": 0, "failed": 0, "pending": 0}
    clips = records_of(read_table(tmp_path / "out" / MEASUREMENTS))
    assert clips
    assert all(clip["failures"] == "{}" for clip in clips), clips
    assert all(clip[name] is not None for clip in clips for name in Recipe().ladders())
    again = command("curate", "retier", "out", "--set", "thresholds.motion.at_least=[9,9,9,9,9]")
    assert "256p 0" in again.stderr


def test_retier_decides_again_from_the_table_alone(dataset: Path, monkeypatch: pytest.MonkeyPatch):
    recipe = films.funnel().recipe
    before = settle(dataset, recipe)
    strict = films.replace(recipe, thresholds=films.replace(recipe.thresholds, brightness=films.Ladder(at_least=(255.0,) * 5)))
    assert settle(dataset, strict)["clips"]["kept"] == 0
    assert settle(dataset, recipe) == before


def test_the_report_is_one_file_that_needs_no_network(dataset: Path):
    page = (dataset / "report.html").read_text()
    assert not re.search(r"(src|href)=.?(https?:)?//", page)
    assert "<b>no film</b>" not in page  # a file's words are not markup
    for part in ("The funnel", "brightness", "rejected together", "open_failed", "data:image/jpeg", "Where this comes from"):
        assert part in page


def test_status_tells_files_operators_and_tiers(dataset: Path):
    text = "\n".join(lines(dataset))
    assert "4 files" in text
    assert re.search(r"luma: \d+ done", text)
    assert "256p" in text
    assert "4 in = 3 kept + 0 rejected + 1 failed" in text


def test_diff_finds_nothing_between_equal_runs_and_what_changed_otherwise(dataset: Path, tmp_path: Path):
    films.go(dataset.parent / "raw", tmp_path / "again")
    same = compare(dataset, tmp_path / "again", 1e-6)
    assert same.none
    assert "no difference" in next(same.lines())
    (dataset.parent / "raw" / "more").mkdir()
    films.write_film(dataset.parent / "raw" / "more" / "new.mp4", 16, 8)
    films.go(dataset.parent / "raw", tmp_path / "changed", films.Work(workers=1), films.Luma(scale=0.9))
    found = compare(dataset, tmp_path / "changed", 1e-6)
    text = "\n".join(found.lines())
    assert not found.none
    assert len(found.only[1]) == 2
    assert "brightness" in text
    assert "tier" in text


def test_scanning_refuses_a_missing_folder_and_keeps_shards_apart(dataset: Path, tmp_path: Path):
    with pytest.raises(InputError, match="no folder"):
        scan(tmp_path / "nowhere")
    raw = dataset.parent / "raw"
    parts = [{file.path for file in scan(raw, (index, 3))} for index in range(3)]
    assert set.union(*parts) == {file.path for file in scan(raw)}
    assert sum(map(len, parts)) == len(set.union(*parts))
