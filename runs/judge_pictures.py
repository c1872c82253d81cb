"""How well a model draws what it is only told the name of: pictures of 64x64, judged by the shipped recogniser.

    python runs/judge_pictures.py [FOLDER ...]      folders of weights as `kinema train` leaves them; default: the shipped ones

Prints how many of 72 subjects, the same for every model, are the recogniser's first choice, and among its first five.
"""

import sys

import numpy as np
from einops import rearrange

import kinema
from kinema.evaluate.world import RECOGNISER
from kinema.world.grammar import with_article
from kinema.world.recogniser import Recogniser
from kinema.world.sprites import SpritePack

SUBJECTS, FIRST = 72, 5
PICTURE = {"frames": 1, "height": 64, "width": 64, "steps": 20, "guidance": 3.5, "shift": 1.0}

judge = Recogniser.load(RECOGNISER)
animated = SpritePack.open().animated
chosen = [animated[number] for number in np.random.default_rng(5).permutation(len(animated))[:SUBJECTS]]
for folder in sys.argv[1:] or [None]:
    pipeline, ranks = kinema.load("mini", weights=folder), []
    for seed, subject in enumerate(chosen):
        frames = pipeline.generate(pipeline.config.request(with_article(subject.noun), seed=seed, **PICTURE)).frames
        order = judge.read(rearrange(frames, "T H W c -> T c H W")).subjects.argsort(descending=True).tolist()
        ranks.append(order.index(judge.subjects.index(subject.id)) + 1)
    told = f"first choice {sum(rank == 1 for rank in ranks)}, first {FIRST} {sum(rank <= FIRST for rank in ranks)} of {SUBJECTS}"
    print(f"{folder or 'shipped'}: {told}", flush=True)
