"""Encoding: what is in the store is what the models give; whatever cannot be read is named, and nothing is made twice."""

import json
import math
from itertools import pairwise

import pytest
import torch
from encoded import VIDEO, moving, tiny_encoder, write_clips

from kinema.data.buckets import Bucket
from kinema.data.clips import Clips, View, captions_table, folder_clips, rendered_clips
from kinema.data.encode import EncodeJob, encode_folder, hash_of, starts
from kinema.data.shards import write_shard
from kinema.data.store import Shard, Store
from kinema.errors import InputError
from kinema.media.frames import from_uint8
from kinema.media.image import write_image
from kinema.media.video import read_video, write_video


def job_of(clips, out, **changes):
    return EncodeJob(**{"clips": clips, "out": out, "sides": (32,), "frames": (1, 5), "batch": 2, **changes})


def rendered(folder, name="clips-0", seeds=range(3), frames=5):
    clip = torch.from_numpy(moving(frames, 32, 32)).movedim(3, 1)
    rows = [{"id": f"world/train/{seed}", "seed": seed, "fps": 12, "texts": [f"clip {seed}", "a pattern"]} for seed in seeds]
    write_shard(folder / f"{name}.safetensors", {"frames": torch.stack([clip.roll(seed, 1) for seed in seeds])}, rows)
    return folder


def test_a_folder_of_any_mixture_is_encoded_and_what_cannot_be_is_named(tmp_path):
    report = encode_folder(job_of(write_clips(tmp_path / "clips"), tmp_path / "out"), tiny_encoder())
    rows = {row["clip"]: row for row in Store(tmp_path / "out").rows()}
    assert rows.keys() == {"wide.mp4", "square.mp4", "still.png"}
    assert rows["square.mp4"]["texts"] == ["a square pattern that moves down", "a pattern"]
    assert (rows["wide.mp4"]["height"], rows["wide.mp4"]["width"], rows["wide.mp4"]["fps"]) == (36, 64, 8)
    assert {str(bucket) for bucket in report.written} == {"5x32x48", "5x32x32", "1x32x32"}
    assert len(report.failed) == 3
    for name in ("broken.mp4", "silent.mp4", "gone.mp4"):
        assert any(name in reason for reason in report.failed)


def test_a_second_run_makes_only_what_is_missing(tmp_path):
    job, encoder = job_of(write_clips(tmp_path / "clips"), tmp_path / "out"), tiny_encoder()
    encode_folder(job, encoder)
    again = encode_folder(job, encoder)
    assert (sum(again.written.values()), again.there) == (0, 3)
    victim = Store(job.out).paths()[0]
    victim.unlink()
    write_video(job.clips / "more.mp4", moving(5, 32, 32), fps=8)
    (job.clips / "more.txt").write_text("one more")
    third = encode_folder(job, encoder)
    assert (sum(third.written.values()), third.there) == (2, 2)
    assert len({row["id"] for row in Store(job.out).rows()}) == 4


def test_the_store_holds_the_vaes_posterior_at_the_dits_scale_and_the_encoders_states(tmp_path):
    encoder = tiny_encoder()
    encode_folder(job_of(rendered(tmp_path / "clips"), tmp_path / "out", sides=(), frames=()), encoder)
    (path,) = Store(tmp_path / "out").paths()
    shard = Store(tmp_path / "out").open(path)
    for row, clip in enumerate(rendered_clips(tmp_path / "clips" / "clips-0.safetensors")):
        posterior = encoder.vae.encode(clip.read(View(0, 5, 1, (32, 32)))[None])
        mean, logvar = (shard.latents(column, row, 2).movedim(0, 1).float() for column in ("mean", "logvar"))
        torch.testing.assert_close(mean, posterior.mean[0].detach() * 0.5, rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(logvar, posterior.logvar[0].detach() + 2 * math.log(0.5), rtol=2e-3, atol=5e-3)
        for number, text in enumerate(clip.texts):
            ((states, pooled),) = encoder.texts([text])
            found, found_pooled = shard.text(row, number)
            assert torch.equal(found, states.bfloat16())
            assert torch.equal(found_pooled, pooled.bfloat16())


def test_rendered_shards_are_deleted_once_what_they_gave_is_on_disk(tmp_path):
    folder = rendered(tmp_path / "clips")
    report = encode_folder(job_of(folder, tmp_path / "out", consume=True, per_shard=100), tiny_encoder())
    assert not list(folder.glob("*.safetensors"))
    assert sum(report.written.values()) == len(list(Store(tmp_path / "out").rows())) == 3


def test_a_broken_shard_of_clips_is_skipped_and_named(tmp_path):
    folder = rendered(tmp_path / "clips")
    (folder / "clips-1.safetensors").write_bytes(b"nothing")
    report = encode_folder(job_of(folder, tmp_path / "out"), tiny_encoder())
    assert sum(report.written.values()) == 3
    assert "clips-1.safetensors" in report.failed[0]


def test_another_vae_may_not_go_on_with_a_folder(tmp_path):
    job = job_of(rendered(tmp_path / "clips"), tmp_path / "out")
    encode_folder(job, tiny_encoder(0))
    with pytest.raises(InputError, match="vae="):
        encode_folder(job, tiny_encoder(1))


def test_a_models_hash_knows_its_weights_but_not_their_dtype():
    one, same, other = tiny_encoder(0).vae, tiny_encoder(0).vae, tiny_encoder(1).vae
    assert hash_of(one) == hash_of(same.bfloat16()) != hash_of(other)


def test_a_clip_too_small_for_every_bucket_is_named_with_its_size(tmp_path):
    report = encode_folder(job_of(write_clips(tmp_path / "clips"), tmp_path / "out", sides=(128,)), tiny_encoder())
    assert any("still.png has 1 frames of 40x40 pixels, too small" in reason for reason in report.failed)
    assert not report.written


@pytest.mark.parametrize(("frames", "length", "windows"), [(33, 33, 1), (40, 5, 3), (100, 33, 9), (5, 5, 4), (12, 5, 2)])
def test_pieces_of_a_clip_lie_within_it_and_apart(frames, length, windows):
    found = starts(frames, length, windows)
    assert len(found) == min(windows, frames // length)
    assert found[0] >= 0
    assert found[-1] + length <= frames
    assert all(later - earlier >= length for earlier, later in pairwise(found))


def test_thinning_reads_every_second_frame_of_a_clip_of_twice_the_rate(tmp_path):
    job = job_of(write_clips(tmp_path / "clips"), tmp_path / "out", fps=4.0)
    encode_folder(job, tiny_encoder())
    (row,) = (row for row in Store(job.out).rows() if row["clip"] == "wide.mp4")
    assert (row["fps"], row["start"]) == (4, 0)
    (clip,) = (clip for clip in folder_clips(job.clips) if getattr(clip, "id", "") == "wide.mp4")
    frames, _ = read_video(job.clips / "wide.mp4")
    for stride in (1, 2):
        pixels = clip.read(View(0, 4, stride, (36, 64)))
        torch.testing.assert_close(pixels, frames[: 4 * stride : stride].movedim(3, 0).float() / 127.5 - 1)


def test_a_view_keeps_the_aspect_and_cuts_what_stands_over(tmp_path):
    (clip,) = (clip for clip in folder_clips(write_clips(tmp_path)) if getattr(clip, "id", "") == "wide.mp4")
    left, middle, right = (clip.read(View(0, 1, 1, (36, 36), (0.5, at))) for at in (0.0, 0.5, 1.0))
    whole = clip.read(View(0, 1, 1, (36, 64)))
    assert torch.equal(left, whole[..., :36])
    assert torch.equal(middle, whole[..., 14:50])
    assert torch.equal(right, whole[..., 28:])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("captions.jsonl", '{"path": "a.mp4", "caption": "one"}\n\n{"path": "b/c.png", "caption": "two"}\n'),
        ("captions.csv", "video,text\na.mp4,one\nb/c.png,two\n"),
        ("metadata.jsonl", '{"file_name": "a.mp4", "texts": ["one"]}\n{"file_name": "b/c.png", "prompt": "two"}'),
    ],
)
def test_tables_of_captions_are_read_in_every_usual_form(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert captions_table(tmp_path) == {tmp_path / "a.mp4": ("one",), tmp_path / "b/c.png": ("two",)}


def test_a_table_without_paths_is_refused_with_the_names_that_a_column_may_have(tmp_path):
    (tmp_path / "captions.jsonl").write_text(json.dumps({"clip": "a.mp4", "caption": "one"}))
    with pytest.raises(InputError, match=r"none of file_name, file, path, video, image"):
        captions_table(tmp_path)


def test_clips_are_handed_out_once_and_later_ones_when_they_come(tmp_path):
    clips = Clips(rendered(tmp_path))
    assert [len(group.clips) for group in clips.fresh()] == [3]
    assert list(clips.fresh()) == []
    rendered(tmp_path, "clips-1", range(3, 5))
    assert [len(group.clips) for group in clips.fresh()] == [2]


def test_a_file_still_being_written_is_left_for_later_and_judged_at_the_end(tmp_path):
    assert list(Clips(write_clips(tmp_path / "clips"), settle=60.0).fresh()) == []
    report = encode_folder(job_of(tmp_path / "clips", tmp_path / "out", follow_seconds=0.1), tiny_encoder())
    assert (sum(report.written.values()), len(report.failed)) == (3, 3)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        Clips(tmp_path / "nowhere")


def test_a_bucket_of_the_clips_own_size_is_what_the_models_take(tmp_path):
    write_video(tmp_path / "a.mp4", moving(7, 36, 50), fps=8)
    (tmp_path / "a.txt").write_text("odd sizes")
    report = encode_folder(job_of(tmp_path, tmp_path / "out", sides=(), frames=()), tiny_encoder())
    assert list(report.written) == [Bucket(5, 32, 48)] == [VIDEO]


def test_a_picture_beside_a_clip_is_encoded_with_it_and_is_no_clip_itself(tmp_path):
    encoder, folder = tiny_encoder(), tmp_path / "clips"
    folder.mkdir()
    for name in ("with", "without"):
        write_video(folder / f"{name}.mp4", moving(5, 32, 32), fps=8)
        (folder / f"{name}.txt").write_text("a pattern")
    picture = torch.from_numpy(moving(1, 32, 32)[0])
    write_image(folder / "with.reference.png", picture)
    assert encode_folder(job_of(folder, tmp_path / "out"), encoder).failed == []
    (shard,) = (Shard(path) for path in Store(tmp_path / "out").paths())
    latents = {row["clip"]: shard.reference(place) for place, row in enumerate(shard.rows)}
    assert latents.keys() == {"with.mp4", "without.mp4"}
    assert not latents["without.mp4"].any()
    expected, _ = encoder.posterior((from_uint8(picture[None]))[None])
    torch.testing.assert_close(latents["with.mp4"].float(), expected[0], rtol=0, atol=1e-2)
