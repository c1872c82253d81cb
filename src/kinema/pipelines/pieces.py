"""Videos longer than a model was trained for, piece by piece: each piece is given the last frames of the one before.

A piece is one window of latents. Its first latent is one frame (as the VAE begins every clip), the last frame of the latent that lies
there in the whole video; from the second on, its latents are those of the whole video. What a piece is given it sees as pixels, decoded
and encoded again, so small errors of the VAE add up from piece to piece.
"""

from kinema.conditioning.frames import Places
from kinema.shapes import TIME_STRIDE


def spans(latents: int, window: int) -> list[range]:
    """Latents of each piece: the first `window`, then windows of which about half is given; the last one ends with the video.

    >>> spans(17, 9)
    [range(0, 9), range(5, 14), range(8, 17)]
    """
    found = [range(min(window, latents))]
    while found[-1].stop < latents:
        stop = min(found[-1].stop + window - window // 2, latents)
        found.append(range(stop - window, stop))
    return found


def places_within(places: Places, span: range) -> Places:
    """Those of the whole video's given frames that lie in a piece, by the piece's own numbers."""
    first, last = TIME_STRIDE * span.start, TIME_STRIDE * (span.stop - 1)
    return {frame - first: shown for frame, shown in places.items() if first <= frame <= last}
