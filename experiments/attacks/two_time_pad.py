"""A nonce that is forced to repeat: what is lost, in the Lorenz layer and in AES-GCM alike.

    python -m experiments.attacks.two_time_pad [--picture FILE.png] [--report FILE.json]

1. Lorenz layer: with one key and one nonce for all images the cipher is a fixed-key cipher again, and the seven chosen
   images of `chosen_plaintext` decrypt every other image of that size.
2. Envelope: AES-256-GCM under a repeated nonce is a two-time pad; the exclusive or of two sealed images is that of
   the two photographs, in which both are seen.

The library never draws a nonce itself and cannot notice a repetition: whoever calls `seal` draws 16 fresh random bytes.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import UInt8

from experiments.attacks.chosen_plaintext import Oracle, attack, fresh_nonce_oracle
from jcbir.cipher import analysis, encrypt
from jcbir.padding import padded_length
from jcbir.sealing import seal

KEY = bytes(range(32))
EXTENTS, TAG = 12, 16


@dataclass(frozen=True)
class Config:
    """The attack's options.

    Attributes:
        side: side of the square test photographs.
        picture: draw the exclusive or here.
        report: write the figures to this JSON file.
    """

    side: int = 256
    picture: Path | None = None
    report: Path | None = None


def repeated_nonce_oracle(key: bytes) -> Oracle:
    """Our cipher with the nonce forced to stay the same."""

    def oracle(plane: np.ndarray) -> np.ndarray:
        return encrypt(plane[..., None], key=key, nonce=bytes(16), order="reference50")[..., 0]

    return oracle


def sealed_difference(
    a: UInt8[np.ndarray, "h w"], b: UInt8[np.ndarray, "h w"], *, nonces: tuple[bytes, bytes]
) -> UInt8[np.ndarray, "h w"]:
    """Exclusive or of the bodies of two images sealed under one key: what an eavesdropper computes."""
    bodies = []
    for photograph, nonce in zip((a, b), nonces, strict=True):
        sealed = seal(photograph[..., None], key=KEY, nonce=nonce, image_id="a", cipher="aes-gcm")
        # Three extents, the pixels, padding, and the tag of the one chunk.
        start = len(sealed) - TAG - padded_length(EXTENTS + photograph.size) + EXTENTS
        bodies.append(np.frombuffer(sealed, np.uint8, photograph.size, start).reshape(photograph.shape))
    return bodies[0] ^ bodies[1]


def main() -> None:
    """Command line."""
    from skimage import data, transform

    config = tyro.cli(Config)
    shape = (config.side, config.side)
    pictures = (data.camera(), data.moon())
    a, b = ((transform.resize(p, shape, anti_aliasing=True) * 255).astype(np.uint8) for p in pictures)
    fresh = (bytes(16), bytes(15) + b"\1")
    same = sealed_difference(a, b, nonces=(bytes(16), bytes(16)))
    report = {
        "lorenz, repeated nonce: recovered": attack(repeated_nonce_oracle(KEY), a)["equal_pixels"],
        "lorenz, fresh nonces: recovered": attack(fresh_nonce_oracle(KEY), a)["equal_pixels"],
        "aes-gcm, repeated nonce: difference is the photographs'": bool(np.array_equal(same, a ^ b)),
        "aes-gcm, repeated nonce: entropy of the difference": analysis.entropy(same),
        "aes-gcm, fresh nonces: entropy of the difference": analysis.entropy(sealed_difference(a, b, nonces=fresh)),
    }
    for name, value in report.items():
        print(f"{name}: {value if isinstance(value, bool) else round(value, 4)}")
    if config.report:
        config.report.parent.mkdir(parents=True, exist_ok=True)
        config.report.write_text(json.dumps(report, indent=1) + "\n")
    if config.picture:
        _draw(same, sealed_difference(a, b, nonces=fresh), config.picture)


def _draw(same: np.ndarray, fresh: np.ndarray, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(5.2, 2.9), layout="constrained")
    for axis, pixels, title in zip(axes, (same, fresh), ("one nonce twice", "a nonce each"), strict=True):
        axis.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        axis.set_title(f"sealed a xor sealed b: {title}", fontsize=8)
        axis.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
