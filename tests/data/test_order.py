"""The order of samples: a pure function of seed and step, fair to every clip."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kinema.data.buckets import Bucket
from kinema.data.order import BLOCK, Order, Source, Stream


def stream_of(clips: int, batch: int, weight: float = 1.0, texts: int = 2, bucket: Bucket | None = None, first: int = 0) -> Stream:
    counts = np.full(clips, texts)
    lengths = np.random.default_rng(clips).integers(1, 30, clips * texts)
    source = Source(np.arange(first, first + clips), counts, counts.cumsum() - counts, lengths, weight)
    return Stream(bucket or Bucket(5, 32, 32), (source,), batch)


sizes = st.tuples(st.integers(1, 40), st.integers(1, 20), st.sampled_from([0.3, 0.5, 1.0, 1.7, 3.0]))  # clips, batch, weight


@settings(deadline=None)
@given(size=sizes, seed=st.integers(0, 2**60), steps=st.lists(st.integers(0, 200), min_size=2, max_size=6))
def test_a_step_is_the_same_whatever_was_asked_before(size, seed, steps):
    stream = stream_of(*size)
    order = Order([stream], np.ones(1), seed)
    for step in steps:
        asked, fresh = order.pick(step), Order([stream], np.ones(1), seed).pick(step)
        for name in ("rows", "texts", "lengths"):
            assert np.array_equal(getattr(asked, name), getattr(fresh, name))
        assert len(asked.rows) == stream.batch


@settings(deadline=None)
@given(size=sizes, seed=st.integers(0, 2**60), epoch=st.integers(0, 5))
def test_within_an_epoch_no_clip_comes_more_often_than_its_weight_says(size, seed, epoch):
    stream = stream_of(*size)
    order = Order([stream], np.ones(1), seed)
    picks = [order.pick(epoch * stream.epoch_batches + step) for step in range(stream.epoch_batches)]
    seen = Counter(int(row) for pick in picks for row in pick.rows)
    most = int(np.ceil(stream.sources[0].weight * stream.rounds))
    assert max(seen.values()) <= most
    left_out = stream.clips * stream.sources[0].weight * stream.rounds - sum(seen.values())
    assert left_out < stream.batch


def test_every_clip_and_every_text_comes_as_often_as_any_other():
    stream = stream_of(clips=21, batch=4)
    order = Order([stream], np.ones(1), 0)
    picks = [order.pick(step) for step in range(4000)]
    rows = Counter(int(row) for pick in picks for row in pick.rows)
    texts = Counter(int(text) for pick in picks for text in pick.texts)
    assert max(rows.values()) / min(rows.values()) < 1.15
    assert max(texts.values()) / min(texts.values()) < 1.05


def test_lengths_are_those_of_the_texts_and_nearly_alike_within_a_batch():
    stream = stream_of(clips=400, batch=10)
    (source,) = stream.sources
    order = Order([stream], np.ones(1), 5)
    picks = [order.pick(step) for step in range(40)]
    for pick in picks:
        assert np.array_equal(pick.lengths, source.text_lengths[source.first_text[pick.rows] + pick.texts])
    assert np.mean([np.ptp(pick.lengths) for pick in picks]) < 2
    assert len({int(pick.lengths[0]) for pick in picks[:10]}) > 3


def test_turns_come_as_the_shares_say_over_many_blocks():
    several = [stream_of(clips=30, batch=3), stream_of(clips=30, batch=3, bucket=Bucket(1, 32, 32), first=30)]
    order = Order(several, np.array([0.8, 0.2]), 1)
    far = 20 * BLOCK + 17
    stream, turn = order.turn(far)
    shares = order.before[20] / order.before[20].sum()
    assert abs(shares[0] - 0.8) < 0.01
    assert turn == sum(order.turn(step)[0] == stream for step in range(20 * BLOCK, far)) + order.before[20][stream]
