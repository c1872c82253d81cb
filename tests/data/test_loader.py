"""The loader: what a step holds depends on seed, data and step alone; damage is named, counted and never hangs."""

import logging
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from encoded import MADE_BY, PICTURE, SQUARE, VIDEO, sample, write_store
from hypothesis import given, settings
from hypothesis import strategies as st

from kinema.config import parse_config, to_toml
from kinema.data import feed
from kinema.data.buckets import Bucket
from kinema.data.feed import TooManyDamagedError
from kinema.data.loader import Batch, Loader, LoaderConfig
from kinema.data.store import DamagedShardError, Store, StoreWriter
from kinema.errors import InputError

COUNTS = {VIDEO: 11, SQUARE: 7, PICTURE: 9}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store"), COUNTS)


def config_of(*folders, tokens=60, **changes):
    return LoaderConfig(folders=folders, tokens=tokens, **changes)


def batches(config, steps, seed=1, rank=0, ranks=1, state=None):
    loader = Loader(config, seed, rank, ranks)
    if state is not None:
        loader.load_state_dict(state)
    found = [loader.next() for _ in range(steps)]
    loader.close()
    return found


def joined(slices: list[Batch]) -> Batch:
    """The global batch that the ranks' slices make."""
    masks = [each.text_mask for each in slices]
    assert len({mask is None for mask in masks}) == 1
    whole = {name: torch.cat([getattr(each, name) for each in slices]) for name in ("latents", "text", "pooled")}
    mask = None if masks[0] is None else torch.cat(masks)
    return Batch(
        **whole, text_mask=mask, ids=[name for each in slices for name in each.ids], bucket=slices[0].bucket, total=slices[0].total
    )


def same(one: Batch, other: Batch) -> bool:
    if (one.ids, one.bucket, one.total, one.tensors().keys()) != (other.ids, other.bucket, other.total, other.tensors().keys()):
        return False
    return all(torch.equal(tensor, other.tensors()[name]) for name, tensor in one.tensors().items())


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    ranks=st.integers(1, 4),
    workers=st.integers(1, 4),
    ahead=st.integers(1, 6),
    image_share=st.sampled_from([None, 0.0, 0.3]),
    frames=st.sampled_from([(), (1, 5)]),
)
def test_slices_of_any_number_of_ranks_and_workers_join_to_the_same_batches(folder, seed, ranks, workers, ahead, image_share, frames):
    one = batches(config_of(folder, workers=1, ahead=1, image_share=image_share, frames=frames), 6, seed)
    config = config_of(folder, workers=workers, ahead=ahead, image_share=image_share, frames=frames)
    sliced = [batches(config, 6, seed, rank, ranks) for rank in range(ranks)]
    for whole, slices in zip(one, zip(*sliced, strict=True), strict=True):
        assert same(whole, joined(list(slices)))
        assert len(whole.ids) == whole.total


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), stop=st.integers(0, 9), ranks=st.integers(1, 3))
def test_a_run_resumed_on_another_number_of_ranks_sees_the_same_samples(folder, seed, stop, ranks):
    config = config_of(folder)
    whole = batches(config, 12, seed)
    loader = Loader(config, seed)
    for _ in range(stop):
        loader.next()
    state = loader.state_dict()
    loader.close()
    resumed = [batches(config_of(folder, workers=1, ahead=2), 12 - stop, seed, rank, ranks, state) for rank in range(ranks)]
    for expected, slices in zip(whole[stop:], zip(*resumed, strict=True), strict=True):
        assert same(expected, joined(list(slices)))


def test_other_seeds_give_other_orders_and_other_noise(folder):
    one, other = (batches(config_of(folder), 8, seed) for seed in (1, 2))
    assert [batch.ids for batch in one] != [batch.ids for batch in other]
    mean, drawn = (batches(config_of(folder, sample=sample), 1)[0] for sample in (False, True))
    assert mean.ids == drawn.ids
    assert not torch.equal(mean.latents, drawn.latents)


def test_an_epoch_shows_every_clip_as_often_as_its_folders_weight(tmp_path):
    once = write_store(tmp_path / "once", {VIDEO: 8}, name="once ")
    thrice = write_store(tmp_path / "thrice", {VIDEO: 4}, name="thrice ")
    config = config_of(once, thrice, tokens=4 * VIDEO.tokens, weights=(1.0, 3.0))
    seen = Counter(name for batch in batches(config, 5) for name in batch.ids)
    assert {name.split()[0]: count for name, count in seen.items()} == {"once": 1, "thrice": 3}
    assert len(seen) == 12


def test_samples_are_drawn_with_the_clips_own_mean_and_deviation(tmp_path):
    with StoreWriter(tmp_path, MADE_BY) as writer:
        writer.add(clip := sample("clip", SQUARE, (3,)))
    config = config_of(tmp_path, tokens=200 * SQUARE.tokens)
    (drawn,) = batches(config, 1)
    errors = (drawn.latents - clip.mean) / (0.5 * clip.logvar).exp()
    assert drawn.total == 200
    assert abs(errors.mean().item()) < 0.02
    assert errors.std().item() == pytest.approx(1, abs=0.02)


def test_texts_of_a_batch_have_one_length_or_a_mask_over_zeros(folder):
    seen = set()
    for batch in batches(config_of(folder), 40):
        seen.add(batch.text_mask is None)
        if batch.text_mask is not None:
            assert (batch.text[~batch.text_mask] == 0).all()
            assert batch.text_mask.sum(1).max() == batch.text.shape[1]
    assert False in seen


def test_image_share_is_the_share_of_steps(folder):
    for share in (0.0, 0.25, 1.0):
        planned = Loader(config_of(folder, image_share=share), 0).plan()
        assert sum(row.share for row in planned if row.bucket.frames == 1) == pytest.approx(share)
        assert sum(row.share for row in planned) == pytest.approx(1)
    steps = batches(config_of(folder, image_share=0.25, sample=False), 400)
    assert sum(batch.bucket.frames == 1 for batch in steps) == pytest.approx(100, abs=35)


def test_videos_serve_as_images_by_their_first_latent(tmp_path):
    write_store(tmp_path, {VIDEO: 3})
    with pytest.raises(InputError, match="there are no images"):
        Loader(config_of(tmp_path, image_share=0.5), 0)
    shard = Store(tmp_path).open(Store(tmp_path).paths()[0])
    firsts = {shard.rows[row]["id"]: shard.latents("mean", row, 1).float().movedim(0, 1) for row in range(3)}
    (batch,) = batches(config_of(tmp_path, image_share=1.0, frames=(1, 5), sample=False), 1)
    assert batch.bucket == Bucket(1, 32, 48)
    assert all(torch.equal(latents, firsts[name]) for name, latents in zip(batch.ids, batch.latents, strict=True))


def test_only_buckets_of_the_wanted_side_are_used(tmp_path):
    write_store(tmp_path, {VIDEO: 3, Bucket(5, 64, 64): 3})
    assert [row.bucket.height for row in Loader(config_of(tmp_path, tokens=64, sides=(64,)), 0).plan()] == [64]
    with pytest.raises(InputError, match="the folders hold 5x32x48, 5x64x64"):
        Loader(config_of(tmp_path, sides=(512,)), 0)


def test_a_shard_that_cannot_be_opened_stops_the_run_before_its_first_step(tmp_path):
    write_store(tmp_path, {VIDEO: 8})
    for path in Store(tmp_path).paths():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DamagedShardError, match=rf"2 of 2 shards.*{VIDEO}-000000.*{VIDEO}-000001"):
        Loader(config_of(tmp_path), 0)


def test_a_damaged_or_missing_sample_is_named_counted_and_replaced(tmp_path, caplog):
    write_store(tmp_path, {VIDEO: 8}, per_shard=1)
    loader = Loader(config_of(tmp_path, tokens=4 * VIDEO.tokens, workers=1, ahead=1), 0)
    for store in loader.index.stores:
        store.open.cache_clear()
    gone = Store(tmp_path).paths()[3]
    gone.unlink()
    with caplog.at_level(logging.WARNING):
        found = [loader.next() for _ in range(2)]
    assert all(len(batch.ids) == 4 for batch in found)
    assert f"{VIDEO}/3" not in {name for batch in found for name in batch.ids}
    assert len(loader.damaged) == 1
    assert gone.name in loader.damaged[0]
    assert loader.skipped == 1
    assert gone.name in caplog.text
    loader.close()


def test_a_store_that_is_gone_altogether_is_an_error_and_stays_one(tmp_path):
    write_store(tmp_path, {VIDEO: 4})
    loader = Loader(config_of(tmp_path), 0)
    for store in loader.index.stores:
        store.open.cache_clear()
    for path in Store(tmp_path).paths():
        path.unlink()
    for _ in range(2):
        with pytest.raises(InputError, match="no clip of 5x32x48 can be read"):
            loader.next()
    loader.close()


def test_data_of_which_too_much_is_damaged_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "MAX_DAMAGED", 4)
    write_store(tmp_path, {VIDEO: 30}, per_shard=1)
    loader = Loader(config_of(tmp_path, tokens=30 * VIDEO.tokens, workers=1, ahead=1), 0)
    for store in loader.index.stores:
        store.open.cache_clear()
    for path in Store(tmp_path).paths()[:8]:
        path.unlink()
    with pytest.raises(TooManyDamagedError, match="5 clips or shards"):
        loader.next()
    loader.close()


def test_a_state_of_other_data_or_another_seed_is_refused(folder, tmp_path):
    state = Loader(config_of(folder), 1).state_dict()
    with pytest.raises(InputError, match="seed changed"):
        Loader(config_of(folder), 2).load_state_dict(state)
    with pytest.raises(InputError, match="data changed"):
        Loader(config_of(write_store(tmp_path / "other", {VIDEO: 3})), 1).load_state_dict(state)
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    Loader(config_of(moved), 1).load_state_dict(state)


def test_folders_of_different_making_do_not_mix(folder, tmp_path):
    from dataclasses import replace

    other = write_store(tmp_path, {VIDEO: 2}, replace(MADE_BY, text_encoder="others"))
    with pytest.raises(InputError, match="encoded by different models"):
        Loader(config_of(folder, other), 0)


def test_a_batch_too_small_for_the_ranks_is_refused(folder):
    with pytest.raises(InputError, match="for 50 ranks"):
        Loader(config_of(folder), 0, 0, 50)


def test_a_followed_folder_gives_what_comes_later_too(tmp_path):
    write_store(tmp_path, {VIDEO: 4}, name="early ")
    loader = Loader(config_of(tmp_path, follow=1.0, start_samples=4), 0)
    assert all(name.startswith("early") for _ in range(20) for name in loader.next().ids)
    write_store(tmp_path, {VIDEO: 16}, name="late ")
    assert any(name.startswith("late") for _ in range(20) for name in loader.next().ids)
    resumed = Loader(loader.config, 0)
    resumed.load_state_dict(loader.state_dict())
    assert resumed.consumed == loader.consumed > 20
    for each in (loader, resumed):
        each.next()
        each.close()


def test_waiting_for_a_writer_that_does_not_come_ends_with_what_was_missing():
    with TemporaryDirectory() as empty, pytest.raises(InputError, match=r"0 clips of 32.*is the writer running"):
        Loader(config_of(Path(empty), follow=0.3), 0)


def test_a_config_goes_through_toml(folder):
    config = config_of(folder, weights=(2.0,), image_share=0.2, frames=(1, 5), compute=1e6, exponent=1.3)
    assert parse_config(LoaderConfig, to_toml(config)) == config


def test_the_null_prompt_is_the_stores_own(folder):
    text, pooled = Loader(config_of(folder), 0).null
    assert text.shape == (1, 2, 6)
    assert pooled.shape == (6,)


def test_references_come_with_their_clips_and_only_where_they_are_asked_for(tmp_path, folder):
    pictures = {}
    with StoreWriter(tmp_path, MADE_BY) as writer:
        for number in range(5):
            one = sample(f"shown {number}", VIDEO)
            pictures[one.id] = torch.randn(4, 1, *one.mean.shape[2:]).half().float()
            writer.add(replace(one, reference=pictures[one.id]))
    for batch in batches(config_of(tmp_path, folder, references=True), 6):
        expected = [pictures.get(name, torch.zeros_like(batch.latents[0, :, :1])) for name in batch.ids]
        assert torch.equal(batch.reference, torch.stack(expected))
    assert all(batch.reference is None for batch in batches(config_of(tmp_path), 2))


def test_where_subjects_are_comes_with_their_clips_cut_to_the_frames_that_are_read(tmp_path, folder):
    known = {}
    with StoreWriter(tmp_path, MADE_BY) as writer:
        for number in range(5):
            one = sample(f"seen {number}", VIDEO)
            known[one.id] = torch.rand(one.mean.shape[1:]).half().float()
            writer.add(replace(one, focus=known[one.id]))
    for batch in batches(config_of(tmp_path, folder, focus=True, frames=(1, 5)), 8):
        frames = batch.latents.shape[2]
        expected = [known[name][:frames] if name in known else torch.zeros_like(batch.latents[0, 0]) for name in batch.ids]
        assert torch.equal(batch.focus, torch.stack(expected))
    assert all(batch.focus is None for batch in batches(config_of(tmp_path), 2))
