"""The diffusion transformer: noisy latents, time and text -> velocity.

Source: HunyuanVideo (arXiv 2412.03603, section 4.2); parameter names are the published checkpoint's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kinema.dit.added import Added
from kinema.dit.blocks import Context, DoubleBlock, SingleBlock
from kinema.dit.layers import Given, Linear, PatchEmbed, PooledEmbedder, ScalarEmbedder, modulate, unpatchify
from kinema.dit.plan import Plan, double_plan, joined, single_plan
from kinema.dit.refiner import TokenRefiner
from kinema.dit.rope import Grid, rope_for
from kinema.errors import InputError

SMALL = ("time_in", "vector_in", "guidance_in", "t_embedder", "c_embedder")  # layers that start at normal(0.02)
ZERO = ("img_mod", "txt_mod", "modulation", "adaLN_modulation", "final_layer")  # layers that start at zero

ImageCondition = Literal["none", "token_replace", "latent_concat"]


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Size of the transformer; ready-made ones are in `presets.py`."""

    width: int  # D
    heads: int  # N
    double_blocks: int
    single_blocks: int
    rope_axes: Grid  # how one head's K channels split over t, h, w
    text_width: int  # d, of the language model's states
    pooled_width: int  # p, of the pooled text vector
    guidance: bool  # does it take an embedded guidance scale (guidance distillation)
    mlp_ratio: float = 4.0  # hidden width of the blocks' MLPs over D
    in_channels: int = 16  # 33 with latent_concat: noise, image, mask
    out_channels: int = 16
    patch: Grid = (1, 2, 2)  # latents t, h, w that make one token
    rope_theta: float = 256.0
    refiner_blocks: int = 2
    image_condition: ImageCondition = "none"
    riflex_above: int = 0  # latent frames; in longer videos the temporal frequency that would repeat itself is slowed; 0: never

    def __post_init__(self):
        if sum(self.rope_axes) * self.heads != self.width:
            raise InputError(f"rope_axes {self.rope_axes} x heads {self.heads} must fill width {self.width}: their sum is width / heads")
        if any(channels % 2 for channels in self.rope_axes):
            raise InputError(f"rope_axes {self.rope_axes} must be even: channels turn in pairs")
        if self.image_condition == "latent_concat" and self.in_channels <= self.out_channels:
            raise InputError(f"in_channels={self.in_channels} leaves no room for the image: latent_concat has 2 x out_channels + 1")

    @property
    def hidden(self) -> int:
        return int(self.width * self.mlp_ratio)


def run_block(block: nn.Module, *inputs: Any) -> Any:
    return block(*inputs)


Spare = Callable[[Callable[[], Tensor], Tensor, Tensor, Given], Tensor]


class Trunk(nn.Module):
    """The stack of blocks: video and text tokens in, video tokens out.

    run: how a block is called; set it to `functools.partial(torch.utils.checkpoint.checkpoint, use_reentrant=False)` to recompute
    activations block by block in the backward pass.
    spare: called instead of all blocks after the first, as (those blocks, video before and after the first block, what is given), it may
    leave them out; None: they always work.
    """

    def __init__(self, double_blocks: nn.ModuleList, single_blocks: nn.ModuleList):
        super().__init__()
        self.double_blocks = double_blocks
        self.single_blocks = single_blocks
        self.run: Callable[..., Any] = run_block
        self.spare: Spare | None = None

    def forward(self, video: Float[Tensor, "B L D"], text: Float[Tensor, "B M D"], context: Context) -> Float[Tensor, "B L D"]:
        if self.spare is None or not self.double_blocks:
            return self.blocks_from(0, video, text, context)
        first, text = self.double_block(0, video, text, context)
        return self.spare(lambda: self.blocks_from(1, first, text, context), video, first, context.given)

    def double_block(self, number: int, video: Tensor, text: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        video, text = self.run(self.double_blocks[number], video, text, context)
        return video + context.cross[number](video) if number in context.cross else video, text

    def blocks_from(
        self, start: int, video: Float[Tensor, "B L D"], text: Float[Tensor, "B M D"], context: Context
    ) -> Float[Tensor, "B L D"]:
        """All blocks but the first `start` double ones."""
        for number in range(start, len(self.double_blocks)):
            video, text = self.double_block(number, video, text, context)
        tokens, length = torch.cat([video, text], dim=1), video.shape[1]
        del video, text  # of a long video gigabytes, which lie in `tokens` now
        for number, block in enumerate(self.single_blocks, len(self.double_blocks)):
            tokens = self.run(block, tokens, context)
            if number in context.cross:
                seen = tokens[:, :length]
                tokens = torch.cat([seen + context.cross[number](seen), tokens[:, length:]], dim=1)
        return tokens[:, :length]


class FinalLayer(nn.Module):
    """Tokens -> patches of velocity, modulated by the condition."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.linear = Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), Linear(width, 2 * width))

    def forward(self, tokens: Float[Tensor, "B L D"], vector: Float[Tensor, "B D"]) -> Float[Tensor, "B L d"]:
        shift, scale = self.adaLN_modulation(vector)[:, None].chunk(2, dim=-1)
        return self.linear(modulate(tokens, shift, scale))


class DiT(nn.Module):
    """HunyuanVideo's transformer."""

    trunk: Trunk

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config = config
        width, heads, hidden = config.width, config.heads, config.hidden
        self.img_in = PatchEmbed(config.in_channels, width, config.patch)
        self.txt_in = TokenRefiner(config.text_width, width, heads, config.refiner_blocks)
        self.time_in = ScalarEmbedder(width)
        self.vector_in = PooledEmbedder(config.pooled_width, width)
        self.guidance_in = ScalarEmbedder(width) if config.guidance else None
        self.double_blocks = nn.ModuleList(DoubleBlock(width, heads, hidden) for _ in range(config.double_blocks))
        self.single_blocks = nn.ModuleList(SingleBlock(width, heads, hidden) for _ in range(config.single_blocks))
        self.final_layer = FinalLayer(width, config.out_channels * config.patch[0] * config.patch[1] * config.patch[2])
        # The trunk shares the blocks; unregistered, so that no parameter has a second name.
        object.__setattr__(self, "trunk", Trunk(self.double_blocks, self.single_blocks))

    def forward(
        self,
        latents: Float[Tensor, "B C t h w"],
        time: Float[Tensor, " B"],
        text: Float[Tensor, "B M d"],
        text_mask: Bool[Tensor, "B M"] | None,
        pooled: Float[Tensor, "B p"],
        guidance: Float[Tensor, " B"] | None = None,
        given: Bool[Tensor, "B t"] | None = None,
        added: Added | None = None,
        reference: Float[Tensor, "B C r h w"] | None = None,
    ) -> Float[Tensor, "B V t h w"]:
        """Velocity (noise - data) of the latents.

        latents: frames that are given hold clean latents (with token_replace: frame 0, the image);
            with latent_concat, channels are noise, image, mask.
        time: 0 ... 1000, 1000 is pure noise.
        given: which latent frames are given, any of them; None: none, or frame 0 with token_replace. Their velocity means nothing.
        text_mask: True marks a real token; None where no text is padding (trimmed), which is fastest.
        guidance: embedded guidance scale x 1000, where the config has it.
        added: what conditions bring through the other doors (kinema.conditioning).
        reference: clean latents of pictures that show the subject; they stand before the video in time, at -r ... -1, and all of it sees
            them (HunyuanCustom, arXiv 2505.04512).
        Raises InputError where the grid does not divide into patches, or guidance is missing or not wanted.
        """
        before = 0
        if reference is not None:
            before, latents, given = reference.shape[2], *self._after(reference, latents, given)
        grid = self._grid(latents)
        added = added or Added()
        vector = self.time_in(time) + self.vector_in(pooled) + self._guidance(guidance)
        vector = vector if added.modulation is None else vector + added.modulation
        given_tokens = self._given_tokens(given, grid, latents)
        context = Context(
            vector=vector[:, None] if given_tokens is None else torch.stack([self._given_vector(time, pooled), vector], dim=1),
            turns=rope_for(
                grid, text.shape[1], self.config.rope_axes, self.config.rope_theta, latents.device, self.config.riflex_above, before
            ),
            key_mask=self._key_mask(text_mask, grid),
            given=given_tokens,
            cross=added.cross,
        )
        video = self.img_in(latents)
        video = video if added.channels is None else video + added.channels
        tokens = self.trunk(video, self.txt_in(text, time, text_mask), context)
        return unpatchify(self.final_layer(tokens, vector), grid, self.config.patch)[:, :, before:]

    def _after(
        self, reference: Float[Tensor, "B C r h w"], latents: Float[Tensor, "B C t h w"], given: Bool[Tensor, "B t"] | None
    ) -> tuple[Float[Tensor, "B C rt h w"], Bool[Tensor, "B rt"]]:
        """The video behind its reference, which is given."""
        if self.config.patch[0] != 1 or self.config.image_condition != "none":
            raise InputError(f"reference needs patches of one latent frame and image_condition none, not {self.config.image_condition}")
        given = latents.new_zeros(len(latents), latents.shape[2], dtype=torch.bool) if given is None else given
        seen = given.new_ones(len(given), reference.shape[2])
        return torch.cat([reference, latents], dim=2), torch.cat([seen, given], dim=1)

    def _grid(self, latents: Float[Tensor, "B C t h w"]) -> Grid:
        channels, *size = latents.shape[1:]
        if channels != self.config.in_channels:
            raise InputError(f"latents have {channels} channels; this model takes {self.config.in_channels}")
        if any(n % p for n, p in zip(size, self.config.patch, strict=True)):
            raise InputError(f"latents of {tuple(size)} (t, h, w) do not divide into patches of {self.config.patch}")
        t, h, w = (n // p for n, p in zip(size, self.config.patch, strict=True))
        return t, h, w

    def _guidance(self, guidance: Float[Tensor, " B"] | None) -> Tensor | float:
        if (guidance is None) != (self.guidance_in is None):
            wanted = "needs an embedded guidance scale (x 1000)" if guidance is None else "takes no embedded guidance: leave it None"
            raise InputError(f"guidance={guidance}: this model {wanted}")
        return 0.0 if self.guidance_in is None else self.guidance_in(guidance)

    def _given_tokens(self, given: Bool[Tensor, "B t"] | None, grid: Grid, latents: Float[Tensor, "B C t h w"]) -> Given:
        if given is None and self.config.image_condition == "token_replace":
            given = (torch.arange(latents.shape[2], device=latents.device) == 0).expand(len(latents), -1)
        if given is None:
            return None
        return given[:, :: self.config.patch[0]].repeat_interleave(grid[1] * grid[2], dim=1)[:, :, None]

    def _given_vector(self, time: Float[Tensor, " B"], pooled: Float[Tensor, "B p"]) -> Float[Tensor, "B D"]:
        """What is given is at time 0, and guidance is not for it."""
        return self.time_in(torch.zeros_like(time)) + self.vector_in(pooled)

    def _key_mask(self, text_mask: Bool[Tensor, "B M"] | None, grid: Grid) -> Bool[Tensor, "B S"] | None:
        if text_mask is None:
            return None
        video = text_mask.new_ones(text_mask.shape[0], grid[0] * grid[1] * grid[2])
        return torch.cat([video, text_mask], dim=1)

    def plan(self) -> Plan:
        """What `kinema.parallel` needs to know: the blocks, and how each matrix in them splits."""
        sizes = self.config.width, self.config.hidden
        doubles = [double_plan(f"double_blocks.{i}", *sizes) for i in range(len(self.double_blocks))]
        singles = [single_plan(f"single_blocks.{i}", *sizes) for i in range(len(self.single_blocks))]
        return joined(doubles + singles)

    def init_weights(self) -> None:
        """Start training from here: every block the identity, and the velocity zero.

        Linears are Xavier-uniform without bias; embedders of time, guidance and pooled text normal(0.02). Zero: modulations,
        refiner gates, final layer. Source: DiT (Peebles and Xie 2023, arXiv 2212.09748), adaLN-Zero.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv3d):
                assert module.bias is not None
                nn.init.xavier_uniform_(module.weight.flatten(1))
                nn.init.zeros_(module.bias)
        for name, parameter in self.named_parameters():
            if name.endswith("weight") and any(part in SMALL for part in name.split(".")):
                nn.init.normal_(parameter, std=0.02)
            elif any(part in ZERO for part in name.split(".")):
                nn.init.zeros_(parameter)
