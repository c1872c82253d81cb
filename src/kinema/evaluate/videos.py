"""Which video of a folder belongs to which prompt, whatever program made them."""

import re
from pathlib import Path

from kinema.errors import InputError
from kinema.media.video import read_metadata

ENDINGS = (".mp4", ".webm", ".mov", ".mkv", ".gif")
NUMBER = re.compile(r"(\d+)")


def match_videos(folder: Path, prompts: list[str]) -> dict[int, Path]:
    """Index of a prompt -> its video; prompts without one are left out.

    A file belongs to the prompt that is written inside it (Kinema's own files), or is its name (with or without `-0`), or that has the
    first number in its name, counted from 0 or 1; in a folder that fits none of these, and has as many files as prompts, to the prompt
    of the same rank.
    Raises InputError for a folder without videos, or with files that belong to no prompt, or two that belong to one.
    """
    if not folder.is_dir():
        raise InputError(f"videos={folder} is not a folder: name the one that holds a model's videos")
    files = sorted((file for file in folder.iterdir() if file.suffix.lower() in ENDINGS), key=natural)
    if not files:
        raise InputError(f"videos={folder} holds no videos ({', '.join(ENDINGS)})")
    for found in (by_content(files, prompts), by_number(files, len(prompts)), by_rank(files, len(prompts))):
        if found is not None:
            return found
    raise InputError(
        f"videos={folder}: cannot tell which of its {len(files)} files belongs to which of {len(prompts)} prompts: "
        "begin every name with the prompt's number (0001_...), or name it after the prompt"
    )


def natural(file: Path) -> list[tuple[int, str]]:
    """Sorts 2 before 10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in NUMBER.split(file.stem.lower()) if part]


def by_content(files: list[Path], prompts: list[str]) -> dict[int, Path] | None:
    index = {prompt: number for number, prompt in reversed(list(enumerate(prompts)))}
    return unique([(index.get(prompt_of(file, index)), file) for file in files])


def prompt_of(file: Path, known: dict[str, int]) -> str:
    for name in (file.stem, file.stem.rpartition("-")[0]):
        if name in known:
            return name
    try:
        recipe = read_metadata(file) or {}
        return str((recipe.get("request") or recipe).get("prompt", ""))
    except InputError:
        return ""  # not a video that opens: whoever watches it says so


def by_number(files: list[Path], count: int) -> dict[int, Path] | None:
    numbers = [int(match[0]) if (match := NUMBER.search(file.stem)) else None for file in files]
    first = 0 if 0 in numbers else 1
    return unique([(None if n is None or not 0 <= n - first < count else n - first, file) for n, file in zip(numbers, files, strict=True)])


def by_rank(files: list[Path], count: int) -> dict[int, Path] | None:
    return dict(enumerate(files)) if len(files) == count else None


def unique(pairs: list[tuple[int | None, Path]]) -> dict[int, Path] | None:
    """The pairs as a dict, if every file has a prompt of its own."""
    found = {number: file for number, file in pairs if number is not None}
    return found if len(found) == len(pairs) else None
