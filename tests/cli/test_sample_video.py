"""`sample_video.py`: the published command lines work, corrected; what cannot work is refused with a word why."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from kinema.errors import InputError

SCRIPT = Path(__file__).parents[2] / "sample_video.py"
README_COMMAND = (
    "--video-size 720 1280 --video-length 129 --infer-steps 50 --flow-reverse --use-cpu-offload --save-path ./results --prompt cat"
)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sample_video", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def request_of(script: ModuleType, preset: str, *flags: str):
    from kinema.presets import MODELS

    args = script.build_parser().parse_args(["--prompt", "A cat.", *flags])
    script.check_flags(args)
    return script.request_of(args, MODELS[preset]())


def test_the_published_defaults_hold(script: ModuleType):
    request = request_of(script, "t2v_13b_distilled")
    assert (request.height, request.width, request.frames, request.steps) == (720, 1280, 129, 50)
    assert (request.shift, request.embedded_guidance, request.guidance, request.fps) == (7.0, 6.0, 1.0, 24)
    assert 0 <= request.seed <= 1_000_000


def test_published_flags_reach_the_request(script: ModuleType):
    flags = "--video-size 544 960 --video-length 65 --infer-steps 30 --flow-shift 5 --embedded-cfg-scale 7 --cfg-scale 2 --seed 9"
    request = request_of(script, "t2v_13b_distilled", *flags.split(), "--neg-prompt", "blurry", "--flow-solver", "euler")
    assert (request.height, request.width, request.frames, request.steps) == (544, 960, 65, 30)
    assert (request.shift, request.embedded_guidance, request.guidance, request.seed) == (5.0, 7.0, 2.0, 9)
    assert request.negative == "blurry"


def test_one_size_is_a_square(script: ModuleType):
    request = request_of(script, "mini", "--video-size", "64")
    assert (request.height, request.width) == (64, 64)


def test_a_negative_prompt_without_guidance_warns(script: ModuleType, capsys: pytest.CaptureFixture[str]):
    request_of(script, "t2v_13b_distilled", "--neg-prompt", "blurry")
    assert "--cfg-scale" in capsys.readouterr().err
    request_of(script, "t2v_13b_distilled", "--neg-prompt", "blurry", "--cfg-scale", "6")
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--batch-size", "4"), "--num-videos"),
        (("--text-len", "512"), "256"),
        (("--video-size", "1", "2", "3"), "not 3 numbers"),
        (("--video-length", "130"), "129 or 133"),
        (("--video-size", "721", "1280"), "720 or 736"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(script: ModuleType, flags: tuple[str, ...], words: str):
    with pytest.raises(InputError, match=words):
        request_of(script, "t2v_13b_distilled", *flags)


@pytest.mark.parametrize(
    ("flags", "mesh"),
    [
        ("--ulysses-degree 8 --ring-degree 1", ("ulysses", 8)),
        ("--ulysses-degree 1 --ring-degree 4", ("ring", 4)),
        ("--ulysses-degree 1", ("ulysses", 1)),
        ("", ("ulysses", 6)),
    ],
)
def test_the_degrees_become_a_mesh(script: ModuleType, flags: str, mesh: tuple[str, int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "6")
    config = script.mesh_of(script.build_parser().parse_args(flags.split()))
    assert (config.method, config.sequence, config.size) == (*mesh, mesh[1])


def test_both_degrees_at_once_are_refused(script: ModuleType):
    with pytest.raises(InputError, match="use one of them"):
        script.mesh_of(script.build_parser().parse_args(["--ulysses-degree", "2", "--ring-degree", "2"]))


def test_degrees_without_their_processes_say_how_to_start(
    script: ModuleType, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(script.MODELS, "tiny", "tiny")
    args = script.build_parser().parse_args(f"--model tiny --model-base {tiny_folder} --prompt cat --ulysses-degree 8".split())
    with pytest.raises(InputError, match="torchrun --nproc-per-node 8"):
        script.load(args)


@pytest.mark.parametrize("flag", ["use-fp8", "use-linear-quadratic-schedule", "model-resolution", "seed-type", "name-suffix"])
def test_dead_flags_are_refused_with_a_word_why(script: ModuleType, flag: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        script.build_parser().parse_args(["--prompt", "A cat.", f"--{flag}"])
    assert stop.value.code == 2
    assert script.REFUSED[flag] in " ".join(capsys.readouterr().err.split())


def test_tiling_can_be_turned_off(script: ModuleType):
    assert not script.build_parser().parse_args(["--no-vae-tiling"]).vae_tiling


def test_without_weights_it_says_where_to_put_them(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MODEL_BASE", raising=False)
    monkeypatch.setattr(sys, "argv", ["sample_video.py", *README_COMMAND.split()])
    assert script.main() == 1
    said = capsys.readouterr().err
    assert "ckpts/hunyuan-video-t2v-720p/transformers/mp_rank_00_model_states.pt" in said
    assert "text_encoder_2/" in said
    assert "--model mini" in said
    assert not list(tmp_path.iterdir())


def test_it_makes_every_video_that_was_asked_for(script: ModuleType, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(script.MODELS, "tiny", "tiny")
    words = f"--model tiny --model-base {tiny_folder} --prompt cat --seed 5 --num-videos 2 --infer-steps 2 --cfg-scale 3 --neg-prompt dog"
    monkeypatch.setattr(sys, "argv", ["sample_video.py", *words.split(), "--save-path", str(tmp_path / "out"), "--save-path-suffix", "x"])
    assert script.main() == 0
    made = [json.loads(path.read_text()) for path in sorted((tmp_path / "out_x").glob("*.json"))]
    assert sorted(each["seed"] for each in made) == [5, 6]
    assert made[0]["request"]["negative"] == "dog"


def test_a_python_without_kinema_says_what_to_run(tmp_path: Path):
    alone = shutil.copy(SCRIPT, tmp_path)
    result = subprocess.run([sys.executable, "-I", "-S", alone, "--help"], capture_output=True, text=True)
    assert result.returncode == 1
    assert "make setup" in result.stderr
    assert "Traceback" not in result.stderr
