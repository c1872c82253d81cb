"""Whole runs, tiny: distil a folder of weights into another, adapt one to a folder of videos, and generate with both."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import kinema
from kinema.config import parse_config, to_toml
from kinema.data.buckets import Bucket
from kinema.data.store import MadeBy, Sample, StoreWriter
from kinema.distill.guidance import GuidanceTask
from kinema.distill.lora import LoraRecipe, train_lora
from kinema.distill.recipe import DistillRecipe, distill
from kinema.distill.steps import StepsTask
from kinema.dit.lora import LoraConfig
from kinema.dit.model import DiT
from kinema.errors import InputError
from kinema.media.video import read_metadata, write_video
from kinema.parallel.mesh import MeshConfig
from kinema.pipelines.loras import LoraFile
from kinema.train.loop import LoopConfig
from kinema.train.stages import Stage
from kinema.train.video import VideoTask
from kinema.weights.lora import read_lora

ROW = Stage(name="all", sides=(32,), frames=(5,), steps=1, tokens=32)
LOOP = {"steps": 3, "lr": 1e-3, "warmup": 1, "log_every": 1}


@pytest.fixture
def encoded(tmp_path, tiny_config) -> Path:
    """A store as `kinema encode` leaves it, of noise."""
    draw, bucket = torch.Generator().manual_seed(0), Bucket(5, 32, 32)
    width = tiny_config.dit.text_width
    with StoreWriter(tmp_path / "store", MadeBy(vae="a", text_encoder="b", template="{}", text_len=8)) as writer:
        writer.write_null(torch.randn(1, 1, width, generator=draw), torch.randn(width, generator=draw))
        for number in range(16):
            mean = torch.randn(bucket.latent_shape, generator=draw)
            text = [torch.randn(6, width, generator=draw)]
            pooled = torch.randn(1, width, generator=draw)
            writer.add(Sample(id=str(number), bucket=bucket, mean=mean, logvar=mean - 20, text=text, pooled=pooled, facts={"texts": ["x"]}))
    return tmp_path / "store"


def recipe_of(teacher: Path, encoded: Path, out: Path, **tables) -> DistillRecipe:
    data = VideoTask(folders=(encoded,), stages=(ROW,), workers=1)
    recipe = DistillRecipe(teacher=teacher, data=data, loop=LoopConfig(out=out, **LOOP), device="cpu", **tables)
    assert parse_config(DistillRecipe, to_toml(recipe)) == recipe
    return recipe


def calls_of(pipeline, monkeypatch, **options) -> int:
    """How often the transformer is asked for one video."""
    count = 0
    forward = DiT.forward

    def counted(*args, **kwargs):
        nonlocal count
        count += 1
        return forward(*args, **kwargs)

    monkeypatch.setattr(DiT, "forward", counted)
    pipeline.generate(pipeline.config.request("A cat.", seed=0, **options))
    return count


def test_a_student_asks_its_transformer_once_a_step_and_a_second_student_few_times(tiny_folder, encoded, tmp_path, monkeypatch):
    distill(recipe_of(tiny_folder, encoded, tmp_path / "guidance", guidance=GuidanceTask(high=4.0)))
    guided = kinema.load(weights=tmp_path / "guidance", device="cpu")
    assert guided.config.dit.guidance
    assert calls_of(guided, monkeypatch, guidance=3.0) == guided.config.defaults.steps == 2
    distill(recipe_of(tmp_path / "guidance", encoded, tmp_path / "steps", steps=StepsTask(steps=3, stops=2, shift=2.0)))
    few = kinema.load(weights=tmp_path / "steps", device="cpu")
    assert few.config.name.endswith("3steps")
    request = few.config.request("A cat.", seed=0)
    assert (request.steps, request.shift, request.sampler) == (3, 2.0, "euler")
    with pytest.raises(InputError, match="takes a guidance scale already"):
        distill(recipe_of(tmp_path / "guidance", encoded, tmp_path / "again"))


def test_steps_can_be_distilled_from_an_undistilled_teacher(tiny_folder, encoded, tmp_path):
    run = distill(recipe_of(tiny_folder, encoded, tmp_path / "steps", steps=StepsTask(steps=2, stops=2)))
    assert run.step == LOOP["steps"]
    assert run.skipped == 0
    rows = [json.loads(line) for line in (tmp_path / "steps/log.jsonl").read_text().splitlines()]
    assert {"phase_0", "phase_1"} <= set().union(*rows)


def test_a_distillation_has_one_stage(tiny_folder, encoded, tmp_path):
    with pytest.raises(InputError, match="has 6 rows"):
        DistillRecipe(
            teacher=tiny_folder, data=VideoTask(folders=(encoded,), stages="mini", reviewed=(encoded,)), loop=LoopConfig(out=tmp_path)
        )


@pytest.fixture
def clips(tmp_path) -> Path:
    """A user's folder: three videos of another size than the model's, with captions."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(3):
        write_video(folder / f"{number}.mp4", torch.randint(0, 255, (7, 48, 64, 3), dtype=torch.uint8), fps=12)
        (folder / f"{number}.txt").write_text(f"A zorb, number {number}.")
    return folder


def lora_recipe(model: Path, clips: Path, out: Path, **changes) -> LoraRecipe:
    lora = LoraConfig(rank=4, alpha=2.0, dropout=0.1)
    loop = LoopConfig(out=out, **LOOP | {"warmup": 0, "lr_floor": 1.0})  # a rate that does not depend on the number of steps
    return LoraRecipe(model=model, clips=clips, trigger="zorb", lora=lora, loop=loop, device="cpu", **changes)


def test_adapters_trained_on_a_folder_of_videos_change_what_is_generated(tiny_folder, clips, tmp_path, command):
    recipe = lora_recipe(tiny_folder, clips, tmp_path / "lora")
    assert parse_config(LoraRecipe, to_toml(recipe)) == recipe
    train_lora(recipe)
    path = tmp_path / "lora/lora.safetensors"
    about = read_lora(path).about
    assert about["trigger"] == "zorb"
    assert (about["rank"], about["alpha"], about["base_model"]) == (4, 2.0, "tiny")
    words = ("generate", "--weights", tiny_folder, "--prompt", "A zorb.", "--seed", 1, "--device", "cpu", "--dtype", "fp32")
    made = command(*words, "--lora", f"{path}:0.5", "--lora", path)
    assert made.returncode == 0, made.stderr
    plain = command(*words)
    recipes = [read_metadata(tmp_path / run.stdout.strip()) for run in (made, plain)]
    assert [lora["scale"] for lora in recipes[0]["loras"]] == [0.5, 1.0]
    assert "loras" not in recipes[1]
    assert recipes[0]["loras"][0]["sha256"] == recipes[0]["loras"][1]["sha256"]
    frames = [kinema.load(weights=tiny_folder, device="cpu", loras=loras).generate for loras in ([f"{path}:50"], [f"{path}:0"], [])]
    request = kinema.load(weights=tiny_folder, device="cpu").config.request("A zorb.", seed=1)
    strong, off, none = (generate(request).latents for generate in frames)
    assert torch.equal(off, none)
    assert not torch.equal(strong, none)


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tiny_folder, clips, tmp_path):
    whole, stopped = (lora_recipe(tiny_folder, clips, tmp_path / name) for name in ("whole", "stopped"))
    train_lora(whole)
    train_lora(replace(stopped, loop=replace(stopped.loop, steps=2)))
    train_lora(stopped)
    a, b = (read_lora(tmp_path / name / "lora.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(pair.up, b.pairs[name].up) for name, pair in a.pairs.items())


@pytest.mark.slow  # starts four processes
def test_two_ranks_train_the_adapters_of_one(tiny_folder, clips, tmp_path):
    recipe = lora_recipe(tiny_folder, clips, tmp_path / "alone")
    recipe = replace(recipe, lora=replace(recipe.lora, dropout=0.0))
    train_lora(recipe)
    (tmp_path / "lora.toml").write_text(to_toml(recipe))
    alone = read_lora(tmp_path / "alone/lora.safetensors")
    for axis in ("data", "shard"):
        starter = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        words = ["-m", "kinema", "train", "lora.toml", f"mesh.{axis}=2", f"loop.out={axis}"]
        ended = subprocess.run([*starter, *words], cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr[-3000:]
        pair = read_lora(tmp_path / axis / "lora.safetensors")
        for ours, theirs in zip(losses_and_norms(tmp_path / axis), losses_and_norms(tmp_path / "alone"), strict=True):
            assert ours == pytest.approx(theirs, rel=5e-3)  # bfloat16 sums in another order
        for name, found in alone.pairs.items():
            assert (pair.pairs[name].up - found.up).norm() < 0.2 * found.up.norm()  # Adam magnifies where a gradient is nearly 0


def losses_and_norms(run: Path) -> list[tuple[float, float]]:
    rows = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [(row["loss"], row["grad_norm"]) for row in rows]


def test_adapters_do_not_share_samples_between_ranks(tiny_folder, clips, tmp_path):
    with pytest.raises(InputError, match="data and shard alone"):
        lora_recipe(tiny_folder, clips, tmp_path / "lora", mesh=MeshConfig(sequence=2))


def test_clips_without_captions_are_named(tiny_folder, clips, tmp_path):
    (clips / "1.txt").unlink()
    with pytest.raises(InputError, match=r"1 clips of .*1\.mp4"):
        train_lora(lora_recipe(tiny_folder, clips, tmp_path / "lora"))


@pytest.mark.parametrize("name", ["missing.safetensors", "missing.safetensors:0.5"])
def test_a_bad_file_is_one_clear_line(name, tiny_folder, tmp_path, command):
    words = ("generate", "--weights", tiny_folder, "--prompt", "A zorb.", "--lora")
    gone = command(*words, name)
    assert gone.returncode == 2
    assert "does not exist" in gone.stderr
    (tmp_path / "bad.safetensors").write_bytes(b"not adapters")
    bad = command(*words, "bad.safetensors")
    assert bad.returncode == 1
    lines = [line for line in bad.stderr.splitlines() if line.startswith("kinema")]
    assert len(lines) == 1
    assert "bad.safetensors" in lines[0]


def test_strengths_are_read_from_the_end_of_the_name(tmp_path):
    for name in ("a.safetensors", "b:2.safetensors"):
        (tmp_path / name).touch()
    assert LoraFile.parse(f"{tmp_path}/a.safetensors:-0.5").scale == -0.5
    assert LoraFile.parse(f"{tmp_path}/b:2.safetensors") == LoraFile(tmp_path / "b:2.safetensors", 1.0)
    assert LoraFile.parse(f"{tmp_path}/b:2.safetensors:0.8") == LoraFile(tmp_path / "b:2.safetensors", 0.8)
