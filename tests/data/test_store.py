"""The store: what is read is what was written, or an error that names the file; one writer, one making."""

import json
from dataclasses import replace

import pytest
import torch
from encoded import MADE_BY, PICTURE, VIDEO, sample, write_store

from kinema.data.store import DamagedShardError, Shard, Store, StoreWriter
from kinema.errors import InputError


def only_shard(folder):
    (path,) = Store(folder).paths()
    return path


def test_every_row_and_column_reads_back_by_itself(tmp_path):
    written = [sample(f"clip {number}", VIDEO, texts) for number, texts in enumerate([(2,), (1, 4, 3), (5, 5)])]
    with StoreWriter(tmp_path, MADE_BY) as writer:
        for each in written:
            writer.add(each)
    shard = Shard(only_shard(tmp_path))
    for row, each in enumerate(written):
        for column in ("mean", "logvar"):
            torch.testing.assert_close(shard.latents(column, row, 2).movedim(0, 1), getattr(each, column).half(), rtol=0, atol=0)
        for number, states in enumerate(each.text):
            text, pooled = shard.text(row, number)
            assert torch.equal(text, states.bfloat16())
            assert torch.equal(pooled, each.pooled[number].bfloat16())
    assert [row["id"] for row in Store(tmp_path).rows()] == ["clip 0", "clip 1", "clip 2"]


@pytest.mark.parametrize("column", ["mean", "logvar", "text", "pooled"])
def test_one_altered_bit_is_found_by_whoever_reads_it_and_by_nobody_else(tmp_path, column):
    write_store(tmp_path, {VIDEO: 2})
    path = only_shard(tmp_path)
    spoil(path, column)
    shard = Shard(path)
    reads = {"mean": lambda: shard.latents("mean", 0, 2), "logvar": lambda: shard.latents("logvar", 0, 2), "text": lambda: shard.text(0, 0)}
    for name, read in reads.items():
        if name == column or (name == "text" and column == "pooled"):
            with pytest.raises(DamagedShardError, match=path.name):
                read()
        else:
            read()


def spoil(path, column):
    """Alter one bit of a column's first item."""
    content = bytearray(path.read_bytes())
    header = int.from_bytes(content[:8], "little")
    start = json.loads(content[8 : 8 + header])[column]["data_offsets"][0]
    content[8 + header + start] ^= 1
    path.write_bytes(content)


def test_a_shard_that_is_cut_short_is_named(tmp_path):
    write_store(tmp_path, {VIDEO: 2})
    path = only_shard(tmp_path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DamagedShardError, match=rf"{path.name} is damaged.*kinema encode"):
        Shard(path)


def test_a_full_shard_is_there_before_the_writer_ends_and_a_draft_never_is(tmp_path):
    with StoreWriter(tmp_path, MADE_BY, per_shard=2) as writer:
        for number in range(3):
            writer.add(sample(f"{number}"))
        assert [len(Shard(path).rows) for path in Store(tmp_path).paths()] == [2]
    assert [len(Shard(path).rows) for path in Store(tmp_path).paths()] == [2, 1]
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_a_writer_of_other_making_is_refused_by_what_differs(tmp_path):
    write_store(tmp_path, {VIDEO: 1})
    with pytest.raises(InputError, match=r"vae='vae' there, 'other' here"), StoreWriter(tmp_path, replace(MADE_BY, vae="other")):
        pass
    with StoreWriter(tmp_path, replace(MADE_BY, version="9.9")) as writer:
        assert writer.ids == {f"{VIDEO}/0"}


def test_a_second_writer_is_refused_while_the_first_is_at_work(tmp_path):
    with StoreWriter(tmp_path, MADE_BY) as first:
        with pytest.raises(InputError, match="another process is writing"), StoreWriter(tmp_path, MADE_BY):
            pass
        first.add(sample("first"))
    with StoreWriter(tmp_path, MADE_BY) as writer:
        assert writer.ids == {"first"}


def test_a_folder_without_a_card_is_no_store(tmp_path):
    with pytest.raises(InputError, match="kinema encode"):
        Store(tmp_path)


def test_the_null_states_come_back(tmp_path):
    text, pooled = Store(write_store(tmp_path, {PICTURE: 1})).null
    assert text.shape == (1, 2, 6)
    assert pooled.shape == (6,)


def test_pictures_of_what_is_shown_are_kept_beside_clips_that_have_none(tmp_path):
    shown, alone = sample("shown", VIDEO), sample("alone", VIDEO)
    shown = replace(shown, reference=torch.randn(4, 1, *shown.mean.shape[2:]))
    with StoreWriter(tmp_path, MADE_BY) as writer:
        writer.add(alone)
        writer.add(shown)
    shard = Shard(only_shard(tmp_path))
    assert shard.reference(0) is not None
    assert not shard.reference(0).any()
    assert torch.equal(shard.reference(1), shown.reference.half())
    with StoreWriter(tmp_path / "without", MADE_BY) as writer:
        writer.add(alone)
    assert Shard(only_shard(tmp_path / "without")).reference(0) is None
