"""Prompt lists: what is read, and what is refused by line."""

from pathlib import Path

import pytest

from kinema.errors import InputError
from kinema.pipelines.prompts import Row, read_prompts


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_may_hold_commas_quotes_and_line_breaks_as_the_public_benchmark_does(tmp_path: Path):
    path = write(tmp_path, "list.csv", ',prompt\n0,"A dog, a ""big"" one."\n1,"two\nlines"\n2,三只猫。\n')
    assert read_prompts(path) == [Row('A dog, a "big" one.'), Row("two\nlines"), Row("三只猫。")]


def test_a_list_saved_by_a_spreadsheet_reads_the_same(tmp_path: Path):
    assert read_prompts(write(tmp_path, "list.csv", "\ufeffprompt,seed\nA cat.,3\nA dog.,\n")) == [Row("A cat.", 3), Row("A dog.")]
    assert read_prompts(write(tmp_path, "list.txt", "\ufeffA cat.\r\n\r\nA dog.\r\n")) == [Row("A cat."), Row("A dog.")]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("list.docx", "", "unknown form"),
        ("list.txt", "\n \n", "no prompts"),
        ("list.csv", "text\nA cat.\n", "'prompt'"),
        ("list.csv", "prompt,seed\n,1\n", "line 2"),
        ("list.csv", "prompt,seed\nA cat.,x\n", "seed 'x'"),
        ("list.jsonl", '{"prompt": "A cat."}\n{"prompt": \n', "line 2 is not JSON"),
        ("list.jsonl", '["A cat."]\n', "must be an object"),
        ("list.jsonl", '{"prompt": 5}\n', "prompt 5"),
    ],
)
def test_a_bad_list_is_refused_with_the_place(tmp_path: Path, name: str, text: str, words: str):
    with pytest.raises(InputError, match=words):
        read_prompts(write(tmp_path, name, text))


def test_a_missing_list_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="No such file"):
        read_prompts(tmp_path / "none.txt")
