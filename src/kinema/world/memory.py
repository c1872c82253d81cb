"""What mini remembers of the world: a small portrait of each subject, found by the words of a prompt.

Reading a prompt is by rules (`asked.py`): the first noun that names a subject. Portraits face as the sprite does, or as the prompt says
that it goes. Source of looking pictures up for a text: Chen et al. 2022 (Re-Imagen, arXiv 2209.14491).
"""

import zipfile
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
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

TILE = 128  # pixels of a portrait's edge
QUALITY = 85  # of the WebP
PORTRAITS = "portraits.zip"  # of one WebP a subject, by its id


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
    """The portraits; one is decoded when it is wanted."""

    def __init__(self, folder: Path):
        """Raises WeightsError where they are not there, or damaged."""
        try:
            self.file = zipfile.ZipFile(BytesIO((folder / PORTRAITS).read_bytes()))
        except (OSError, zipfile.BadZipFile) as error:
            raise WeightsError(f"{folder} holds no portraits ({error}): make them with `kinema world portraits --out {folder}`") from error

    def picture(self, recalled: Recalled) -> UInt8[Tensor, "128 128 3"]:
        tile = torch.from_numpy(np.array(Image.open(BytesIO(self.file.read(f"{recalled.subject}.webp"))).convert("RGB")))
        return tile.flip(1) if recalled.mirrored else tile


load_memory = lru_cache(1)(Memory)


def write_portraits(pack: SpritePack, folder: Path) -> None:
    """The first frame of every animated subject; the same bytes each time."""
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / PORTRAITS) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as file:
        for subject in pack.animated:
            tile = rearrange(portrait(pack.frames(subject.id), 0, TILE, TILE), "c h w -> h w c").numpy()
            webp = BytesIO()
            Image.fromarray(tile).save(webp, "WEBP", quality=QUALITY, method=6)
            file.writestr(zipfile.ZipInfo(f"{subject.id}.webp"), webp.getvalue())  # dated 1980
