"""Seven chosen images undo the published fixed-key cipher; against ours the same attack gets noise.

    python -m experiments.attacks.chosen_plaintext [--picture FILE.png] [--report FILE.json]

The key stream of reference [50] depends on the key and the image size alone, and its additive and field passes are
public linear maps around secret masks. So, with those maps taken off both ends, the cipher is
`u = L(p_(perm) + k) + m`: a secret permutation, and at each place `x -> log(x + k) + m (mod 256)` with log a public
table. Constant images (in the middle of the cipher) give k and m of every place; images that spell each place's index
in base 256 give the permutation. The equivalent key decrypts every other image of that size. High NPCR, UACI and
entropy do not notice.

Against ours the attacker is given more than is fair: the whole attack under the very same image key, each image with a
nonce of its own, as the interface demands. There is no common key stream to solve for.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import UInt8

from experiments import reference_cipher as reference
from jcbir.cipher import analysis, encrypt

Oracle = Callable[[np.ndarray], np.ndarray]
PROBES = (0, 1, 2, 85, 170)


@dataclass(frozen=True)
class Config:
    """The attack's options.

    Attributes:
        side: side of the square test photograph.
        picture: draw original, ciphertext and recovered image here.
        report: write the figures to this JSON file.
    """

    side: int = 256
    picture: Path | None = None
    report: Path | None = None


@dataclass(frozen=True)
class EquivalentKey:
    """What stands in for the secret key at one image size.

    Attributes:
        added: k of every place of the middle sequence.
        masked: m of every place.
        source: place of the plain sequence that each place takes its value from.
    """

    added: UInt8[np.ndarray, "n"]
    masked: UInt8[np.ndarray, "n"]
    source: np.ndarray


def _outer(values: np.ndarray) -> np.ndarray:
    """The public linear part of two additive rounds: running sums forward and backward, twice, no keys."""
    zero = np.zeros(len(values), np.uint8)
    for _ in range(2):
        values = reference._both(values, zero, zero)
    return values


def _undo_outer(values: np.ndarray) -> np.ndarray:
    zero = np.zeros(len(values), np.uint8)
    for _ in range(2):
        values = reference._undo_both(values, zero, zero)
    return values


def _undo_field(values: np.ndarray) -> np.ndarray:
    zero = np.zeros(len(values), np.uint8)
    return reference._undo_both(reference.tables()[1][values], zero, zero)


def _ask(oracle: Oracle, middle: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Ask for the image that is `middle` after the public prelude; take the public field part off the answer."""
    plain = _undo_outer(middle).reshape(shape, order="F")
    return _undo_field(oracle(plain).ravel(order="F"))


def recover(oracle: Oracle, shape: tuple[int, int]) -> tuple[EquivalentKey, int]:
    """Solve for an equivalent key with chosen images.

    Args:
        oracle: encrypts any image of this shape under the key under attack.
        shape: Rows and columns.

    Returns:
        The equivalent key and the number of images asked for.
    """
    samples, logarithms = shape[0] * shape[1], reference.tables()[1].astype(np.uint8)
    answers = [_ask(oracle, np.full(samples, probe, np.uint8), shape) for probe in PROBES]
    # The differences between two answers depend on k alone: look k up by the four of them.
    grid = logarithms[(np.arange(256)[:, None] + np.array(PROBES)[None]) % 256]
    table = {tuple(row[1:] - row[0]): k for k, row in enumerate(grid)}
    differences = np.stack([answer - answers[0] for answer in answers[1:]], axis=1)
    added = np.array([table.get(tuple(row), 0) for row in differences], np.uint8)
    masked = answers[0] - logarithms[added]
    digits, source = 0, np.zeros(samples, np.int64)
    while 256**digits < samples:
        index = (np.arange(samples) // 256**digits % 256).astype(np.uint8)
        answer = _ask(oracle, index, shape)
        exponents = reference.tables()[0]
        source += (exponents[answer - masked] - added).astype(np.int64) * 256**digits
        digits += 1
    return EquivalentKey(added, masked, source % samples), len(PROBES) + digits


def decrypt_with(found: EquivalentKey, cipher: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Decrypt any image of that size without the secret key."""
    values = reference.tables()[0][_undo_field(cipher.ravel(order="F")) - found.masked] - found.added
    middle = np.zeros_like(values)
    middle[found.source] = values
    return _undo_outer(middle).reshape(cipher.shape, order="F")


def fresh_nonce_oracle(key: bytes) -> Oracle:
    """Our cipher, in the stage order of reference [50], under one key and a counter for a nonce."""
    count = 0

    def oracle(plane: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        nonce = count.to_bytes(16, "big")
        return encrypt(plane[..., None], key=key, nonce=nonce, order="reference50")[..., 0]

    return oracle


def attack(oracle: Oracle, photograph: UInt8[np.ndarray, "h w"]) -> dict:
    """Run the attack; the photograph is encrypted last and was never asked for."""
    found, asked = recover(oracle, (photograph.shape[0], photograph.shape[1]))
    cipher = oracle(photograph)
    recovered = decrypt_with(found, cipher)
    return {
        "chosen_images": asked,
        "equal_pixels": float((recovered == photograph).mean()),
        "npcr_of_cipher": analysis.npcr(cipher, photograph),
        "entropy_of_cipher": analysis.entropy(cipher),
        "cipher": cipher,
        "recovered": recovered,
    }


def main() -> None:
    """Command line."""
    from skimage import data, transform

    config = tyro.cli(Config)
    shape = (config.side, config.side)
    photograph = (transform.resize(data.camera(), shape, anti_aliasing=True) * 255).astype(np.uint8)
    results = {
        "reference [50], as published": attack(reference.encrypt, photograph),
        "jcbir, one key, a nonce per image": attack(fresh_nonce_oracle(bytes(range(32))), photograph),
    }
    for name, r in results.items():
        print(
            f"{name}: {r['chosen_images']} chosen images, {100 * r['equal_pixels']:.2f} % of an unseen image recovered"
        )
    if config.report:
        kept = {n: {k: v for k, v in r.items() if not isinstance(v, np.ndarray)} for n, r in results.items()}
        config.report.parent.mkdir(parents=True, exist_ok=True)
        config.report.write_text(json.dumps(kept, indent=1) + "\n")
    if config.picture:
        _draw(photograph, results, config.picture)


def _draw(photograph: np.ndarray, results: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(7.2, 5.2), layout="constrained")
    for row, (name, r) in zip(axes, results.items(), strict=True):
        titles = (name, "what the attacker sees", f"what it recovers: {100 * r['equal_pixels']:.1f} %")
        for axis, pixels, title in zip(row, (photograph, r["cipher"], r["recovered"]), titles, strict=True):
            axis.imshow(pixels, cmap="gray", vmin=0, vmax=255)
            axis.set_title(title, fontsize=8)
            axis.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
