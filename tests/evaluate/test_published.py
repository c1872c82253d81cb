"""Published networks under their own names: RAFT from both its checkpoints, exported programs, and what is said where one is missing."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import CLIPTokenizerFast

from kinema.cli import main
from kinema.errors import InputError, WeightsError
from kinema.evaluate import measure, raft
from kinema.evaluate.exported import MUSIQ, ViCLIP
from kinema.evaluate.metrics.clip import Clip, Judges
from kinema.evaluate.metrics.table import METRICS
from kinema.evaluate.published import BACKBONES, place_backbone
from kinema.evaluate.raft import RAFT
from kinema.evaluate.speed import blob_video
from kinema.media.video import write_video

MOVING = torch.from_numpy(blob_video((9, 128, 128), 0))


@pytest.fixture(autouse=True)
def _own_places(monkeypatch):
    """What a test says of backbones ends with it."""
    for backbone in BACKBONES.values():
        monkeypatch.setenv(backbone.variable, "")
    for backbone in BACKBONES.values():
        monkeypatch.delenv(backbone.variable)


def random_raft() -> RAFT:
    torch.manual_seed(0)
    return RAFT().eval()


def authors_names(state):
    """A checkpoint as the authors save it: their names, wrapped for several devices, with a shortcut's norm twice."""
    back = [
        ("feature_encoder.", "fnet."),
        ("context_encoder.", "cnet."),
        ("et.conv.", "et.conv2."),
        ("et.convnormrelu.0.", "et.conv1."),
        ("et.convnormrelu.1.", "et.norm1."),
        *((f".convnormrelu{n}.{k}.", f".{kind}{n}.") for n in (1, 2) for k, kind in enumerate(("conv", "norm"))),
        ("motion_encoder.conv.0.", "encoder.conv."),
        *(
            (f"motion_encoder.conv{long}{n}.0.", f"encoder.conv{short}{n}.")
            for long, short in (("corr", "c"), ("flow", "f"))
            for n in (1, 2)
        ),
        *((f"recurrent_block.convgru{n}.conv{gate}.", f"gru.conv{gate}{n}.") for n in (1, 2) for gate in "zrq"),
        ("mask_predictor.convrelu.0.", "update_block.mask.0."),
        ("mask_predictor.conv.", "update_block.mask.2."),
    ]
    found = {}
    for name, value in state.items():
        for ours, theirs in back:
            name = name.replace(ours, theirs)
        found[f"module.{name}"] = value
        if ".downsample.1." in name:
            found[f"module.{name.replace('downsample.1', 'norm3')}"] = value
    return found


def test_raft_loads_the_authors_checkpoint_as_it_loads_torchvisions(tmp_path):
    net = random_raft()
    torch.save(net.state_dict(), tmp_path / "torchvision.pth")
    theirs = authors_names(net.state_dict())
    known = ("fnet.conv2.bias", "fnet.layer2.0.downsample.0.weight", "cnet.layer3.0.norm3.running_mean", "cnet.norm1.weight")
    block = ("encoder.convf1.weight", "encoder.conv.bias", "gru.convq2.bias", "flow_head.conv1.weight", "mask.0.bias", "mask.2.weight")
    assert {*(f"module.{name}" for name in known), *(f"module.update_block.{name}" for name in block)} <= set(theirs)
    torch.save(theirs, tmp_path / "raft-things.pth")
    frames = MOVING.permute(0, 3, 1, 2)
    flows = [RAFT.load(str(tmp_path / name)).flow(frames[:1], frames[4:5], 2) for name in ("torchvision.pth", "raft-things.pth")]
    assert torch.equal(*flows)
    assert flows[0].shape == (1, 2, 128, 128)


def test_another_checkpoint_is_refused(tmp_path):
    state = random_raft().state_dict()
    del state["update_block.flow_head.conv2.bias"]
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"flow_head\.conv2\.bias"):
        RAFT.load(str(tmp_path / "x.pth"))
    with pytest.raises(InputError, match="128 pixels"):
        random_raft().flow(torch.zeros(1, 3, 64, 128, dtype=torch.uint8), torch.zeros(1, 3, 64, 128, dtype=torch.uint8))


def test_raft_agrees_with_torchvisions():
    optical_flow = pytest.importorskip("torchvision.models.optical_flow", reason="torchvision is not installed", exc_type=ImportError)
    theirs, ours = optical_flow.raft_large().eval(), random_raft()
    ours.load_state_dict(theirs.state_dict())
    pictures = torch.rand(2, 1, 3, 136, 144) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(ours(*pictures, 3), theirs(*pictures, num_flow_updates=3)[-1], rtol=1e-4, atol=1e-4)


def test_correlations_are_looked_up_where_the_flow_leads():
    a, b = torch.randn(2, 1, 8, 16, 16).unbind(0)
    flow = torch.zeros(1, 2, 16, 16)
    flow[:, 0], flow[:, 1] = 2, -1
    found = raft.around(raft.correlations(a, b), flow)
    middle = (2 * raft.RADIUS + 1) ** 2 // 2
    wanted = (a[0, :, 5, 7] * b[0, :, 4, 9]).sum() / 8**0.5
    assert found[0, middle, 5, 7] == pytest.approx(float(wanted), abs=1e-5)
    right = (a[0, :, 5, 7] * b[0, :, 4, 10]).sum() / 8**0.5
    assert found[0, middle + 2 * raft.RADIUS + 1, 5, 7] == pytest.approx(float(right), abs=1e-5)
    assert found[0, 0, 0, 15] == 0  # outside


def test_an_even_flow_stays_even_when_enlarged():
    flow = torch.tensor([1.5, -0.5]).view(1, 2, 1, 1).expand(1, 2, 6, 7)
    large = raft.enlarged(flow, torch.randn(1, 9 * 64, 6, 7))
    inside = large[:, :, 8:-8, 8:-8]
    torch.testing.assert_close(inside, 8 * torch.tensor([1.5, -0.5]).view(1, 2, 1, 1).expand_as(inside))


class Known:
    """Stands where RAFT would: the whole picture goes so many pixels a step."""

    def __init__(self, pixels: float):
        self.pixels = pixels

    def flow(self, before, after):
        return torch.full((1, 2, *before.shape[2:]), self.pixels / 2**0.5)


@pytest.mark.parametrize(("pixels", "dynamic"), [(0.0, 0.0), (2.9, 0.0), (3.1, 1.0), (40.0, 1.0)])
def test_vbenchs_verdict_turns_at_its_threshold(pixels, dynamic, monkeypatch):
    clip = Clip(MOVING, 8.0, "", Judges())
    monkeypatch.setattr(clip.judges, "published", lambda name: Known(pixels))
    assert METRICS["dynamic_degree_raft"].measure(clip) == dynamic  # 6 of 256 pixels: 3 of 128


class Bright(torch.nn.Module):
    """Brightness as an opinion score."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return 100 * pictures.mean()


class Alike(torch.nn.Module):
    """Some number of a video and a text."""

    def forward(self, video: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return video.mean() + tokens.sum() * 1e-6


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_an_exported_program_is_a_metric(tmp_path, monkeypatch):
    torch.export.save(torch.export.export(Bright(), (torch.rand(1, 3, 128, 128),)), tmp_path / "musiq.pt2")
    torch.jit.script(Bright()).save(tmp_path / "musiq.pt")
    values = []
    for name in ("musiq.pt2", "musiq.pt"):
        place_backbone(f"musiq={tmp_path / name}")
        assert not METRICS["imaging_quality_musiq"].missing()
        values.append(METRICS["imaging_quality_musiq"].measure(Clip(MOVING, 8.0, "", Judges())))
    assert values[0] == values[1] == pytest.approx(float(MOVING.float().mean()) / 255, abs=0.01)
    with pytest.raises(InputError, match="export it for these shapes"):
        MUSIQ(str(tmp_path / "musiq.pt2")).score(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_viclip_reads_text_with_clips_tokenizer(tmp_path, monkeypatch):
    shapes = (torch.rand(1, 8, 3, 224, 224), torch.zeros(1, 77, dtype=torch.long))
    torch.export.save(torch.export.export(Alike(), shapes), tmp_path / "viclip.pt2")
    net = ViCLIP(str(tmp_path / "viclip.pt2"))
    frames = MOVING.permute(0, 3, 1, 2)
    monkeypatch.setenv("KINEMA_CLIP", str(tmp_path / "none"))
    with pytest.raises(WeightsError, match="--backbone clip=DIR"):
        net.similarity(frames, "a cat")
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2, "c": 3, "t</w>": 4}
    CLIPTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(words, [], end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    ).save_pretrained(tmp_path / "clip")
    monkeypatch.setenv("KINEMA_CLIP", str(tmp_path / "clip"))
    assert net.similarity(frames, "a") != net.similarity(frames, "a a")
    assert net.similarity(frames, "a " * 300) == pytest.approx(float(frames.float().mean()) / 255, abs=0.01)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_missing_network_says_where_it_is_to_be_had(name, monkeypatch, tmp_path):
    monkeypatch.setenv(BACKBONES[name].variable, str(tmp_path / "nothing"))
    reason = BACKBONES[name].missing()
    assert BACKBONES[name].get in reason
    assert f"--backbone {name}=PATH" in reason
    with pytest.raises(WeightsError):
        BACKBONES[name].load()
    with pytest.raises(InputError, match="there is no"):
        place_backbone(f"{name}={tmp_path / 'nothing'}")


def test_a_backbone_of_no_known_name_is_refused(tmp_path, capsys):
    with pytest.raises(InputError, match="NAME one of: clip"):
        place_backbone(f"resnet={tmp_path}")
    flags = ["--model", f"a={tmp_path}", "--prompts", "general", "--backbone", "raft"]
    assert main(["evaluate", "run", *flags]) == 2
    assert "must be NAME=PATH" in capsys.readouterr().err


def test_other_weights_measure_again_and_only_what_needs_them(tmp_path):
    write_video(tmp_path / "a.mp4", np.ascontiguousarray(MOVING.numpy()[:5]), 8)
    torch.manual_seed(0)
    found = []
    for bias in (0.0, 5.0):
        net = RAFT()
        net.update_block.flow_head.conv2.bias.data += bias
        torch.save(net.state_dict(), tmp_path / f"{bias}.pth")
        place_backbone(f"raft={tmp_path / f'{bias}.pth'}")
        job = measure.Job(tmp_path / "a.mp4", "", ("temporal_flicker", "dynamic_degree_raft"), ())
        if found:
            assert found[0].missing(job).metrics == ("dynamic_degree_raft",)
            found.append(measure.joined(found[0], measure.measure(found[0].missing(job))))
        else:
            measure.judges.cache_clear()
            found.append(measure.measure(job))
        assert not found[-1].missing(job).metrics
        measure.judges.cache_clear()
    assert not found[0].reasons
    assert found[0].values["temporal_flicker"] == found[1].values["temporal_flicker"]
    assert found[0].weights != found[1].weights
    assert found[1].values["dynamic_degree_raft"] == 1  # each of 20 steps adds five cells
