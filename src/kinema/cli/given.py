"""The flags for what a video begins with, ends with, passes through, or continues."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kinema.cli.console import say
from kinema.errors import InputError

if TYPE_CHECKING:
    from kinema.conditioning.frames import Given
    from kinema.pipelines.base import Request


def given_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--image", type=Path, action="append", default=[], metavar="FILE", help="a picture that the video begins with; may be repeated"
    )
    group.add_argument(
        "--image-at", action="append", default=[], metavar="FRAME", help="where each --image stands: a number from 0, or last; default: 0"
    )
    group.add_argument("--video", type=Path, metavar="FILE", help="a video to continue: its last frames are the first of the new one")
    group.add_argument(
        "--reference", type=Path, metavar="FILE", help="a picture of the subject, before a plain ground; no frame of the video"
    )
    group.add_argument("--no-recall", action="store_true", help="mini looks up what its world's subjects look like; this tells it not to")
    group.add_argument("--stability", action="store_true", help="calmer motion: a trace of the first picture in all frames' noise")


def place_of(text: str) -> int:
    """A frame's number; -1 is the last."""
    if text == "last":
        return -1
    try:
        return int(text)
    except ValueError:
        raise InputError(f"--image-at {text!r} is no place: use a frame's number from 0, or last") from None


def given_of(args: argparse.Namespace) -> tuple["Given", ...]:
    """The files that the flags name, with their places. Raises InputError where flags do not fit together or a file cannot be read."""
    from kinema.conditioning.frames import Given

    places = [place_of(text) for text in args.image_at] or [0] * min(len(args.image), 1)
    if len(places) != len(args.image):
        raise InputError(f"{len(args.image)} times --image and {len(places)} times --image-at: give every picture its place")
    pictures = [Given.picture(path, at) for path, at in zip(args.image, places, strict=True)]
    return (*([Given.footage(args.video)] if args.video else []), *pictures)


def reference_of(args: argparse.Namespace) -> "Given | None":
    """Raises InputError where the file cannot be read."""
    from kinema.conditioning.frames import Given

    return Given.picture(args.reference) if args.reference else None


def say_crops(request: "Request") -> None:
    """How much of each file is cut off: it is resized until it covers the video, and its middle is taken."""
    from kinema.conditioning.sizes import cropped

    for each in request.given:
        lost = cropped(each.height, each.width, (request.height, request.width))
        say(f"{each.path}: {each.width}x{each.height} fills {request.width}x{request.height}, {lost:.0%} at its edges is cut off")
