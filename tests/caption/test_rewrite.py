"""Prompt rewriting: nothing that the person said is lost, in three languages; a writer that fails is not heard."""

import csv
from pathlib import Path

import pytest

from kinema.caption.facts import facts, lost, stem
from kinema.caption.rewrite import MODES, rewrite
from kinema.caption.words import language_of
from kinema.caption.writers import OPEN_FIELDS, SmolWriter, options
from kinema.errors import InputError, WeightsError

LINES = Path(__file__).with_name("prompts.tsv").read_text(encoding="utf-8").splitlines()
PROMPTS = list(csv.DictReader(LINES, delimiter="\t", quoting=csv.QUOTE_NONE))


def wanted(row):
    return {stem(word) for word in row["facts"].split(";")} if row["facts"] else facts(row["prompt"])


def test_there_are_200_prompts_in_three_languages():
    assert len(PROMPTS) == 200
    assert {row["language"] for row in PROMPTS} == {"en", "ko", "zh"}
    assert all(language_of(row["prompt"]) == row["language"] for row in PROMPTS)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("language", ["en", "ko", "zh"])
def test_at_least_98_of_100_facts_are_kept(language, mode):
    rows = [row for row in PROMPTS if row["language"] == language]
    gone = [fact for row in rows for fact in lost(wanted(row), rewrite(row["prompt"], mode).text)]
    assert len(gone) <= 0.02 * sum(len(wanted(row)) for row in rows), gone


def test_the_measure_of_facts_notices_a_lost_colour_number_or_direction():
    prompt = "two red cars drive to the left"
    for less in ("red cars drive to the left", "two cars drive to the left", "two red cars drive"):
        assert lost(facts(prompt), less)


def test_the_same_fact_in_another_form_counts():
    assert not lost(facts("2 dogs running, a fly, grey leaves"), "Two dogs run. Flies. Gray leaf.")


@pytest.mark.parametrize("mode", MODES)
def test_the_original_stays_beside_it(mode):
    prompt = "고양이 두 마리가 숲에서 달린다"
    made = rewrite(prompt, mode)
    assert made.original == prompt
    assert made.text.isascii()
    assert (made.language, made.writer) == ("ko", "rules")


def test_rewriting_twice_changes_nothing_more():
    for row in PROMPTS[:80]:
        once = rewrite(row["prompt"], "normal").text
        assert rewrite(once, "normal").text.lower().replace(".", "") == once.lower().replace(".", "")


def test_master_fills_only_what_is_open():
    said = rewrite("a cat sleeps at night, close-up, camera zooms in", "master").text
    assert "Medium shot" not in said
    assert "natural light" not in said
    assert "stands still" not in said
    assert "Medium shot" in rewrite("a cat sleeps", "master").text


def test_a_word_that_the_dictionary_lacks_is_kept_as_it_is():
    assert "호루라기" in rewrite("고양이가 호루라기를 본다", "normal").text


@pytest.mark.parametrize(
    ("prompt", "text"), [("cat", "A cat is in view."), ("two dogs", "Two dogs are in view."), ("dogs run", "Dogs run.")]
)
def test_a_bare_noun_becomes_a_sentence(prompt, text):
    assert rewrite(prompt, "normal").text == text


@pytest.mark.parametrize(("prompt", "mode"), [("  ", "normal"), ("x" * 5000, "normal")])
def test_what_cannot_be_rewritten_is_refused(prompt, mode):
    with pytest.raises(InputError):
        rewrite(prompt, mode)


class Forgetful:
    name = "forgetful"

    def write(self, prompt, fields, mode):
        return "A cat walks."


class Broken:
    name = "broken"

    def write(self, prompt, fields, mode):
        raise WeightsError("no weights")


@pytest.mark.parametrize("writer", [Forgetful(), Broken()])
def test_rules_take_over_where_a_writer_loses_a_fact_or_fails(writer, caplog):
    made = rewrite("a red cat walks to the left", "normal", writer)
    assert made.writer == "rules"
    assert "red" in made.text
    assert writer.name in caplog.text


@pytest.fixture(scope="module")
def smol(tmp_path_factory):
    """A tiny random Llama with a real tokeniser in a folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("smol")
    letters = {letter: number for number, letter in enumerate(["<pad>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(letters, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    size = {"vocab_size": len(letters), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(**size, tie_word_embeddings=True)).save_pretrained(folder)
    return SmolWriter(folder)


def test_the_language_model_chooses_from_the_schema_and_touches_nothing_else(smol):
    plain, chosen = rewrite("a cat walks", "master"), rewrite("a cat walks", "master", smol)
    assert chosen.writer == "smollm2"
    assert "A cat walks." in chosen.text
    for field in OPEN_FIELDS:
        assert sum(option in chosen.text for option in options(field)) == 1
    assert rewrite("a cat walks", "normal", smol).text == rewrite("a cat walks", "normal").text
    assert plain.text != chosen.text


def test_padding_changes_no_score(smol):
    alone = smol.scores("Video: x\nLight:", ["Soft light."])
    beside = smol.scores("Video: x\nLight:", ["Soft light.", "A very much longer line of words than that."])
    assert alone[0] == pytest.approx(beside[0], abs=1e-4)
