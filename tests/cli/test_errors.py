"""Bad input, bad files and a full disk, each in a process of its own: one clear line, the right status, nothing half done."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from kinema.cli import main

Command = Callable[..., "subprocess.CompletedProcess[str]"]

LIMIT_PROGRAM = (
    "import resource, os, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); os.execv(sys.argv[2], sys.argv[2:])"
)


def refused(result: "subprocess.CompletedProcess[str]", status: int, *words: str) -> None:
    """The command failed with one line that holds all of the words, and no traceback."""
    lines = [line for line in result.stderr.splitlines() if "error:" in line]
    assert result.returncode == status, result.stderr
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert not result.stdout
    for word in words:
        assert word in lines[0]


def nothing_in(folder: Path) -> bool:
    return not [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--size", 120, 128), ("height=120", "112 or 128", "multiple of 16")),
        (("--frames", 130), ("frames=130", "129 or 133")),
        (("--prompt", "  "), ("prompt='  '", "empty")),
    ],
)
def test_a_bad_value_is_named_with_its_rule_and_a_way_out(
    command: Command, tiny_folder: Path, tmp_path: Path, flags: tuple[object, ...], words: tuple[str, ...]
):
    result = command("generate", "--weights", tiny_folder, "--prompt", "A cat.", "--out", tmp_path / "out", *flags)
    refused(result, 2, *words)
    assert nothing_in(tmp_path / "out")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--steps", "0"), ("steps=0", "1 to 1000")),
        (("--sampler", "magic"), ("sampler='magic'", "euler")),
        (("--seed", "-1"), ("seed=-1",)),
        (("--shift", "nan"), ("shift=nan", "above 0")),
        (("--guidance", "0.5"), ("guidance=0.5", "1 (off)")),
        (("--num-videos", "0"), ("num_videos=0",)),
        (("--device", "cuda:77"), ("device='cuda:77'", "cpu")),
        (("--preset", "maxi"), ("'maxi'", "'tiny'")),
    ],
)
def test_other_values_likewise(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], words: tuple[str, ...]
):
    assert main(["generate", "--weights", str(tiny_folder), "--prompt", "A cat.", "--out", str(tmp_path), *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(word in line for word in words)
    assert nothing_in(tmp_path)


def test_an_unknown_preset_is_answered_with_the_known_ones(capsys: pytest.CaptureFixture[str]):
    assert main(["generate", "--prompt", "A cat.", "--preset", "maxi"]) == 2
    assert "mini" in capsys.readouterr().err


def test_missing_weights_are_told_with_where_to_put_them(command: Command, tmp_path: Path):
    result = command("generate", "--prompt", "A cat.", "--preset", "t2v_13b", "--weights", tmp_path / "ckpts")
    refused(result, 1, "mp_rank_00_model_states.pt")
    assert f"{tmp_path}/ckpts/" in result.stderr
    assert "kinema demo" in result.stderr


def test_a_truncated_checkpoint_is_told(command: Command, tiny_folder: Path, tmp_path: Path):
    folder = shutil.copytree(tiny_folder, tmp_path / "cut")
    weights = folder / "dit.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    refused(command("generate", "--prompt", "A cat.", "--weights", folder), 1, "dit.safetensors")


class Bomb:
    """Unpickling this writes a file: what a hostile checkpoint could do."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def test_code_in_a_checkpoint_is_never_run(command: Command, tmp_path: Path):
    hostile, trace = tmp_path / "hostile.pt", tmp_path / "trace"
    torch.save({"module": Bomb(trace)}, hostile)
    refused(command("info", hostile), 1, "hostile.pt")
    assert not trace.exists()


@pytest.mark.parametrize("room", [1024, 8192])  # bytes a file: too few for the latents; too few for the video
@pytest.mark.skipif(sys.platform == "win32", reason="no limits on file sizes there")
def test_a_full_disk_leaves_no_half_file(command: Command, tiny_folder: Path, tmp_path: Path, room: int):
    limited = (sys.executable, "-c", LIMIT_PROGRAM, str(room))
    result = command("generate", "--prompt", "A cat.", "--frames", 17, "--weights", tiny_folder, "--out", "out", wrapper=limited)
    refused(result, 1, "cannot write", "out/")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.suffix != ".safetensors"] == []


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_forbidden_folder_is_told_before_the_work_begins(command: Command, tiny_folder: Path, tmp_path: Path):
    forbidden = tmp_path / "forbidden"
    forbidden.mkdir(mode=0o555)
    mortal: tuple[str, ...] = ()
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root may write anywhere, and setpriv is not there to give that up")
        mortal = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    result = command("generate", "--prompt", "A cat.", "--weights", tiny_folder, "--out", forbidden, wrapper=mortal)
    refused(result, 1, str(forbidden), "ermission")
    assert "denoise" not in result.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_cleanly(tiny_folder: Path, tmp_path: Path, number: int, status: int):
    words = [sys.executable, "-m", "kinema", "generate", "--prompt", "A cat.", "--steps", "1000", "--weights", str(tiny_folder)]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what a shell starts in the background is deaf to it
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=heard) as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("denoise"):
            assert process.poll() is None
        time.sleep(0.1)
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == status
    assert ("interrupted" in rest) == (number == signal.SIGINT)
    assert "Traceback" not in rest
    assert nothing_in(tmp_path)


def test_an_unexpected_error_keeps_its_traceback_for_debug(command: Command, tiny_folder: Path, tmp_path: Path):
    folder = shutil.copytree(tiny_folder, tmp_path / "odd")
    (folder / "config.toml").unlink()
    (folder / "config.toml").mkdir()
    words = ("generate", "--prompt", "A cat.", "--weights", folder)
    assert "Traceback" not in command(*words).stderr
    assert "Traceback" in command(*words, "--debug").stderr
