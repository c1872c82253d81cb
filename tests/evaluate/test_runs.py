"""A run: models and prompts to rows, tables and one page; kept by content, never stopped by one bad video."""

import json
import re

import numpy as np
import pytest
import torch

from kinema.cli import main
from kinema.errors import InputError
from kinema.evaluate import measure
from kinema.evaluate.autoencoder import prepared
from kinema.evaluate.metrics.table import METRICS, chosen
from kinema.evaluate.promptsets import Ask
from kinema.evaluate.runner import Source, run_evaluation
from kinema.evaluate.speed import blob_video
from kinema.evaluate.summary import summarise
from kinema.media.video import write_video

PROMPTS = ["a ball moves to the right", "a ball moves to the left", "a ball <b>& a wall</b>"]
SOME = "smoothness,temporal_flicker,direction,seams,psnr"


@pytest.fixture
def folders(tmp_path):
    """Videos of two models, one of which adds noise and has a broken file."""
    for name, noise in (("clean", 0), ("noisy", 40)):
        (tmp_path / name).mkdir()
        for number in range(3):
            frames = blob_video((9, 48, 64), number).astype(np.float32)
            frames += noise * np.random.default_rng(number).standard_normal(frames.shape)
            write_video(tmp_path / name / f"{number}.mp4", frames.clip(0, 255).astype(np.uint8), 8)
    (tmp_path / "noisy" / "2.mp4").write_bytes(b"no video")
    return tmp_path


def evaluate(folders, **changes):
    sources = [Source(name, folders / name) for name in ("clean", "noisy")]
    given = {"reference": folders / "clean", "workers": 1, "title": "Two <models>"} | changes
    return run_evaluation(sources, [Ask(prompt) for prompt in PROMPTS], chosen(SOME), folders / "out", **given)


def test_a_run_tells_the_better_model_and_keeps_what_it_measured(folders, monkeypatch):
    found = evaluate(folders)
    for name in ("smoothness", "temporal_flicker", "psnr"):
        clean, noisy = found.cells[name]
        assert clean.mean > noisy.mean
        assert clean.low <= clean.mean <= clean.high
        assert (clean.count, noisy.count) == (3, 2)
    broken = next(row for row in found.rows if row.error)
    assert (broken.model, broken.number) == ("noisy", 2)
    assert found.cells["direction"][0].count == 2
    page = (folders / "out" / "report.html").read_text(encoding="utf-8")
    assert "Two &lt;models&gt;" in page
    assert "<b>& a wall" not in page
    assert page.count("<video") == 5
    assert "cannot read" in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    results = json.loads((folders / "out" / "results.json").read_text(encoding="utf-8"))
    assert results["metrics"]["psnr"]["models"]["clean"]["mean"] == 100
    assert len((folders / "out" / "results.csv").read_text(encoding="utf-8").splitlines()) == 7
    monkeypatch.setattr(measure, "measure", None)  # nothing is measured again
    assert evaluate(folders).cells == found.cells


def test_folders_may_hold_more_videos_than_are_asked_for(folders):
    assert len(evaluate(folders, count=2).rows) == 4


def test_a_missing_video_is_a_row(folders):
    (folders / "noisy" / "2.mp4").unlink()
    assert [row.error for row in evaluate(folders).rows if row.error] == ["there is no video for this prompt"]


def test_models_of_one_name_are_refused(folders):
    with pytest.raises(InputError, match="name of its own"):
        run_evaluation([Source("a", folders / "clean")] * 2, [Ask(p) for p in PROMPTS], chosen(SOME), folders / "out")


def test_a_metric_that_fails_is_a_reason(folders, monkeypatch):
    def fail(clip):
        raise RuntimeError("out of luck")

    monkeypatch.setitem(METRICS, "seams", METRICS["smoothness"].__class__("visual", fail, 1, 0, "x", "y"))
    found = measure.measure(measure.Job(folders / "clean" / "0.mp4", PROMPTS[0], ("smoothness", "seams"), ()))
    assert found.reasons == {"seams": "RuntimeError: out of luck"}
    assert set(found.values) == {"smoothness"}


def test_content_decides_what_is_known(folders):
    job = measure.Job(folders / "clean" / "0.mp4", "a", (), ())
    (folders / "copy.mp4").write_bytes(job.video.read_bytes())
    assert measure.key_of(job) == measure.key_of(measure.Job(folders / "copy.mp4", "a", (), ()))
    assert measure.key_of(job) != measure.key_of(measure.Job(folders / "clean" / "1.mp4", "a", (), ()))
    assert measure.key_of(job) != measure.key_of(measure.Job(job.video, "b", (), ()))


def test_a_damaged_record_is_measured_again(tmp_path):
    store = measure.Store(tmp_path)
    (tmp_path / "x.json").write_text("{", encoding="utf-8")
    assert store.read("x") == measure.Measured()


def test_intervals_hold_the_truth_and_the_best_is_sure_only_where_it_is():
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(40):
        values = rng.normal(1.0, 1.0, (1, 50))
        cell = summarise(values, True, seed)[0]
        held += cell.low <= 1.0 <= cell.high
    assert held >= 34
    same = rng.normal(size=(1, 60))
    assert not any(cell.decided for cell in summarise(np.concatenate([same, same]), True))
    apart = summarise(np.concatenate([same, same + 1]), True)
    assert [cell.decided for cell in apart] == [False, True]
    assert [cell.decided for cell in summarise(np.concatenate([same, same + 1]), False)] == [True, False]


def test_models_without_a_value_have_none():
    cell = summarise(np.full((1, 4), np.nan), True)[0]
    assert cell.count == 0
    assert np.isnan(cell.mean)


def test_the_command_line_names_what_is_wrong(tmp_path, capsys):
    (tmp_path / "p.txt").write_text("a cat\n", encoding="utf-8")
    flags = ["--prompts", str(tmp_path / "p.txt"), "--out", str(tmp_path / "out")]
    assert main(["evaluate", "run", "--model", "nobody", *flags]) == 2
    assert "no preset" in capsys.readouterr().err
    assert main(["evaluate", "run", "--model", f"a={tmp_path}", "--metrics", "beauty", *flags]) == 2
    assert main(["evaluate", "metrics"]) == 0
    assert "subject_consistency_effnet" in capsys.readouterr().out


def test_the_papers_protocol_cuts_videos_to_size(tmp_path):
    write_video(tmp_path / "a.mp4", blob_video((9, 64, 96), 0), 8)
    assert prepared(tmp_path / "a.mp4", (5, 32, 32)).shape == torch.Size((5, 32, 32, 3))
    with pytest.raises(InputError, match="33 are needed"):
        prepared(tmp_path / "a.mp4", (33, 32, 32))


def test_results_are_kept_for_the_very_code_and_weights_that_made_them():
    for pattern in measure.MEASURING:
        assert list(measure.HOUSE.glob(pattern)), pattern
    for judge in measure.JUDGES:
        assert list((measure.HOUSE / "pretrained" / judge).glob("*.[sn]*")), judge
