"""Known truths come back out of the votes: strengths, intervals, agreement, power, the paper's ranking."""

import numpy as np
import pytest

from kinema.errors import InputError
from kinema.evaluate.arena import analysis
from kinema.evaluate.arena.design import choose, items
from kinema.evaluate.arena.strength import ELO
from kinema.evaluate.arena.study import AXES, CHECK, Study
from kinema.evaluate.arena.table import PUBLISHED, differences, holm, ranking, read_counts
from kinema.evaluate.arena.votes import Task, Vote

MODELS = ["a", "b", "c"]
LOGS = {"a": 0.8, "b": 0.0, "c": -0.8, CHECK: -9.0}
TIE = 0.7


def make_study(prompts: int) -> Study:
    media = [{model: f"{model}{n}.mp4" for model in MODELS} for n in range(prompts)]
    checked = {str(n): "b" for n in range(0, prompts, 4)}
    return Study("t", "pair", [f"p{n}" for n in range(prompts)], MODELS, media, checked)


def simulate(study: Study, raters: int, showings: int, attention: float = 1.0, seed: int = 0) -> list[Vote]:
    """Raters who follow Davidson's model with known strengths; one without attention answers at random."""
    rng, shown, votes = np.random.default_rng(seed), [], []
    for _ in range(showings):
        for rater in map(str, range(raters)):
            chosen = choose(study, shown, rater)
            if chosen is None:
                continue
            task = Task(len(shown), rater, *chosen)
            shown.append(task)
            left, right = np.exp(LOGS[task.left]), np.exp(LOGS[task.right])
            weights = np.array([left, TIE * np.sqrt(left * right), right]) if rng.random() < attention else np.ones(3)
            votes.append(vote(task, str(rng.choice(["left", "same", "right"], p=weights / weights.sum()))))
    return votes


def vote(task: Task, answer: str) -> Vote:
    return Vote(task.id, task.rater, task.kind, task.prompt, task.left, task.right, "overall", answer, 2.0)


def test_simulated_raters_recover_the_strengths_they_follow():
    votes = simulate(make_study(150), raters=12, showings=80)
    found = analysis.strengths(votes, "overall", MODELS)
    assert found.ranking == ["a", "b", "c"]
    for model in MODELS:
        assert found.low[model] - 15 <= 1000 + ELO * LOGS[model] <= found.high[model] + 15
    assert found.tie == pytest.approx(TIE, rel=0.2)


def test_the_showings_are_balanced_blind_to_sides_and_never_the_same_pair_twice_but_for_repeats():
    study = make_study(20)
    votes = simulate(study, raters=6, showings=30)
    pairs = [v for v in votes if v.kind == "pair"]
    counts = np.unique([(v.prompt, *sorted((v.left, v.right))) for v in pairs], axis=0, return_counts=True)[1]
    assert len(counts) == len(items(study))
    assert counts.max() - counts.min() <= 1
    assert 0.35 < np.mean([v.left < v.right for v in pairs]) < 0.65
    for rater in {v.rater for v in votes}:
        mine = [(v.prompt, *sorted((v.left, v.right))) for v in pairs if v.rater == rater]
        assert len(set(mine)) == len(mine)
    assert {v.kind for v in votes} == {"pair", "repeat", "check"}


def test_a_repeat_shows_an_earlier_pair_with_its_sides_exchanged():
    votes = simulate(make_study(30), raters=1, showings=60)
    seen = {(v.prompt, v.left, v.right) for v in votes if v.kind == "pair"}
    repeats = [v for v in votes if v.kind == "repeat"]
    assert repeats
    assert all((v.prompt, v.right, v.left) in seen for v in repeats)


def test_a_rater_who_does_not_look_is_set_aside_and_one_who_does_is_kept():
    study = make_study(60)
    looking, blind = simulate(study, 1, 90), simulate(study, 1, 90, attention=0.0, seed=1)
    assert analysis.raters(looking)[0].kept
    assert not analysis.raters(blind)[0].kept
    renamed = [Vote(**{**v.__dict__, "rater": "blind"}) for v in blind]
    assert {v.rater for v in analysis.attentive(looking + renamed)} == {"0"}


def test_good_same_bad_does_not_depend_on_the_side_shown():
    votes = simulate(make_study(40), raters=4, showings=40)
    exchanged = {"left": "right", "right": "left", "same": "same"}
    mirrored = [Vote(**{**v.__dict__, "left": v.right, "right": v.left, "answer": exchanged[v.answer]}) for v in votes]
    assert analysis.duels(votes, "overall", MODELS) == analysis.duels(mirrored, "overall", MODELS)


def test_an_interval_knows_that_votes_on_one_prompt_are_not_independent():
    rng = np.random.default_rng(0)
    groups = [[float(sign)] * 10 for sign in rng.choice([-1, 1], 40)]
    low, high = analysis.clustered(groups)
    alone, above = analysis.clustered([[sign] for group in groups for sign in group])
    assert high - low > 2.5 * (above - alone)


def test_agreement_is_one_among_equals_and_about_zero_among_strangers():
    rng = np.random.default_rng(0)
    truth = rng.choice(["left", "same", "right"], 200)
    tasks = [Task(n, "", "pair", n, "a", "b") for n in range(200)]
    same = [Vote(t.id, r, "pair", t.prompt, "a", "b", "overall", str(truth[t.id]), 1.0) for r in "xy" for t in tasks]
    apart = [Vote(t.id, r, "pair", t.prompt, "a", "b", "overall", str(rng.choice(["left", "right"])), 1.0) for r in "xy" for t in tasks]
    assert analysis.agreement(same, "overall") == pytest.approx(1)
    assert abs(analysis.agreement(apart, "overall")) < 0.2


def test_the_power_formula_agrees_with_simulated_studies():
    rng, net, ties, prompts = np.random.default_rng(0), 0.15, 0.2, 250
    draws = rng.choice([1, 0, -1], p=[(1 - ties + net) / 2, ties, (1 - ties - net) / 2], size=(4000, prompts))
    z = draws.mean(1) / (draws.std(1) / np.sqrt(prompts))
    assert analysis.power(prompts, net, ties) == pytest.approx((np.abs(z) > analysis.Z).mean(), abs=0.03)
    assert (
        analysis.power(analysis.prompts_for(net, ties), net, ties) >= 0.8 > analysis.power(analysis.prompts_for(net, ties) - 1, net, ties)
    )


@pytest.mark.parametrize(("successes", "count"), [(0, 20), (20, 20), (633, 1533)])
def test_wilson_stays_within_0_and_1_and_holds_the_share(successes, count):
    low, high = analysis.wilson(successes, count)
    assert 0 <= low <= successes / count + 1e-12
    assert successes / count - 1e-12 <= high <= 1


def test_the_papers_counts_give_the_papers_order():
    rows = read_counts(PUBLISHED)
    names = [row.model.split(" (")[0] for row in ranking(rows)]
    assert names == ["HunyuanVideo", "CNTopA", "CNTopB", "GEN-3 alpha", "Luma 1.6", "CNTopC"]
    doubt = differences(rows, "overall")
    assert doubt["CNTopA (API)"] > 0.05 > doubt["GEN-3 alpha (web)"]


def test_holm_is_never_milder_than_no_correction_nor_harsher_than_bonferroni():
    raw = {"a": 0.01, "b": 0.04, "c": 0.03}
    fixed = holm(raw)
    assert all(raw[name] <= fixed[name] <= 3 * raw[name] for name in raw)
    assert fixed["a"] == pytest.approx(0.03)


@pytest.mark.parametrize("text", ["model,count\na,1", "model,count,overall\na,10,11", "model,count,overall\na,ten,1"])
def test_counts_that_cannot_be_are_refused(tmp_path, text):
    (tmp_path / "counts.csv").write_text(text)
    with pytest.raises(InputError):
        read_counts(tmp_path / "counts.csv")


def test_strengths_of_nothing_are_refused():
    with pytest.raises(InputError, match="no votes"):
        analysis.strengths([], next(iter(AXES)), MODELS)
