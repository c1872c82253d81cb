"""What mini remembers of the world: a small portrait of each subject, found by the words of a prompt.

Reading a prompt is by rules (`asked.py`): the first noun that names a subject. Portraits face as the sprite does, or as the prompt says
that it goes. Source of looking pictures up for a text: Chen et al. 2022 (Re-Imagen, arXiv 2209.14491).
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from kinema.errors import WeightsError
from kinema.media.files import whole_file
from kinema.world.asked import nouns, read
from kinema.world.portrait import portrait
from kinema.world.sprites import SpritePack, labelled_subjects

TILE, COLUMNS = 128, 28  # pixels of a portrait's edge; portraits a row
QUALITY = 85  # of the WebP
PICTURES, NAMES = "portraits.webp", "portraits.json"


@dataclass(frozen=True)
class Recalled:
    """Which portrait a prompt calls for."""

    subject: str  # its id
    noun: str  # as the prompt has it
    mirrored: bool  # turned round, to face where the prompt says it goes


def recall(prompt: str) -> Recalled | None:
    """The first subject that a prompt names; None where it names none of the world's."""
    asked = read(prompt)
    found = nouns().get(asked.subjects[0], ()) if asked.subjects else ()
    if not found:
        return None
    facing = next(subject.facing for subject in labelled_subjects() if subject.id == found[0])
    return Recalled(
        found[0], asked.subjects[0], asked.direction in ("left", "right") and facing in ("left", "right") and facing != asked.direction
    )


class Memory:
    """The portraits, as one picture."""

    def __init__(self, folder: Path):
        """Raises WeightsError where they are not there, or damaged."""
        try:
            self.places = {name: place for place, name in enumerate(json.loads((folder / NAMES).read_text()))}
            sheet = np.asarray(Image.open(folder / PICTURES).convert("RGB"))
        except (OSError, ValueError) as error:
            raise WeightsError(f"{folder} holds no portraits ({error}): make them with `kinema world portraits --out {folder}`") from error
        self.tiles = torch.from_numpy(rearrange(sheet, "(r h) (c w) d -> (r c) h w d", h=TILE, w=TILE).copy())

    def picture(self, recalled: Recalled) -> UInt8[Tensor, "128 128 3"]:
        tile = self.tiles[self.places[recalled.subject]]
        return tile.flip(1) if recalled.mirrored else tile


load_memory = lru_cache(1)(Memory)


def write_portraits(pack: SpritePack, folder: Path) -> None:
    """The first frame of every animated subject."""
    subjects = pack.animated
    sheet = Image.new("RGB", (COLUMNS * TILE, -(-len(subjects) // COLUMNS) * TILE))
    for place, subject in enumerate(subjects):
        tile = rearrange(portrait(pack.frames(subject.id), 0, TILE, TILE), "c h w -> h w c").numpy()
        sheet.paste(Image.fromarray(tile), (place % COLUMNS * TILE, place // COLUMNS * TILE))
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / PICTURES) as draft:
        sheet.save(draft, "WEBP", quality=QUALITY, method=6)
    with whole_file(folder / NAMES) as draft:
        draft.write_text(json.dumps([subject.id for subject in subjects]))
