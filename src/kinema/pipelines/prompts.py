"""Prompt lists: a text file (one prompt a line), a CSV with a `prompt` column, or JSON lines with a `prompt` field.

A row may carry its own `seed`; other columns, such as the index of the public 600-prompt benchmark, are left alone.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kinema.errors import InputError


@dataclass(frozen=True)
class Row:
    """One prompt of a list."""

    prompt: str
    seed: int | None = None
    typed: str | None = None  # what the person wrote, where `prompt` is a rewriting of it


def read_prompts(path: Path) -> list[Row]:
    """The prompts of a list, in order; blank lines are skipped.

    Raises InputError where the file cannot be read, has no prompts, or a row has none.
    """
    readers = {".txt": read_text, ".csv": read_csv, ".jsonl": read_jsonl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"prompts={path} has an unknown form: use {', '.join(readers)}")
    try:
        rows = list(reader(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"prompts={path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}") from error
    if not rows:
        raise InputError(f"prompts={path} has no prompts in it")
    return rows


def read_text(path: Path) -> Iterator[Row]:
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        if line.strip():
            yield Row(line.strip())


def read_csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file)
        if "prompt" not in (table.fieldnames or ()):
            raise InputError(f"prompts={path} has the columns {table.fieldnames}: one must be called 'prompt'")
        for fields in table:
            yield make_row(fields, f"{path}, line {table.line_num}")


def read_jsonl(path: Path) -> Iterator[Row]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"prompts={place} is not JSON: {error.msg}") from error
        if not isinstance(fields, dict):
            raise InputError(f'prompts={place} must be an object such as {{"prompt": "A cat walks."}}')
        yield make_row(fields, place)


def make_row(fields: dict[str, object], place: str) -> Row:
    prompt, seed = fields.get("prompt"), fields.get("seed")
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError(f"prompts={place} has the prompt {prompt!r}: every row needs a text that is not empty")
    if seed in (None, ""):
        return Row(prompt.strip())
    if not str(seed).isdecimal():
        raise InputError(f"prompts={place} has the seed {seed!r}: use a whole number from 0")
    return Row(prompt.strip(), int(str(seed)))
