"""`kinema avatar`: a picture and a voice -> a video that speaks."""

import argparse
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kinema.cli.console import say
from kinema.cli.generate import load, model_flags
from kinema.errors import InputError

if TYPE_CHECKING:
    from kinema.pipelines.avatar import Acting, Portrait, TalkingFace


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", type=Path, required=True, metavar="FILE", help="a picture with a face, which is cut to it")
    parser.add_argument("--audio", type=Path, required=True, metavar="FILE", help="speech; any sound file, or a video's sound")
    parser.add_argument("--face", type=int, metavar="N", help="which face, counted from the left from 1; default: the largest")
    how = parser.add_argument_group("how it acts")
    how.add_argument("--expression", metavar="NAME", help="neutral, happy, sad, angry or surprised; default: as the model likes")
    how.add_argument("--drive", type=Path, metavar="VIDEO", help="a video whose face gives expression, blinks and head pose")
    how.add_argument("--pose", type=Path, metavar="FILE.json", help="head pose frame by frame, such as the truth of `kinema world speak`")
    how.add_argument("--prompt", metavar="TEXT", help="default: what the avatar was trained with")
    how.add_argument("--steps", type=int, default=4, metavar="N", help="denoising steps a window; default: %(default)s")
    how.add_argument(
        "--guidance", type=float, default=1.0, metavar="G", help="how closely the mouth follows; 1 is off; default: %(default)s"
    )
    how.add_argument(
        "--begin", type=float, default=0.1, metavar="S", help="noise level at which the transformer takes over from the sketch, up to 1"
    )
    how.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same frames; default: random")
    how.add_argument(
        "--stream", action="store_true", help="take the sound in as it would arrive, tell each chunk's delay, keep to short chunks"
    )
    parser.add_argument("--out", type=Path, default=Path("outputs"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--avatar", type=Path, metavar="FILE", help="adapters other than those shipped")
    model_flags(parser.add_argument_group("which model, and where it runs"))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from kinema.media.audio import read_audio
    from kinema.media.image import read_image
    from kinema.pipelines.avatar import LONGEST, SHIPPED, TalkingFace, portrait

    sound = read_audio(args.audio, longest=LONGEST)
    acting = acting_of(args)
    talking = TalkingFace(load(args, args.preset, args.dtype), args.avatar or SHIPPED)
    face = portrait(read_image(args.image), talking.file.avatar.config.side, args.face)
    print(film(args, talking, face, sound, acting))


def acting_of(args: argparse.Namespace) -> "Acting":
    from kinema.conditioning.drive import read_drive
    from kinema.conditioning.pose import read_pose
    from kinema.pipelines.avatar import STREAM_WINDOW, Acting

    if args.drive and args.pose:
        raise InputError("--drive and --pose both say how the head moves: leave one out")
    driven = read_drive(args.drive) if args.drive else None
    return Acting(
        seed=secrets.randbelow(2**31) if args.seed is None else args.seed,
        steps=args.steps,
        begin=args.begin,
        guidance=args.guidance,
        expression=args.expression,
        face_track=driven.face if driven else None,
        pose_track=driven.pose if driven else read_pose(args.pose) if args.pose else None,
        prompt=args.prompt,
        **({"window": STREAM_WINDOW} if args.stream else {}),
    )


def film(args: argparse.Namespace, talking: "TalkingFace", face: "Portrait", sound, acting: "Acting") -> Path:  # type: ignore[no-untyped-def]
    """Make the frames, write them with the voice, and tell how fast it went."""
    import torch

    from kinema.pipelines.files import fresh_name, make_folder
    from kinema.pipelines.speech import recipe_of, write_speech

    fps = talking.file.avatar.config.fps
    make_folder(args.out)
    began, parts, told = time.perf_counter(), [], 0.0
    chunks = talking.stream(face, sound, acting) if args.stream else talking.speak(face, sound, acting)
    for frames in chunks:
        parts.append(frames)
        told = time.perf_counter() - began
        say(f"{sum(map(len, parts))} frames after {told:.1f} s")
    frames = torch.cat(parts)
    path = args.out / f"{fresh_name(f'{args.image.stem} says {args.audio.stem}', acting.seed)}.mp4"
    files = {name: getattr(args, name) for name in ("image", "audio", "drive", "pose")}
    write_speech(path, frames, fps, sound, recipe_of(talking, acting, files, args.face))
    say(f"{len(frames) / told:.1f} frames a second; real time is {fps}")
    return path
