"""Which videos a rater sees next.

Pairs that were shown least come first, so that every prompt and every pair of models is seen equally often by the raters together,
and no rater sees a pair twice but for the planned repeats. Which model stands left is drawn for every showing.
"""

import time
from collections import Counter
from itertools import combinations

import numpy as np

from kinema.evaluate.arena.study import CHECK, Study
from kinema.evaluate.arena.votes import TASK, Task, Votes

REPEAT_EVERY = 20  # one showing in so many is an earlier pair again, sides exchanged
CHECK_EVERY = 15  # one in so many has a ruined side
LAG = 8  # showings between a pair and its repeat, at least

Item = tuple[int, str, str]  # prompt, one model, another in a fixed order (or "")


def items(study: Study) -> list[Item]:
    """Everything there is to compare."""
    if study.kind == "single":
        return [(n, model, "") for n in range(len(study.prompts)) for model in study.complete(n)]
    return [(n, *pair) for n in range(len(study.prompts)) for pair in combinations(sorted(study.complete(n)), 2)]


def next_task(study: Study, votes: Votes, rater: str) -> Task | None:
    """What the rater has open, or else a new task; None when nothing is left. Two requests at once get the same task."""
    with votes.transaction() as db:
        shown = [Task(*row) for row in db.execute(f"{TASK} ORDER BY id")]
        waiting = db.execute(f"{TASK} WHERE rater = ? AND answered IS NULL", (rater,)).fetchone()
        if waiting:
            return Task(*waiting)
        chosen = choose(study, shown, rater)
        if chosen is None:
            return None
        row = (rater, *chosen, time.time())
        cursor = db.execute("INSERT INTO tasks (rater, kind, prompt, left, right, shown) VALUES (?, ?, ?, ?, ?, ?)", row)
        return Task(int(cursor.lastrowid or 0), rater, *chosen)


def choose(study: Study, shown: list[Task], rater: str) -> tuple[str, int, str, str] | None:
    """Kind, prompt, left and right of the next showing: a function of the study and of what was shown."""
    mine = [task for task in shown if task.rater == rater]
    number = len(mine) + 1
    rng = np.random.default_rng([study.seed, number, *rater.encode()])
    planned = None
    if study.kind == "pair" and number % CHECK_EVERY == 0:
        planned = check(study, mine, rng)
    if study.kind == "pair" and number % REPEAT_EVERY == 0:
        planned = planned or repeat(mine, rng)
    return planned or fresh(study, shown, mine, rng)


def fresh(study: Study, shown: list[Task], mine: list[Task], rng: np.random.Generator) -> tuple[str, int, str, str] | None:
    """One of the least-shown items that this rater has not seen."""
    counts = Counter(item_of(task) for task in shown if task.kind in ("pair", "single"))
    seen = {item_of(task) for task in mine}
    left = [item for item in items(study) if item not in seen]
    if not left:
        return None
    fewest = min(counts[item] for item in left)
    prompt, *models = left[rng.choice([i for i, item in enumerate(left) if counts[item] == fewest])]
    if study.kind == "single":
        return "single", prompt, models[0], ""
    first, second = (models[i] for i in rng.permutation(2))
    return "pair", prompt, first, second


def repeat(mine: list[Task], rng: np.random.Generator) -> tuple[str, int, str, str] | None:
    """A pair from some time ago, sides exchanged."""
    repeated = {item_of(task) for task in mine if task.kind == "repeat"}
    old = [task for task in mine[:-LAG] if task.kind == "pair" and item_of(task) not in repeated]
    if not old:
        return None
    task = old[rng.integers(len(old))]
    return "repeat", task.prompt, task.right, task.left


def check(study: Study, mine: list[Task], rng: np.random.Generator) -> tuple[str, int, str, str] | None:
    """A video beside its ruin."""
    done = {task.prompt for task in mine if task.kind == "check"}
    left = [int(prompt) for prompt in study.checked if int(prompt) not in done]
    if not left:
        return None
    prompt = left[rng.integers(len(left))]
    first, second = ([study.checked[str(prompt)], CHECK][i] for i in rng.permutation(2))
    return "check", prompt, first, second


def item_of(task: Task) -> Item:
    return (task.prompt, *sorted((task.left, task.right), key=lambda model: (model == "", model)))  # type: ignore[return-value]
