"""Every metric: what computes it, which way is better, on which network, after whom. To add one, write a function and a line here."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from kinema.curation.filters.quality import RANGES, SVM
from kinema.errors import InputError, KinemaError
from kinema.evaluate.backbones import MINILM
from kinema.evaluate.metrics import alignment, distributions, motion, reconstruction, visual
from kinema.evaluate.published import BACKBONES
from kinema.media.imagenet import EFFICIENTNET
from kinema.media.packaged import Packed, located
from kinema.vae.perceptual import HED, LPIPS

Family = Literal["alignment", "motion", "visual", "reconstruction", "distribution"]

VBENCH = "Huang et al. 2024, arXiv 2311.17982"
OURS = "ours"
JUDGE = "our recogniser on EfficientNet-Lite0"
TOWERS = "our video-text model on EfficientNet-Lite0 and MiniLM"
DIS = "DIS optical flow"
EFFNET = "EfficientNet-Lite0"
STYLE = "a linear layer on EfficientNet-Lite0 and our recogniser"
LIVE = "BRISQUE on LIVE"
PACKAGES = {
    JUDGE: (EFFICIENTNET,),
    STYLE: (EFFICIENTNET,),
    EFFNET: (EFFICIENTNET,),
    TOWERS: (EFFICIENTNET, MINILM),
    LIVE: (SVM, RANGES),
}
"""Backbone -> the files in packages that it is made of."""


@dataclass(frozen=True)
class Metric:
    """One line of the table. A video's metrics take a Clip; a distribution's take two sets of feature vectors."""

    family: Family
    measure: Callable[..., Any]
    worst: float | int  # ends of the scale on which plots show it; the better end also tells the direction
    best: float | int
    backbone: str  # named as what it is
    source: str
    published: str = ""  # a name in BACKBONES without which it is left out
    packages: tuple[Packed, ...] = ()
    features: str = ""  # of a distribution: a name in FEATURES

    @property
    def higher_is_better(self) -> bool:
        return self.best > self.worst

    @property
    def definition(self) -> str:
        return " ".join((inspect.getdoc(self.measure) or "").split())

    def rated(self, value: float | int) -> float:
        """On [0, 1], 1 the best."""
        return min(1.0, max(0.0, (value - self.worst) / (self.best - self.worst)))

    def missing(self) -> str:
        """Why it cannot be measured here; empty where it can."""
        if self.published and (reason := BACKBONES[self.published].missing()):
            return reason
        try:
            for packed in (*self.packages, *PACKAGES.get(self.backbone, ())):
                located(packed)
        except KinemaError as error:
            return str(error)
        return ""


METRICS: dict[str, Metric] = {
    "subject": Metric("alignment", alignment.subject, 0, 1, JUDGE, VBENCH),
    "several_subjects": Metric("alignment", alignment.several_subjects, 0, 1, JUDGE, VBENCH),
    "color": Metric("alignment", alignment.color, 0, 1, TOWERS, VBENCH),
    "number": Metric("alignment", alignment.number, 0, 1, JUDGE, OURS),
    "place": Metric("alignment", alignment.place, 0, 1, JUDGE, VBENCH),
    "spatial_relation": Metric("alignment", alignment.spatial_relation, 0, 1, JUDGE, VBENCH),
    "action": Metric("alignment", alignment.action, 0, 1, TOWERS, VBENCH),
    "camera": Metric("alignment", alignment.camera, 0, 1, "our camera classifier on DIS optical flow", OURS),
    "style": Metric("alignment", alignment.style, 0, 1, STYLE, VBENCH),
    "overall_consistency": Metric("alignment", alignment.overall_consistency, 0, 1, TOWERS, VBENCH),
    "clip_similarity": Metric("alignment", alignment.clip_similarity, 0.15, 0.4, "CLIP", "Radford et al. 2021, arXiv 2103.00020", "clip"),
    "overall_consistency_viclip": Metric("alignment", alignment.overall_consistency_viclip, 0, 0.364, "ViCLIP", VBENCH, "viclip"),
    "dynamic_degree": Metric("motion", motion.dynamic_degree, 0, 1, DIS, VBENCH),
    "dynamic_degree_raft": Metric("motion", motion.dynamic_degree_raft, 0, 1, "RAFT", VBENCH, "raft"),
    "smoothness": Metric("motion", motion.smoothness, 0.8, 1, DIS, VBENCH),
    "temporal_flicker": Metric("motion", motion.temporal_flicker, 0.8, 1, "pixels", VBENCH),
    "warp_error": Metric("motion", motion.warp_error, 20, 0, DIS, "Lai et al. 2018, arXiv 1808.00449"),
    "direction": Metric("motion", motion.direction, 0, 1, DIS, OURS),
    "speed": Metric("motion", motion.speed, 0, 1, DIS, OURS),
    "path_jerk": Metric("motion", motion.path_jerk, 1, 0, DIS, OURS),
    "path_error": Metric("motion", motion.path_error, 0.5, 0, JUDGE, OURS),
    "brisque": Metric("visual", visual.brisque, 100, 0, LIVE, "Mittal et al. 2012"),
    "colour_contrast": Metric("visual", visual.colour_contrast, 0, 1, "pixels", "Hasler & Süsstrunk 2003"),
    "edge_blur": Metric("visual", visual.edge_blur, 4, 0, "pixels", "Zhuo & Sim 2011"),
    "subject_consistency_effnet": Metric("visual", visual.subject_consistency_effnet, 0.5, 1, EFFNET, VBENCH),
    "background_consistency_effnet": Metric("visual", visual.background_consistency_effnet, 0.5, 1, EFFNET, VBENCH),
    "seams": Metric("visual", visual.seams, 10, 0, "pixels", OURS),
    "laion_aesthetic": Metric("visual", visual.laion_aesthetic, 1, 10, "LAION's predictor on CLIP ViT-L/14", "Schuhmann 2022", "laion"),
    "subject_consistency_dino": Metric("visual", visual.subject_consistency_dino, 0.1462, 1, "DINO", VBENCH, "dino"),
    "background_consistency_clip": Metric("visual", visual.background_consistency_clip, 0.2615, 1, "CLIP", VBENCH, "clip"),
    "imaging_quality_musiq": Metric("visual", visual.imaging_quality_musiq, 0, 1, "MUSIQ", VBENCH, "musiq"),
    "psnr": Metric("reconstruction", reconstruction.psnr, 15, 45, "pixels", OURS),
    "ssim": Metric("reconstruction", reconstruction.ssim, 0, 1, "pixels", "Wang et al. 2004"),
    "lpips_hed": Metric(
        "reconstruction", reconstruction.lpips_hed, 0.6, 0, "LPIPS's weights on HED's VGG16", "Zhang et al. 2018", packages=(HED, LPIPS)
    ),
    "lpips": Metric("reconstruction", reconstruction.lpips, 0.6, 0, "VGG16", "Zhang et al. 2018, arXiv 1801.03924", "vgg16", (LPIPS,)),
    "fd_effnet": Metric("distribution", distributions.frechet_unbiased, 100, 0, EFFNET, "Heusel et al. 2017", features="effnet"),
    "fd_alignment": Metric("distribution", distributions.frechet_unbiased, 1, 0, TOWERS, "Unterthiner et al. 2018", features="alignment"),
    "kd_alignment": Metric("distribution", distributions.kernel, 0.01, 0, TOWERS, "Bińkowski et al. 2018", features="alignment"),
    "precision_alignment": Metric("distribution", distributions.precision, 0, 1, TOWERS, "Kynkäänniemi et al. 2019", features="alignment"),
    "recall_alignment": Metric("distribution", distributions.recall, 0, 1, TOWERS, "Kynkäänniemi et al. 2019", features="alignment"),
    "fvd": Metric("distribution", distributions.fvd, 1000, 0, "I3D on Kinetics-400", "Unterthiner et al. 2018", "i3d", features="i3d"),
}  # fmt: skip
"""Name -> metric."""

FEATURES: dict[str, Callable[[Any], Any]] = {
    "effnet": lambda clip: clip.pooled.mean(dim=0).numpy(),
    "alignment": lambda clip: clip.vector.numpy(),
    "i3d": lambda clip: clip.judges.published("i3d").video(clip.frames.permute(0, 3, 1, 2)).numpy(),
}
"""Name -> a video's vector, for distances between sets."""


def chosen(names: str) -> dict[str, Metric]:
    """ "all", a family, or names joined by commas. Raises InputError for a name that is not known."""
    if names == "all":
        return METRICS
    picked: dict[str, Metric] = {}
    for name in (part.strip() for part in names.split(",")):
        found = {key: metric for key, metric in METRICS.items() if name in (key, metric.family)}
        if not found:
            families = dict.fromkeys(metric.family for metric in METRICS.values())
            raise InputError(f"metrics={name!r} is not known: use all, a family ({', '.join(families)}), or names: {', '.join(METRICS)}")
        picked |= found
    return picked
