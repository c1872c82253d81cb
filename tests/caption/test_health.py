"""Caption health: each rule on both sides of its threshold."""

import random

import pytest

from kinema.caption.health import FLAGS, caption_health, counted, health, jaccard, near_duplicates, words_of
from kinema.world.captions import describe
from kinema.world.spec import sample_spec
from kinema.world.sprites import labelled_subjects

SOUND = "A cat walks slowly over the wet grass at dawn."


def numbered(count):
    return " ".join(f"word{i}" for i in range(count))


@pytest.mark.parametrize(
    ("flag", "ill", "well"),
    [
        ("empty", " .,! ", "Cat."),
        ("sentinel", "N/A", "A none too clever dog runs."),
        ("sentinel", "I'm sorry, I cannot see the video.", SOUND),
        ("too_short", "A black cat", "A black cat walks"),
        ("too_long", numbered(1025), numbered(1024)),
        ("repeated_word", "cat cat cat on the grass", "cat cat dog on the grass"),
        ("repeated_phrase", "on the grass on the grass on the grass", "on the grass on the grass"),
        ("few_words", "a b c d e a b c d e a b c d e", "a b c d e f g h a b c d"),
    ],
)
def test_a_rule_flags_what_breaks_it_and_nothing_else(flag, ill, well):
    assert flag in health(ill)
    assert flag not in health(well)


def test_exact_captions_are_sound():
    subjects = tuple(labelled_subjects())
    flags = [caption_health(describe(sample_spec(seed, subjects), subjects)) for seed in range(60)]
    assert counted(flags)["sound"] >= 59


def test_counts_add_up():
    flags = [health(text) for text in (SOUND, "", "Cat.")]
    found = counted(flags)
    assert set(found) == {"sound", *FLAGS}
    assert (found["sound"], found["empty"], found["too_short"]) == (1, 1, 1)


def test_near_duplicates_are_those_that_comparing_all_pairs_finds():
    rng = random.Random(0)
    texts = []
    for _ in range(60):
        words = rng.sample("abcdefghijklmnopqrstuvwxyz", rng.randint(10, 20))
        texts += [" ".join(words), " ".join(rng.sample(words, len(words) - rng.randint(0, 2)))]
    sets = [frozenset(words_of(text)) for text in texts]
    wanted = [next((j for j in range(i) if jaccard(sets[i], sets[j]) >= 0.9), None) for i in range(len(sets))]
    assert near_duplicates(texts) == wanted
    assert any(each is not None for each in wanted)
