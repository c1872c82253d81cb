"""Buckets: a clip goes where it loses least, and no batch exceeds either limit."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinema.data import buckets
from kinema.data.buckets import MAX_ENLARGEMENT, Bucket, assign, batch_sizes, bucket_grid, calibrate
from kinema.errors import InputError

GRID = bucket_grid([128, 256, 512], [1, 17, 33, 65])
sizes = st.integers(96, 2000)


@given(st.sampled_from(GRID))
def test_a_clip_of_a_buckets_own_size_goes_there(bucket):
    assert assign(GRID, bucket.frames, bucket.height, bucket.width) == bucket


@given(st.integers(1, 300), sizes, sizes)
def test_a_clip_is_never_stretched_in_time_nor_much_enlarged(frames, height, width):
    found = assign(GRID, frames, height, width)
    if found is None:
        assert all(bucket.frames > frames or max(bucket.height / height, bucket.width / width) > MAX_ENLARGEMENT for bucket in GRID)
    else:
        assert found.frames <= frames
        assert max(found.height / height, found.width / width) <= MAX_ENLARGEMENT


@given(st.integers(65, 300), st.integers(1000, 2000), st.floats(0.5, 2))
def test_a_large_clip_takes_the_longest_bucket_of_the_largest_size_and_nearest_aspect(frames, height, ratio):
    found = assign(GRID, frames, height, round(height * ratio))
    nearest = min((bucket for bucket in GRID if bucket.is_near(512)), key=lambda each: abs(math.log(each.width / each.height / ratio)))
    assert found is not None
    assert found.frames == 65
    assert found.is_near(512)
    assert abs(math.log(found.width / found.height / ratio)) <= abs(math.log(nearest.width / nearest.height / ratio)) + 0.05


@given(st.lists(st.sampled_from(GRID), min_size=1, unique=True), st.integers(40_000, 500_000), st.floats(1, 2), st.floats(1, 50))
def test_every_batch_is_the_largest_within_both_limits(chosen, tokens, p, slack):
    compute = slack * max(bucket.tokens for bucket in chosen) ** p
    for bucket, batch in batch_sizes(chosen, tokens=tokens, compute=compute, p=p).items():
        within = lambda count, each=bucket: count * each.tokens <= tokens and count * each.tokens**p <= compute  # noqa: E731
        assert within(batch)
        assert not within(batch + 1)


def test_a_clip_that_is_more_than_a_limit_allows_is_refused_with_what_it_needs():
    with pytest.raises(InputError, match=r"tokens=1024"):
        batch_sizes([Bucket(1, 512, 512)], tokens=1000)


def test_calibration_finds_the_power_that_a_step_follows(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(buckets.time, "perf_counter", lambda: now[0])

    def step(batch: int, length: int) -> None:
        now[0] += 3e-7 * batch * length**1.4

    cost = calibrate(step, [256, 512, 1024, 4096], tokens=8192)
    assert cost.p == pytest.approx(1.4)
    assert cost.seconds(4, 2048) == pytest.approx(3e-7 * 4 * 2048**1.4)
    limit = cost.compute(seconds=2.0)
    times = [cost.seconds(batch, bucket.tokens) for bucket, batch in batch_sizes(GRID, tokens=10**9, compute=limit, p=cost.p).items()]
    assert max(times) <= 2.0 + 1e-9
    assert all(time > 2.0 - cost.seconds(1, bucket.tokens) for time, bucket in zip(times, GRID, strict=True))


def test_one_length_is_too_few_to_calibrate_with():
    with pytest.raises(InputError, match="two different"):
        calibrate(lambda batch, length: None, [64, 64], 64)


def test_a_buckets_name_and_shape_lead_back_to_it():
    for bucket in GRID:
        assert Bucket.parse(str(bucket)) == bucket
        _, t, h, w = bucket.latent_shape
        assert bucket.tokens == t * h * w // 4
