"""What a finished file tells: the settings that made it, and the picture at one moment."""

from pathlib import Path
from typing import Any

import av
from PIL import Image

from kinema.errors import KinemaError
from kinema.media.video import read_metadata
from kinema.serve.uploads import HEAD, known_format

CARRIERS = {".mp4": "video/mp4", ".png": "image/png"}  # by what a file is named and by what it is: no other reader is tried on it


def read_recipe(path: Path) -> dict[str, Any] | None:
    """The request that made this file, as it would lie in the queue, if it is one of ours; None for whatever else it is."""
    with path.open("rb") as file:
        found = known_format(file.read(HEAD))
    if found is None or found[0] != CARRIERS.get(path.suffix.lower()):
        return None
    try:
        recipe = read_metadata(path)
    except KinemaError:
        return None
    if recipe is None or not isinstance(recipe.get("model"), str):
        return None
    try:
        return spoken(recipe) if "avatar" in recipe else filmed(recipe)
    except (KeyError, TypeError, AttributeError, ValueError):  # somebody else's JSON under our name
        return None


def filmed(recipe: dict[str, Any]) -> dict[str, Any]:
    """Of a video's own metadata."""
    lora = [f"{Path(each['file']).name}:{each['scale']}" for each in recipe.get("loras", [])]
    return {"model": recipe["model"], "lora": next(iter(lora), None)} | dict(recipe["request"])


def spoken(recipe: dict[str, Any]) -> dict[str, Any]:
    """Of a speech's."""
    return {"model": recipe["model"]} | recipe["acting"] | {name: file["sha256"] for name, file in recipe["avatar"].items()}


def frame_at(path: Path, second: float) -> Image.Image:
    """What a video of ours shows at a second, or last; a picture as it is."""
    if path.suffix == ".png":
        return Image.open(path)
    with av.open(str(path)) as container:
        shown = next(container.decode(video=0))
        for frame in container.decode(video=0):
            if (frame.time or 0.0) > second:
                break
            shown = frame
        return shown.to_image()
