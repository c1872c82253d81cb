"""A picture that speaks: the video pipeline's own parts, driven by a voice, window by window.

A window is what the adapters were trained on; the first begins with the picture, each later one with the last frames of the one before.
Every window gives its frames as soon as it is done, so the same code serves files and streams.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from kinema.conditioning.audio import AudioAdapter
from kinema.conditioning.avatar import Drive, load_avatar
from kinema.conditioning.expression import NAMES, named_track, prompt_for
from kinema.conditioning.expression import VALUES as FACE_VALUES
from kinema.conditioning.pose import VALUES as POSE_VALUES
from kinema.conditioning.pose import scaled
from kinema.conditioning.whisper import STATE_RATE, STATE_SAMPLES, STATES, WIDTH, load_whisper
from kinema.dit.added import Added, Cross
from kinema.dit.lora import merge
from kinema.dit.model import DiT
from kinema.errors import InputError
from kinema.flow.path import interpolate
from kinema.flow.samplers import SAMPLERS, Velocity
from kinema.flow.samplers import OnStep as OnClean
from kinema.flow.samplers import ignore_step as ignore_clean
from kinema.flow.sigmas import schedule
from kinema.media.audio import RATE
from kinema.media.face import Box, find_faces
from kinema.media.frames import from_uint8, resize
from kinema.pipelines.base import OnStep
from kinema.pipelines.loras import refuse_quantised
from kinema.pipelines.recipe import sha256
from kinema.pipelines.store import PRETRAINED
from kinema.pipelines.video import VideoPipeline, ignore_step
from kinema.shapes import PATCH, SPACE_STRIDE, TIME_STRIDE, PixelShape
from kinema.text.encoder import TextStates

LOG = logging.getLogger(__name__)
SHIPPED = PRETRAINED / "avatar" / "avatar.safetensors"
KEPT = 5  # frames of a window that the next one begins with: two latents
STREAM_WINDOW = 17  # frames a chunk of a stream is made with: 12 of them are new, a second
STREAM_MEMORY = 100  # states (2 s) before a chunk that are heard again with it
LONGEST = 600.0  # seconds of speech at once
FACE_SHARE, FACE_HEIGHT = 0.66, 0.57  # of the cut picture: width of the face's box, and where its middle lies
LISTENING_SIDE = 3**0.5  # the box that listens has three times the face's area, as published


@dataclass(frozen=True, kw_only=True)
class Acting:
    """What a face is asked to do. Raises InputError where a value breaks a rule."""

    seed: int = 0
    steps: int = 4
    begin: float = 0.1  # noise level at which the transformer takes over from the sketch; 1 begins from noise alone
    shift: float = 3.0
    guidance: float = 1.0  # above 1 the voice is followed beyond what was trained, at twice the time
    expression: str | None = None
    face_track: Float[Tensor, "T 6"] | None = None  # instead of a named expression
    pose_track: Float[Tensor, "T 5"] | None = None
    prompt: str | None = None
    window: int = 33  # frames made at once

    def __post_init__(self):
        PixelShape(self.window, 64, 64)
        if self.window <= KEPT:
            raise InputError(
                f"window={self.window} must be above {KEPT}, the frames that are carried over: 33 is as trained, {STREAM_WINDOW} streams"
            )
        if not 1 <= self.guidance <= 20:
            raise InputError(f"guidance={self.guidance} is out of range: use 1 (off) to 20")
        if self.expression and self.expression not in NAMES:
            raise InputError(f"expression={self.expression!r} is not known: use one of {', '.join(NAMES)}")
        if not 0 < self.begin <= 1:
            raise InputError(f"begin={self.begin} is out of range: use more than 0 to 1; 0.1 is usual")
        if not 1 <= self.steps <= 100:
            raise InputError(f"steps={self.steps} is out of range: use 1 to 100; 4 is usual")
        if self.expression and self.face_track is not None:
            raise InputError(f"expression={self.expression!r} and a driving video both say what the face shows: leave one out")


@dataclass(frozen=True)
class Portrait:
    """A picture cut to one face."""

    frame: UInt8[Tensor, "S S 3"]
    face: Box  # in the cut picture
    found: bool  # False: no face was found, and the whole picture is taken for one


def choose_face(faces: list[Box], number: int | None) -> Box | None:
    """One of several, counted from the left, from 1; the largest where none is chosen; None where there is none.

    Raises InputError for a number that is not there.
    """
    if number is not None and not 1 <= number <= len(faces):
        raise InputError(f"face={number} is not there: {len(faces)} found, counted from the left from 1")
    if number is not None:
        return faces[number - 1]
    if len(faces) > 1:
        LOG.warning("%d faces found: the largest is taken; choose with --face N, counted from the left", len(faces))
    return max(faces, key=lambda box: box.area, default=None)


def portrait(picture: UInt8[Tensor, "H W 3"], side: int, number: int | None = None) -> Portrait:
    """Cut a square around a face as avatars were trained with, and bring it to side x side.

    Where no face is found the middle of the picture is taken, and all of it listens.
    """
    height, width = picture.shape[:2]
    if min(height, width) < 32:
        raise InputError(f"a picture of {width}x{height} pixels is too small for a face: give at least 32x32")
    face = choose_face(find_faces(picture), number)
    if face is None:
        LOG.warning("no face found: the whole picture is taken for one, as the published pipeline does")
    wanted = (face.x1 - face.x0) * width / FACE_SHARE if face else min(height, width)
    size = int(min(wanted, height, width))
    middle_x = (face.x0 + face.x1) / 2 * width if face else width / 2
    middle_y = (face.y0 + face.y1) / 2 * height - (FACE_HEIGHT - 0.5) * size if face else height / 2
    left, top = (int(min(max(m - size / 2, 0), whole - size)) for m, whole in ((middle_x, width), (middle_y, height)))
    cut = rearrange(picture[top : top + size, left : left + size], "H W C -> 1 C H W").float()
    frame = rearrange(resize(cut, side, side).round().clamp(0, 255).to(torch.uint8), "1 C H W -> H W C")
    if face is None:
        return Portrait(frame, Box(0.0, 0.0, 1.0, 1.0), False)
    x0, y0, x1, y1 = ((x * w - o) / size for x, w, o in zip(face[:4], (width, height) * 2, (left, top) * 2, strict=True))
    return Portrait(frame, Box(x0, y0, x1, y1, face.score), True)


def listening(face: Box, latents: int, cells: int) -> Float[Tensor, "1 t h w"]:
    """Which tokens hear the voice: those that the widened box touches."""
    middle = torch.tensor([(face.x0 + face.x1) / 2, (face.y0 + face.y1) / 2])
    half = torch.tensor([face.x1 - face.x0, face.y1 - face.y0]) / 2 * LISTENING_SIDE
    low, high = (middle - half) * cells, (middle + half) * cells
    cell = torch.arange(cells)
    inside = [(cell + 1 > low[axis]) & (cell < high[axis]) for axis in (1, 0)]
    return (inside[0][:, None] & inside[1][None]).float().expand(1, latents, -1, -1)


def windows_of(frames: int, window: int) -> int:
    """How many windows a speech of so many frames takes."""
    return 1 + -(-max(frames - window, 0) // (window - KEPT))


class TalkingFace:
    """A video pipeline and an avatar."""

    def __init__(self, video: VideoPipeline, weights: Path = SHIPPED):
        """video: the avatar's own from now on, as its LoRA is added to the transformer.

        Raises WeightsError where the avatar is missing or was made for another transformer's shape, InputError for a video pipeline
        whose parts do not stay where they work.
        """
        if video.placement.offload != "none":
            raise InputError(f"offload={video.placement.offload!r}: an avatar's parts stay on the device; leave --offload out")
        self.video, self.weights, self.file = video, weights, load_avatar(weights)
        if self.file.about.get("base_sha256") != sha256(video.files.dit):
            LOG.warning("%s was trained on other weights of %s than these: the mouth may follow less well", weights, video.config.name)

    @cached_property
    def dit(self) -> DiT:
        """The transformer with the avatar's LoRA added to its weights."""
        refuse_quantised(self.video.dit)
        dit = self.video.dit.float()
        merge(dit, [(self.file.lora, 1.0)])
        return dit.to(self.video.placement.dtype)

    @property
    def audio(self) -> AudioAdapter:
        return self.file.avatar.audio

    def states(self, prompt: str) -> TextStates:
        request = self.video.config.request(prompt, guidance=1.0, seed=0)
        (states,) = self.video.prompts.states_of(request)
        return states.to(self.video.placement.device, self.video.placement.dtype)

    @torch.inference_mode()
    def speak(
        self, face: Portrait, sound: Float[Tensor, " n"], acting: Acting, on_step: OnStep = ignore_step
    ) -> Iterator[UInt8[Tensor, "T H W 3"]]:
        """All frames of a sound, 16 kHz, window by window; together they last as long as it.

        on_step: called as ("denoise", done, total) with the steps of all windows.

        Raises InputError where it is empty or longer than LONGEST seconds.
        """
        seconds = len(sound) / RATE
        if not 0 < seconds <= LONGEST:
            raise InputError(f"speech of {seconds:g} s: give more than 0 and at most {LONGEST:g} s, or cut it into parts")
        total = max(round(seconds * self.file.avatar.config.fps), 1)
        heard = load_whisper().hear(sound)
        yield from self.windows(face, heard, total, acting, on_step)

    def windows(
        self, face: Portrait, heard: Float[Tensor, "S 5 d"], total: int, acting: Acting, on_step: OnStep
    ) -> Iterator[UInt8[Tensor, "T H W 3"]]:
        """Frames 0 ... total of states that are all there."""
        made, shown, steps = 0, face.frame[None], acting.steps * windows_of(total, acting.window)

        def tell(before: int, done: int, _: Tensor) -> None:
            on_step("denoise", before + done, steps)

        for before in range(0, steps, acting.steps):
            frames = self.window(face, shown, heard, max(made - KEPT, 0), acting, partial(tell, before))
            fresh = frames[(0 if made == 0 else KEPT) :][: total - made]
            made, shown = made + len(fresh), frames[-KEPT:]
            yield fresh

    @torch.inference_mode()
    def stream(self, face: Portrait, sound: Float[Tensor, " n"], acting: Acting) -> Iterator[UInt8[Tensor, "T H W 3"]]:
        """The same, but a window hears no more than what has arrived when its last frame is said: sound in chunks, frames in order.

        The delay is bounded: a window's own new frames, and the time that it takes to make them.
        """
        fps, made, shown = self.file.avatar.config.fps, 0, face.frame[None]
        total = max(round(len(sound) / RATE * fps), 1)
        while made < total:
            first = max(made - KEPT, 0)
            arrived = sound[: round((first + acting.window) / fps * RATE)]
            began = max(round(first / fps * STATE_RATE) - STREAM_MEMORY, 0)
            late = arrived[began * STATE_SAMPLES :]
            heard = torch.cat([torch.zeros(began, STATES, WIDTH), load_whisper().hear(late)])
            frames = self.window(face, shown, heard, first, acting)
            fresh = frames[(0 if made == 0 else KEPT) :][: total - made]
            made, shown = made + len(fresh), frames[-KEPT:]
            yield fresh

    @torch.inference_mode()
    def window(
        self,
        face: Portrait,
        shown: UInt8[Tensor, "k H W 3"],
        heard: Float[Tensor, "S 5 d"],
        first: int,
        acting: Acting,
        on_clean: OnClean = ignore_clean,
    ) -> UInt8[Tensor, "T H W 3"]:
        """The frames from `first` on, which begin with those shown."""
        video, states = self.video, self.states(acting.prompt or prompt_for(acting.expression or "neutral"))
        known, reference = self.encode(shown), self.encode(face.frame[None])[:, :, 0]
        latents, side = (acting.window - 1) // TIME_STRIDE + 1, face.frame.shape[0]
        drive = self.drive(face, reference, heard, first, latents, acting).to(video.placement.device)
        sketch = self.file.avatar.to(video.placement.device).sketch(drive)
        generator = torch.Generator().manual_seed(acting.seed + first)
        noise = torch.randn(1, known.shape[1], latents, side // SPACE_STRIDE, side // SPACE_STRIDE, generator=generator).to(sketch)
        start = interpolate(sketch, noise, torch.full((1,), acting.begin).to(sketch))
        start[:, :, : known.shape[2]] = known.to(start)
        velocity = self.velocity(states, drive, known.shape[2], acting.guidance)
        made = SAMPLERS["euler"](velocity, start, acting.begin * schedule(acting.steps, acting.shift), on_clean)
        return video.decode(made[0].float().cpu())

    def encode(self, frames: UInt8[Tensor, "k H W 3"]) -> Float[Tensor, "1 C k2 h w"]:
        with self.video.at_work(self.video.vae):
            pixels = from_uint8(frames)[None].to(next(self.video.vae.parameters()))
            return self.video.vae.to_latents(pixels).float().cpu()

    def drive(
        self, face: Portrait, reference: Float[Tensor, "1 C h w"], heard: Float[Tensor, "S 5 d"], first: int, latents: int, acting: Acting
    ) -> Drive:
        """What drives one window."""
        frames = acting.window
        shows, turns = acting.face_track, acting.pose_track
        if acting.expression:
            shows = named_track(acting.expression, frames, began=first > 0)
        elif shows is not None:
            shows = part(shows, first, frames)
        return Drive(
            heard=heard[None],
            expression=torch.zeros(1, frames, FACE_VALUES) if shows is None else shows[None],
            has_expression=torch.tensor([shows is not None]),
            pose=torch.zeros(1, frames, POSE_VALUES) if turns is None else scaled(part(turns, first, frames))[None],
            has_pose=torch.tensor([turns is not None]),
            reference=reference,
            mask=listening(face.face, latents, reference.shape[-1] // PATCH),
            first=first,
        )

    def velocity(self, states: TextStates, drive: Drive, given: int, guidance: float) -> Velocity:
        """Of latents alone; what is given never moves. With guidance the voice is followed beyond what the model alone would do."""
        dit, dtype = self.dit, states.states.dtype
        avatar = self.file.avatar.to(states.states.device)
        added = avatar(drive)
        channels = None if added.channels is None else added.channels.to(dtype)
        cross = {block: cast(layer, dtype) for block, layer in added.cross.items()}
        calls = [Added(channels=channels, cross=cross)] + [Added(channels=channels)] * (guidance > 1)
        clean = torch.arange(drive.mask.shape[1], device=states.states.device)[None] < given

        def velocity(x: Float[Tensor, "1 C t h w"], sigma: float) -> Float[Tensor, "1 C t h w"]:
            time = torch.tensor([1000 * sigma], device=x.device)
            found = [dit(x.to(dtype), time, states.states, None, states.pooled, given=clean, added=each).float() for each in calls]
            guided = found[0] if len(found) == 1 else found[1] + guidance * (found[0] - found[1])
            return guided.masked_fill(clean[:, None, :, None, None], 0)

        return velocity


def cast(layer: Cross, dtype: torch.dtype) -> Cross:
    """An adapter in float32 beside a transformer in another dtype."""
    return lambda video: layer(video.float()).to(dtype)


def part(track: Float[Tensor, "T c"], first: int, frames: int) -> Float[Tensor, "t c"]:
    """From `first` on; its last row goes on for ever."""
    return track[torch.arange(first, first + frames).clamp(max=len(track) - 1)]
