"""Chunks and tiles against the whole."""

from dataclasses import replace

import pytest
import torch
from test_vae import TINY_PLAIN, TINY_PUBLISHED, TINY_STREAMING, clip, random_vae
from torch.nn.functional import interpolate

from kinema.errors import InputError
from kinema.vae.model import CausalVAE
from kinema.vae.streaming import decode_stream, encode_stream
from kinema.vae.tiling import OVERLAP, blend, decode_tiled, encode_tiled

STREAMING_KINDS = pytest.mark.parametrize("config", [TINY_STREAMING, TINY_PLAIN], ids=["ours", "plain"])


@STREAMING_KINDS
@pytest.mark.parametrize(("frames", "chunk"), [(1, 1), (5, 1), (17, 3), (17, 17)])
@torch.no_grad()
def test_a_streamed_clip_is_the_whole_one(config, frames, chunk):
    vae = random_vae(config)
    whole = vae.encode(clip(frames))
    streamed = list(encode_stream(vae, clip(frames).split(chunk, 2)))
    torch.testing.assert_close(torch.cat([p.mean for p in streamed], 2), whole.mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.cat([p.logvar for p in streamed], 2), whole.logvar, rtol=0, atol=1e-12)
    pixels = torch.cat(list(decode_stream(vae, whole.mean.split(chunk, 2))), 2)
    torch.testing.assert_close(pixels, vae.decode(whole.mean), rtol=0, atol=1e-12)


def test_a_stream_begins_before_its_input_ends():
    def frames():
        yield clip(17)[:, :, :5]
        raise AssertionError("asked for frames it did not need yet")

    stream = encode_stream(random_vae(TINY_STREAMING), frames())
    assert [next(stream).mean.shape[2] for _ in range(2)] == [1, 1]


def test_a_stream_with_frames_left_over_is_refused():
    with pytest.raises(InputError, match=r"frames=7 .* use 5 or 9"):
        list(encode_stream(random_vae(TINY_STREAMING), clip(7).split(2, 2)))


def test_a_norm_over_the_clip_cannot_stream_and_the_error_names_tiling():
    for stream in (encode_stream, decode_stream):
        with pytest.raises(InputError, match="tiling"):
            next(stream(random_vae(TINY_PUBLISHED), [clip(5)]))


SMALL_TILES = replace(TINY_PUBLISHED, tile_size=32, tile_frames=16)


@torch.no_grad()
def test_a_clip_within_one_tile_goes_through_whole():
    vae = random_vae(SMALL_TILES)
    whole = vae.encode(clip(9)).mean
    assert torch.equal(encode_tiled(vae, clip(9)).mean, whole)
    assert torch.equal(decode_tiled(vae, whole), vae.decode(whole))


@pytest.mark.parametrize(("frames", "height", "width"), [(17, 16, 24), (33, 72, 40), (49, 32, 88), (1, 40, 72)])
@torch.no_grad()
def test_tiles_cover_any_size(frames, height, width):
    vae = random_vae(SMALL_TILES).float()
    latents = encode_tiled(vae, clip(frames, height, width).float()).mean
    assert latents.shape == (1, 16, (frames - 1) // 4 + 1, height // 8, width // 8)
    assert decode_tiled(vae, latents).shape == (1, 3, frames, height, width)


@torch.no_grad()
def test_tiles_of_a_smooth_clip_agree_with_the_whole():
    """Within 15 percent of the signal, for a model that is little more than its shortcuts."""
    torch.manual_seed(0)
    vae = CausalVAE(replace(TINY_STREAMING, mid_attention="none", border="replicate", tile_size=64, tile_frames=16))
    for parameter in vae.parameters():
        parameter += 0.01 * torch.randn_like(parameter)
    coarse = torch.rand(1, 3, 3, 3, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pixels = interpolate(coarse, size=(33, 96, 96), mode="trilinear")
    whole = vae.encode(pixels).mean
    assert (encode_tiled(vae, pixels).mean - whole).square().mean() < 0.15**2 * whole.square().mean()
    decoded = vae.decode(whole)
    assert (decode_tiled(vae, whole) - decoded).square().mean() < 0.15**2 * decoded.square().mean()


def test_blending_fades_from_one_tile_to_the_next():
    faded = blend(torch.zeros(1, 1, 1, 1, 8), torch.ones(1, 1, 1, 1, 8), 4, 4).flatten()
    assert faded.tolist() == [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]
    assert OVERLAP == 0.25
