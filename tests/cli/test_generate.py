"""`kinema generate`: what it writes, that it repeats itself, and that nothing done is lost."""

import json
from pathlib import Path

import pytest
import torch

import kinema
from kinema.cli import main
from kinema.config import build
from kinema.media.video import probe, read_metadata, read_video
from kinema.pipelines.files import load_latents

PROMPT = 'A "cat": walks? on/the\\grass*'


def generate(folder: Path, out: Path, *args: object) -> int:
    return main(["generate", "--weights", str(folder), "--out", str(out), "--dtype", "fp32", *map(str, args)])


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_a_prompt_becomes_a_video_that_can_be_made_again(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert generate(tiny_folder, tmp_path, "--prompt", PROMPT, "--seed", 7) == 0
    video, sidecar = only(tmp_path, "*.mp4"), json.loads(only(tmp_path, "*.json").read_text())
    assert capsys.readouterr().out.strip() == str(video)
    info, recipe = probe(video), read_metadata(video)
    assert (info.frames, info.height, info.width, info.codec) == (5, 32, 48, "h264")
    assert recipe is not None
    assert sidecar.items() >= recipe.items()
    assert (sidecar["prompt"], sidecar["seed"], sidecar["file"]) == (PROMPT, 7, video.name)
    assert sidecar["timings"].keys() >= {"text", "denoise", "decode"}
    assert all(len(sha) == 64 for sha in recipe["weights_sha256"].values())

    again = kinema.load(weights=tiny_folder, dtype=recipe["dtype"])
    latents, _ = load_latents(tmp_path / sidecar["latents"])
    assert torch.equal(again.generate(build(kinema.Request, recipe["request"])).latents, latents)


def test_the_same_seed_writes_the_same_bytes_whatever_else_is_made(tiny_folder: Path, tmp_path: Path):
    assert generate(tiny_folder, tmp_path / "alone", "--prompt", "A dog.", "--seed", 4) == 0
    assert generate(tiny_folder, tmp_path / "third", "--prompt", "A dog.", "--seed", 2, "--num-videos", 3) == 0
    alone, third = (only(tmp_path / name, "*seed4*.mp4") for name in ("alone", "third"))
    assert alone.read_bytes() == third.read_bytes()
    assert len({path.read_bytes() for path in (tmp_path / "third").glob("*.mp4")}) == 3


def test_one_frame_becomes_a_picture(tiny_folder: Path, tmp_path: Path):
    assert generate(tiny_folder, tmp_path, "--prompt", "A red apple.", "--frames", 1) == 0
    metadata = read_metadata(only(tmp_path, "*.png"))
    assert metadata is not None
    assert metadata["request"]["frames"] == 1


def test_names_are_safe_on_every_system_and_never_the_same(tiny_folder: Path, tmp_path: Path):
    for _ in range(2):
        assert generate(tiny_folder, tmp_path, "--prompt", PROMPT, "--seed", 1) == 0
    names = [path.name for path in tmp_path.glob("*.*")]
    assert len(names) == 4
    assert not set("".join(names)) & set('<>:"/\\|?*\n ')


def test_a_run_stopped_before_decoding_is_finished_from_its_latents(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert generate(tiny_folder, tmp_path / "whole", "--prompt", "A cat.", "--seed", 3) == 0
    with monkeypatch.context() as patch:
        patch.setattr("kinema.cli.generate.ProgressBar.__call__", interrupt_decoding)
        assert generate(tiny_folder, tmp_path / "cut", "--prompt", "A cat.", "--seed", 3) == 130
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["latents"]

    assert generate(tiny_folder, tmp_path / "later", "--from-latents", only(tmp_path / "cut" / "latents", "*")) == 0
    whole, later = (read_video(only(tmp_path / name, "*.mp4"))[0] for name in ("whole", "later"))
    assert torch.equal(whole, later)
    assert "another VAE" not in capsys.readouterr().err


def interrupt_decoding(bar: object, stage: str, done: int, total: int) -> None:
    if stage == "decode":
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "A cat.\n\nA dog.\n"),
        ("list.csv", ',prompt\n0,A cat.\n1,"A dog."\n'),
        ("list.jsonl", '{"prompt": "A cat."}\n{"prompt": "A dog."}\n'),
    ],
)
def test_a_list_goes_on_where_it_stopped(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str):
    prompts, out = tmp_path / name, tmp_path / "out"
    prompts.write_text(text)
    assert generate(tiny_folder, out, "--prompts", prompts) == 0
    made = {path.name: path.stat().st_mtime_ns for path in out.glob("*.mp4")}
    assert len(made) == 2
    only(out, "*a-dog*.json").unlink()  # as if the run had stopped in the middle of the second video
    capsys.readouterr()
    assert generate(tiny_folder, out, "--prompts", prompts) == 0
    assert "1 of 2 are done, 1 to make" in capsys.readouterr().err
    again = {path.name: path.stat().st_mtime_ns for path in out.glob("*.mp4")}
    assert again.keys() == made.keys()
    assert [name for name in made if made[name] != again[name]] == [only(out, "*a-dog*.mp4").name]


def test_a_row_may_bring_its_own_seed(tiny_folder: Path, tmp_path: Path):
    prompts = tmp_path / "list.jsonl"
    prompts.write_text('{"prompt": "A cat.", "seed": 5}\n{"prompt": "A cat."}\n')
    assert generate(tiny_folder, tmp_path, "--prompts", prompts, "--seed", 9) == 0
    assert sorted(json.loads(path.read_text())["seed"] for path in tmp_path.glob("*.json")) == [5, 9]


def test_offloading_changes_no_bit(tiny_folder: Path):
    plain, sparing = (kinema.load(weights=tiny_folder, offload=offload) for offload in (False, True))
    request = plain.config.request("A cat.", seed=1)
    assert torch.equal(plain.generate(request).frames, sparing.generate(request).frames)
    assert sparing.prompts.encoder is None


def test_guidance_and_the_negative_prompt_change_the_video(tiny_folder: Path):
    pipeline = kinema.load(weights=tiny_folder, dtype="fp32")
    base = {"seed": 1, "guidance": 4.0}
    requests = [pipeline.config.request("A cat.", **base | more) for more in ({}, {"guidance": 1.0}, {"negative": "a dog"})]
    latents = [pipeline.generate(request).latents for request in requests]
    assert not torch.equal(latents[0], latents[1])
    assert not torch.equal(latents[0], latents[2])


def test_a_prompt_that_is_too_long_is_told(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert generate(tiny_folder, tmp_path, "--prompt", "A cat walks on the grass. " * 40) == 0
    assert "only the first 128 tokens" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["world", "i2v", "avatar"])
def test_an_evaluation_takes_the_transformer_that_it_is_given(
    what: str, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["evaluate", what, "--weights", str(tiny_folder), "--dit", "gone.safetensors", "--out", str(tmp_path / "out")]) != 0
    assert "gone.safetensors" in capsys.readouterr().err
