"""One pipeline for text, pictures and all else a video may be made from: read, denoise, keep the latents, decode, write.

What is given (`Request.given`) is encoded to latents that stay as they are at every step, or lie under the noise, as the model takes it.

Noise is drawn on the CPU in float32 from the request's own seed, so that it does not depend on the device, the dtype, or on what
else is made in the same run.

Started by torchrun, all ranks of a sample's group take each step together and hold the same latents; weights and tokens are split
(`kinema.parallel`). The leader alone reads prompts, writes files, and puts frames together.
"""

import logging
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from kinema.conditioning.frames import Known, Places, cut, encode_places, places_of
from kinema.conditioning.reference import encode_reference, nothing_known, picture_of
from kinema.dit.attending import set_attention
from kinema.dit.model import DiT
from kinema.errors import InputError, KinemaError
from kinema.flow.guidance import by_two_scales, classifier_free, embedded_guidance
from kinema.flow.reuse import BlockCache, guided_within, reused
from kinema.flow.samplers import SAMPLERS, Velocity
from kinema.flow.samplers import OnStep as OnClean
from kinema.flow.samplers import ignore_step as ignore_clean
from kinema.kernels.choose import PLAIN
from kinema.media.frames import to_uint8
from kinema.parallel import apply
from kinema.parallel.mesh import MeshConfig, World
from kinema.parallel.tiles import decode_spread
from kinema.pipelines.base import ModelConfig, OnStep, Request, Result, check_given
from kinema.pipelines.bound import bind, start_of
from kinema.pipelines.clock import Clock
from kinema.pipelines.compiled import check_tools, compile_dit
from kinema.pipelines.files import LATENTS_FOLDER, digest, fresh_stem, make_folder, result_path, save_latents, slug, write_result
from kinema.pipelines.loras import LoraFile, merge_files
from kinema.pipelines.pieces import places_within, spans
from kinema.pipelines.placement import Placement
from kinema.pipelines.reading import Prompts
from kinema.pipelines.recipe import Hashes, facts_of, recipe_of
from kinema.pipelines.shortage import told, way_to_decode, way_to_denoise
from kinema.pipelines.store import ModelFiles
from kinema.pipelines.streamed import load_streamed
from kinema.shapes import SPACE_STRIDE, TIME_STRIDE, LatentShape, PixelShape
from kinema.text.encoder import TextStates
from kinema.vae.model import CausalVAE, VAEConfig, channels_last
from kinema.vae.streaming import decode_stream
from kinema.vae.tiling import decode_parts
from kinema.weights import load_dit, load_vae
from kinema.world.memory import recall

LOG = logging.getLogger(__name__)


def ignore_step(stage: str, done: int, total: int) -> None:
    """For callers that do not want to know."""


def draw_noise(request: Request, channels: int) -> Float[Tensor, "1 C t h w"]:
    """Where sampling starts: a pure function of seed and shape."""
    latent = request.shape.latent
    generator = torch.Generator("cpu").manual_seed(request.seed)
    return torch.randn((1, channels, latent.t, latent.h, latent.w), generator=generator)


def check_finite(done: int, clean: Tensor, placement: Placement) -> None:
    """Raise KinemaError where a step gave what is no number, rather than paint with it for hours."""
    if not clean.isfinite().all():
        way = placement.attention.says(placement.device, placement.dtype)
        raise KinemaError(f"step {done} gave numbers that are not finite (attention by {way}): try --dtype fp32, or other weights")


def no_frames(latents: Float[Tensor, "C t h w"]) -> UInt8[Tensor, "0 H W 3"]:
    height, width = (SPACE_STRIDE * size for size in latents.shape[2:])
    return torch.empty(0, height, width, 3, dtype=torch.uint8)


def check_speed(placement: Placement, mesh: MeshConfig) -> None:
    """Raise InputError for ways to be fast that exclude each other, or cannot be had here."""
    placement.attention.make(placement.device, placement.dtype)
    if placement.compile != "none":
        check_tools(placement.compile, placement.device)
    if mesh.sequence > 1 and placement.attention.pattern is not None:
        raise InputError(f"attention={placement.attention} sees a whole video in order: use a tensor mesh, or attention=sdpa")
    if mesh.sequence > 1 and mesh.method == "ring" and placement.attention != PLAIN:
        raise InputError(f"attention={placement.attention}: the ring attends by PyTorch's kernels; use --mesh method=ulysses")
    if placement.compile != "none" and placement.offload == "blocks":
        raise InputError(
            f"compile={placement.compile} with offload=blocks: blocks whose weights come and go are not compiled; leave one out"
        )
    if placement.compile != "none" and mesh.peers > 1:
        raise InputError(f"compile={placement.compile} works in one process: leave it out where several make one video")


class VideoPipeline:
    """A model ready to make videos; its parts are loaded when they are first needed.

    The same request on the same machine gives the same bits, whatever was made before it.
    """

    def __init__(
        self, config: ModelConfig, files: ModelFiles, placement: Placement, world: World | None = None, loras: Sequence[LoraFile] = ()
    ):
        """world: the ranks that share the work; None: this process alone. loras: adapters that are added to the transformer.

        Raises InputError for a mesh that has no meaning here.
        """
        self.config, self.files, self.placement, self.loras = config, files, placement, tuple(loras)
        self.world = world or World(MeshConfig(), 0, 1, placement.device)
        if self.world.config.shard > 1:
            raise InputError(f"mesh shard={self.world.config.shard} is for training: sequence and tensor split the weights of one video")
        check_speed(placement, self.world.config)
        self.clock = Clock()
        self.prompts = Prompts(config, files.text, placement, self.world, self.clock)
        self.hashes = Hashes(files)

    @cached_property
    def dit(self) -> DiT:
        with self.clock("load dit"):
            if self.streamed:
                return load_streamed(self.files.dit, self.files.load_key, self.config.dit, self.placement, self.world)
            dit = load_dit(self.files.dit, self.config.dit, self.files.load_key)
            if self.loras:
                merge_files(dit.to(self.placement.dtype), self.loras, self.config.name)
            set_attention(dit, self.placement.attention.make(self.placement.device, self.placement.dtype))
            if self.spread:
                return apply(dit, self.world).to(self.placement.dtype)  # split first: no rank ever holds all of it
            if self.placement.compile != "none":
                compile_dit(dit, self.placement.compile, self.placement.device)
            return dit.to(self.home, self.placement.dtype)

    @cached_property
    def vae(self) -> CausalVAE:
        with self.clock("load vae"):
            vae = load_vae(self.files.vae, self.placement.tiles_of(self.config.vae)).to(self.home, self.placement.vae_dtype)
            channels_last(vae)
            return vae

    @property
    def streamed(self) -> bool:
        """Whether the transformer's blocks come from disk as they work. Raises InputError where adapters were to be merged into them."""
        if self.placement.offload == "blocks" and self.loras:
            raise InputError("lora: adapters are merged into weights that stay; with offload=blocks, convert a merged file and give that")
        return self.placement.offload == "blocks"

    @property
    def spread(self) -> bool:
        """Whether several ranks make one video."""
        return self.world.config.peers > 1

    @property
    def home(self) -> torch.device:
        """Where a part lies while it does not work."""
        return self.placement.device if self.placement.offload == "none" else torch.device("cpu")

    @contextmanager
    def at_work(self, part: nn.Module) -> Iterator[None]:
        """On the device while the block runs; what is spread over ranks stays there."""
        if (self.spread or self.streamed) and part is self.dit:
            with torch.no_grad():  # gathered weights cannot be inference tensors
                yield
            return
        part.to(self.placement.device)
        try:
            with torch.inference_mode():
                yield
        finally:
            part.to(self.home)

    def generate(self, request: Request, on_step: OnStep = ignore_step) -> Result:
        """Make one video."""
        self.clock.reset()
        return self.finish(self.sample(request, on_step), self.recipe(request), on_step)

    def generate_to(
        self, folder: Path, request: Request, stem: str | None = None, on_step: OnStep = ignore_step, on_clean: OnClean = ignore_clean
    ) -> Path:
        """Make one video and write it; its latents are on disk before decoding begins. Returns the path of the video or picture.

        Of several ranks the leader writes, and all return when it has.

        stem: file name without its ending; None gives it one that nothing else has. on_clean: see `sample`.
        Raises OutputError where it cannot be written; a folder that cannot be is told before the work begins.
        """
        self.clock.reset()
        stem = stem or self.world.share(lambda: fresh_stem(request))
        self.world.share(lambda: make_folder(folder))
        kept = folder / LATENTS_FOLDER / f"{stem}.safetensors"
        with told(lambda: way_to_denoise(self.config, request, self.placement), self.release):
            latents, recipe = self.sample(request, on_step, on_clean), self.recipe(request)
        if self.world.leads:
            save_latents(kept, latents, recipe)
        return self.decode_to(folder, kept, latents, recipe, on_step)

    def decode_to(
        self, folder: Path, kept: Path, latents: Float[Tensor, "C t h w"], recipe: dict[str, Any], on_step: OnStep = ignore_step
    ) -> Path:
        """Decode the latents that lie in `kept`, and write frames as they come, under its name; all ranks return when it is done.

        No more than a few parts of the video are in memory. Raises OutputError where it cannot be written.
        """
        way = partial(way_to_decode, self.config, self.placement, kept)
        with told(way, self.release), closing(self.parts(latents, on_step)) as parts:
            if self.world.leads:
                write_result(folder, kept.stem, parts, recipe, self.clock.seconds)
            else:
                deque(parts, maxlen=0)
            return self.world.share(lambda: result_path(folder, kept.stem, recipe))

    def release(self) -> None:
        """Let go of all parts; they are loaded again when they are needed."""
        self.prompts.forget()
        for part in ("dit", "vae"):
            self.__dict__.pop(part, None)

    def batch_stem(self, number: int, request: Request) -> str:
        """A file name that this model and request always get, so that a batch finds what it has made."""
        identity = {"model": self.config.name, "dit": str(self.files.dit), "request": facts_of(request)}
        identity |= {"loras": [str(lora) for lora in self.loras]} if self.loras else {}
        return f"{number:04}_{slug(request.prompt)}_seed{request.seed}_{digest(identity)}"

    def recipe(self, request: Request) -> dict[str, Any]:
        """What the leader knows of it, on all ranks."""
        known = self.world.share(lambda: recipe_of(request, self.config, self.hashes.wait(), self.placement))
        known |= {"loras": [lora.facts() for lora in self.loras]} if self.loras else {}
        return known | ({"mesh": asdict(self.world.config)} if self.spread else {})

    def sample(self, request: Request, on_step: OnStep = ignore_step, on_clean: OnClean = ignore_clean) -> Float[Tensor, "C t h w"]:
        """Denoise: float32 latents on the CPU, scaled as the DiT sees them.

        on_clean: called with (steps done, the clean latents [1 C t h w] as predicted then), for previews.
        """
        check_given(self.config, request)
        drafted = self.draft(request, on_step, on_clean) if request.draft else {}
        request = self.sampled(request)
        if self.world.leads:
            self.hashes.start()
        read = [states.to(self.placement.device, self.placement.dtype) for states in self.prompts.states_of(request)]
        noise, reference = draw_noise(request, self.config.vae.latent_channels).to(self.placement.device), self.reference(request)
        work, places = spans(noise.shape[2], self.window(request)), self.places(request)
        first, each = (request.steps if request.draft else 0) * len(work), len(request.sigmas) - 1
        whole, part, before = noise[0, :, :0].float().cpu(), None, range(0)
        for number, span in enumerate(work):
            ahead = TIME_STRIDE * (span.start - before.start)
            shown: Places = {} if part is None else dict(enumerate(self.decode(part)[ahead:]))
            shape = replace(request, frames=TIME_STRIDE * (len(span) - 1) + 1).shape
            known, under = self.known(shown | places_within(places, span), shape), self.known(places_within(drafted, span), shape)
            start = start_of(noise[:, :, span.start : span.stop], known, under, request, self.config.dit)
            velocity, steps = self.velocity(request, read, known, reference), (first + number * each, first + len(work) * each)
            part = self.denoise(request, start, velocity, steps, on_step, on_clean)
            whole, before = torch.cat([whole, part[:, whole.shape[1] - span.start :]], dim=1), span
        return whole

    def draft(self, request: Request, on_step: OnStep, on_clean: OnClean) -> Places:
        """The video of a first pass, at the size of the second; what it makes is told as the beginning of both."""
        first, work = request.first_pass, len(spans(request.shape.latent.t, self.window(request)))
        later = work * (len(request.sigmas) - 1)
        latents = self.sample(first, lambda stage, done, total: on_step(stage, done, total + later), on_clean)
        frames = self.decode(latents)
        return dict(enumerate(cut(frames, request.shape))) if self.world.leads else {}

    def denoise(
        self,
        request: Request,
        start: Float[Tensor, "1 C t h w"],
        velocity: Velocity,
        steps: tuple[int, int],
        on_step: OnStep,
        on_clean: OnClean,
    ) -> Float[Tensor, "C t h w"]:
        """Latents that are made at once. steps: those done before, and all that there are."""
        dit, (before, total) = self.dit, steps
        on_step("denoise", before, total)

        def tell(done: int, clean: Tensor) -> None:
            check_finite(done, clean, self.placement)
            on_clean(done, clean)
            on_step("denoise", before + done, total)

        with self.clock("denoise"), self.at_work(dit):
            latents = SAMPLERS[request.sampler](velocity, start, request.sigmas, tell)
        return latents[0].float().cpu()

    def window(self, request: Request) -> int:
        """Latents that are made at once."""
        whole, most = request.shape.latent.t, self.config.defaults.window
        return whole if most is None else min(whole, replace(request, frames=most).shape.latent.t)

    @property
    def dropped(self) -> int:
        """Frames that are made and not shown: with 33 channels the first four, as published."""
        return TIME_STRIDE if self.config.dit.image_condition == "latent_concat" else 0

    def sampled(self, request: Request) -> Request:
        """With the frames that will be dropped."""
        return replace(request, frames=request.frames + self.dropped)

    def places(self, request: Request) -> Places:
        """What is given, frame by frame; read by the leader."""
        if not (request.given and self.world.leads):
            return {}
        return places_of(request.given, request.shape, request.fps, self.window(request))

    def known(self, places: Places, shape: PixelShape) -> Known | None:
        """Given frames encoded by the leader, on the device of each of its peers; None where there are none."""
        found = self.world.share(lambda: self.encode(places, shape) if places else None)
        return None if found is None else found.to(self.placement.device)

    def encode(self, places: Places, shape: PixelShape) -> Known:
        vae = self.vae
        with self.clock("encode"), self.at_work(vae):
            return encode_places(places, shape, vae)

    def reference(self, request: Request) -> Float[Tensor, "1 C one h w"] | None:
        """Latents of what the subject looks like, on the device of each peer; None for models that take none."""
        if "reference" not in self.config.conditions:
            return None
        alone = request.recalls and not request.reference and not request.given  # a picture that is given knows better
        recalled = recall(request.prompt) if alone else None
        if recalled:
            LOG.info("recalled %r for the prompt's subject", recalled.noun)

        def seen() -> Tensor:
            picture = picture_of(request.reference, recalled)
            if picture is None:
                return nothing_known(request.shape, self.config.vae.latent_channels)
            with self.clock("encode"), self.at_work(self.vae):
                return encode_reference(picture, request.shape, self.vae)

        return self.world.share(seen).to(self.placement.device)

    def velocity(
        self,
        request: Request,
        texts: Sequence[TextStates],
        known: Known | None = None,
        reference: Float[Tensor, "1 C one h w"] | None = None,
    ) -> Velocity:
        """The model bound to the request's texts, what is given and what the subject looks like, guided as the request says."""
        device, dtype = self.placement.device, self.placement.dtype
        scale = request.embedded_guidance
        embedded = None if scale is None else embedded_guidance(scale, dtype).to(device)[None]
        cache = BlockCache(request.cache, request.forecast, self.world.total) if request.cache else None
        nothing = None if reference is None else torch.zeros_like(reference)

        def told(text: TextStates, seen: Float[Tensor, "1 C one h w"] | None) -> Velocity:
            return bind(self.dit, text, embedded, known, cache.stream() if cache else None, seen)

        asked = told(texts[0], reference)
        if len(texts) == 1:
            return reused(asked, request.reuse)
        base, apart = told(texts[1], nothing), request.reference_guidance  # the unconditional half knows nothing
        if apart is None or reference is None or not reference.any():
            guided = classifier_free(base, asked, request.guidance)
        else:
            guided = by_two_scales(base, told(texts[0], nothing), asked, request.guidance, apart)
        return reused(guided_within(guided, asked, request.guidance_interval), request.reuse)

    def finish(self, latents: Float[Tensor, "C t h w"], recipe: dict[str, Any], on_step: OnStep = ignore_step) -> Result:
        """Decode latents that `recipe` made."""
        return Result(frames=self.decode(latents, on_step), latents=latents, recipe=recipe, timings=self.clock.seconds)

    def decode(self, latents: Float[Tensor, "C t h w"], on_step: OnStep = ignore_step) -> UInt8[Tensor, "T H W 3"]:
        """Frames of latents. Ranks that do not lead get none."""
        return torch.cat([no_frames(latents), *self.parts(latents, on_step)])

    def parts(self, latents: Float[Tensor, "C t h w"], on_step: OnStep = ignore_step) -> Generator[UInt8[Tensor, "_ H W 3"], None, None]:
        """`decode`, part by part: streamed where the VAE can, otherwise whole or in tiles."""
        if not (self.world.leads or self.tiles_spread):
            return
        vae, done, total = self.vae, 0, latents.shape[1]
        vae.config = self.tiled(self.placement.tiles_of(self.config.vae), LatentShape(*latents.shape[1:]))
        on_step("decode", 0, total)
        with self.clock("decode"), self.at_work(vae):
            scaled = (latents[None] / self.config.vae.scaling_factor).to(self.placement.device, self.placement.vae_dtype)
            for part in self.decoded(scaled):
                hidden = max(self.dropped - done, 0)
                done += part.shape[2]
                if done > self.dropped:
                    yield to_uint8(part[0]).cpu()[hidden:]
                on_step("decode", (done - 1) // TIME_STRIDE + 1, total)

    def tiled(self, config: VAEConfig, latent: LatentShape) -> VAEConfig:
        """With tiles that fit into free memory, where none are chosen; all ranks take the leader's."""
        if config.streams or not self.placement.tile or self.placement.tile_size is not None:
            return config
        from kinema.pipelines.plan import fitting_tile, free_memory  # slow to import, and mini streams

        def choose() -> int:
            return fitting_tile(config, latent, self.placement, free_memory(self.placement.device))

        size = self.world.share(choose) if self.tiles_spread else choose()
        if size != config.tile_size:
            LOG.warning(
                "decoding in tiles of %d pixels, not %d: memory is short; --tile %d gives the same again", size, config.tile_size, size
            )
        return replace(config, tile_size=size)

    @property
    def tiles_spread(self) -> bool:
        return self.spread and self.placement.tile and not self.config.vae.streams

    def decoded(self, latents: Float[Tensor, "1 C t h w"]) -> Iterator[Float[Tensor, "1 3 _ H W"]]:
        if self.tiles_spread:
            pixels = decode_spread(self.vae, latents, self.world)
            yield from [] if pixels is None else [pixels]
        elif self.config.vae.streams:
            yield from decode_stream(self.vae, [latents])
        else:
            yield from decode_parts(self.vae, latents) if self.placement.tile else [self.vae.decode(latents)]
