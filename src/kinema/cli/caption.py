"""`kinema caption`: clips -> structured captions, one line of JSON each."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinema.cli.console import ProgressBar, say
from kinema.cli.rewrite import endpoint_flags
from kinema.errors import InputError, OutputError

if TYPE_CHECKING:
    from kinema.caption.captioner import Captioner

ENDINGS = (".mp4", ".webm", ".mkv", ".mov", ".avi")


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE|DIR", help="clips of one shot each")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="captions.jsonl to add to; what is in it already is skipped; default: print"
    )
    parser.add_argument("--only", choices=("camera",), help="camera: nothing but the camera's movement, offline")
    parser.add_argument("--model", metavar="NAME|DIR", help="a vision-language model of transformers; default: the offline captioner")
    parser.add_argument("--device", default="cpu", help="for --model; default: %(default)s")
    endpoint_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    captioner = captioner_of(args)
    paths = sorted(set(clips_in(args.paths)))
    done = keys_in(args.out) if args.out else set()
    waiting = [path for path in paths if str(path) not in done]
    say(f"{len(paths) - len(waiting)} of {len(paths)} are done, {len(waiting)} to caption")
    with ProgressBar() as bar:
        for number, path in enumerate(waiting, 1):
            write(args.out, rows_of(path, captioner))
            bar("caption", number, len(waiting))


def captioner_of(args: argparse.Namespace) -> "Captioner | None":
    """Who the flags ask for, by default the offline one; None: only the camera's movement is wanted."""
    from kinema.caption.captioner import Kind, captioner

    kinds: dict[str, Kind] = {"only": "camera", "model": "transformers", "endpoint": "endpoint"}
    chosen = [kinds[name] for name in kinds if getattr(args, name)]
    if len(chosen) > 1:
        raise InputError("say who captions, once: --endpoint URL --endpoint-model NAME, --model NAME, or --only camera")
    kind = chosen[0] if chosen else "offline"
    model = args.endpoint_model if kind == "endpoint" else args.model
    return captioner(kind, model or "", args.endpoint or "", args.device)


def clips_in(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (each for each in path.rglob("*") if each.suffix.lower() in ENDINGS)
        elif path.is_file():
            yield path
        else:
            raise InputError(f"{path} does not exist")


def keys_in(out: Path) -> set[str]:
    if not out.exists():
        return set()
    try:
        return {json.loads(line)["key"] for line in out.read_text(encoding="utf-8").splitlines() if line.strip()}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{out} is no file of captions: name another, or remove it") from error


def rows_of(path: Path, captioner: "Captioner | None") -> dict[str, Any]:
    """One clip's row: a caption with its health, or the camera's movement alone. A file that cannot be read is a row with its error."""
    from kinema.caption.camera import movement
    from kinema.caption.captioner import described
    from kinema.media.video import read_video

    try:
        frames, fps = read_video(path)
        found = movement(frames.numpy(), fps)
    except InputError as error:
        return {"key": str(path), "error": str(error)}
    if captioner is None:
        return {"key": str(path), "camera_movement": found.told, "confidence": round(found.confidence, 3)}
    return asdict(described(str(path), frames.numpy(), captioner, found.told))


def write(out: Path | None, row: dict[str, Any]) -> None:
    line = json.dumps(row, ensure_ascii=False)
    if out is None:
        print(line, flush=True)
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}") from error
