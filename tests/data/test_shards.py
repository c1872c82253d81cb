"""Shards and pools: whole or absent, taken once, the newest kept."""

import torch

from kinema.data.pool import Pool
from kinema.data.shards import follow, read_shard, write_shard


def numbered(folder, name, first, count=4):
    rows = [{"seed": first + i} for i in range(count)]
    write_shard(folder / name, {"x": torch.arange(first, first + count)[:, None].expand(-1, 3).float()}, rows)


def test_a_shard_comes_back_as_it_was_written(tmp_path):
    numbered(tmp_path, "a.safetensors", 10)
    tensors, rows = read_shard(tmp_path / "a.safetensors")
    assert tensors["x"][:, 0].tolist() == [10, 11, 12, 13]
    assert rows[2] == {"seed": 12}


def test_a_follower_takes_every_whole_shard_once_and_no_draft(tmp_path):
    numbered(tmp_path, "a.safetensors", 0)
    (tmp_path / ".b.safetensors.1.part").write_bytes(b"half")
    seen = set()
    assert [path.name for path in follow(tmp_path, seen)] == ["a.safetensors"]
    numbered(tmp_path, "c.safetensors", 4)
    assert [path.name for path in follow(tmp_path, seen)] == ["c.safetensors"]


def test_a_full_pool_keeps_the_newest_samples(tmp_path):
    pool = Pool(tmp_path, 6, "cpu", ("x",))
    for i in range(3):
        numbered(tmp_path, f"{i}.safetensors", 4 * i)
        pool.refresh()
    assert len(pool) == 6
    assert sorted(pool.tensors["x"][:, 0].tolist()) == [6, 7, 8, 9, 10, 11]


def test_the_same_generator_draws_the_same_batch(tmp_path):
    numbered(tmp_path, "a.safetensors", 0)
    pool = Pool(tmp_path, 8, "cpu", ("x",))
    pool.wait(4)
    draw = lambda: pool.draw(5, torch.Generator().manual_seed(3))["x"]  # noqa: E731
    assert torch.equal(draw(), draw())
