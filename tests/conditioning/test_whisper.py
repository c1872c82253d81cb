"""Whisper's encoder agrees with transformers', and hears a part as it is."""

import torch
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder as Published

from kinema.conditioning.whisper import HEADS, HIDDEN, LAYERS, STATE_RATE, WIDTH, WhisperEncoder, from_hub
from kinema.media.audio import RATE


def test_it_agrees_with_the_published_one():
    config = WhisperConfig(d_model=WIDTH, encoder_layers=LAYERS, encoder_attention_heads=HEADS, encoder_ffn_dim=HIDDEN)
    torch.manual_seed(0)
    theirs, ours = Published(config).eval(), WhisperEncoder().eval()
    ours.load_state_dict(from_hub({f"model.encoder.{name}": tensor for name, tensor in theirs.state_dict().items()}))
    mel = torch.randn(80, 3000)
    with torch.inference_mode():
        expected = torch.stack(theirs(mel[None], output_hidden_states=True).hidden_states, 2)[0]
        found = ours(mel)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_every_second_of_sound_gives_fifty_states():
    encoder = WhisperEncoder().eval()
    torch.nn.init.zeros_(encoder.positions)
    assert encoder.hear(torch.randn(2 * RATE)).shape == (2 * STATE_RATE, 5, WIDTH)
    assert encoder.hear(torch.randn(100)).shape == (1, 5, WIDTH)
