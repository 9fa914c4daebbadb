"""Figs. 4 and 5: five images, their cipher images and histograms, and PSNR beside what any good cipher gives.

Drawn besides: the attractor; reported besides: the Lyapunov exponents of the integer system.

Command: python -m experiments.fig4_fig5_cipher --scale cpu --report experiments/results/fig4_fig5_cipher_cpu.json
    (with --pictures docs/images for the drawings of docs/cipher.md)
Hardware: one core.
Time: smoke: seconds; cpu: a minute; full: a minute (512 pixels a side).
Expected: PSNR within 0.03 dB of the value that the plain histogram alone fixes, for this cipher and for reference [50]
    alike; every other statistic inside its 5 % limits but for one in twenty.
Paper: PSNR below 10 dB for five common images and the lowest of four schemes. Its values could not be found.
Status: smoke: run by the tests. cpu: run. full: not run.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments import reference_cipher as reference
from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir.cipher import analysis, decrypt, encrypt, lorenz

KEY, NONCE = bytes(range(32)), bytes(range(16))
PUBLISHED_EXPONENTS = (0.3381, 0.1586, 0.0, -15.1752)


@dataclass(frozen=True)
class Drawing:
    """Which images.

    Attributes:
        where: scale and places.
        images: folder of pictures; None takes five of scikit-image's.
        pictures: folder of the drawings; the run folder by default.
        side: images are reduced to this side.
        count: how many.
        lyapunov_time: time units the exponents are averaged over, in each of 64 lanes.
    """

    where: At = PLACES
    images: Path | None = None
    pictures: Path | None = None
    side: int = 48
    count: int = 2
    lyapunov_time: float = 0.2


SCALES: dict[Scale, Drawing] = {
    "smoke": Drawing(),
    "cpu": Drawing(side=256, count=5, lyapunov_time=60.0),
    "full": Drawing(side=512, count=5, lyapunov_time=60.0),
}


def main(config: Drawing) -> dict[str, Any]:
    """Encrypt, measure, draw."""
    import matplotlib

    matplotlib.use("Agg")
    run = begin("fig4_fig5_cipher", config)
    pictures = dict(list(standard_images(config.images, config.side).items())[: config.count])
    table = {name: figures_of(plain) for name, plain in pictures.items()}
    exponents, errors = lyapunov_exponents(config.lyapunov_time)
    folder = config.pictures or run.folder
    _draw_images(pictures, folder / "cipher_images.png")
    _draw_psnr(table, folder / "cipher_psnr.png")
    _draw_attractor(folder / "cipher_attractor.png")
    for name, row in table.items():
        print(
            f"{name:>10}  PSNR {row['psnr']:.3f} dB (any good cipher {row['psnr_ideal']:.3f}, reference [50] "
            f"{row['psnr_reference50']:.3f})  entropy {row['entropy']:.4f}  NPCR {row['npcr_one_bit_of_plain']:.3f} %  "
            f"UACI {row['uaci_one_bit_of_plain']:.3f} %  chi-square {row['chi_square']:.1f}",
            flush=True,
        )
    print("Lyapunov exponents", [f"{v:.4f} +- {e:.4f}" for v, e in zip(exponents, errors, strict=True)])
    lyapunov = {"measured": exponents, "standard_error": errors, "published": list(PUBLISHED_EXPONENTS)}
    return finish(run, {"images": table, "lyapunov": lyapunov})


def standard_images(folder: Path | None, side: int) -> dict[str, np.ndarray]:
    """Five images as gray or RGB `uint8[side, side, c]`."""
    if folder is not None:
        from PIL import Image

        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".tif", ".bmp"))
        pictures = {p.stem: np.asarray(Image.open(p).convert("RGB")) for p in files[:5]}
    else:
        from skimage import data

        names = ("astronaut", "camera", "coffee", "chelsea", "moon")
        pictures = {name: np.asarray(getattr(data, name)()) for name in names}
    return {name: _fit(pixels, side) for name, pixels in pictures.items()}


def _fit(pixels: np.ndarray, side: int) -> np.ndarray:
    from skimage import transform

    square = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - square) // 2, (pixels.shape[1] - square) // 2
    cut = pixels[top : top + square, left : left + square]
    small = np.round(transform.resize(cut, (side, side), anti_aliasing=True) * 255).astype(np.uint8)
    return small if small.ndim == 3 else small[..., None]


def figures_of(plain: np.ndarray) -> dict[str, float]:
    """All statistics of one image under our cipher, and its PSNR under reference [50]."""
    names = {"key": KEY, "nonce": NONCE}
    cipher = encrypt(plain, **names)
    changed = plain.copy()
    changed[plain.shape[0] // 2, plain.shape[1] // 2, 0] ^= 1
    other = encrypt(changed, **names)[..., 0]
    near_key = encrypt(plain, key=KEY[:-1] + bytes([KEY[-1] ^ 1]), nonce=NONCE)
    samples = plain.shape[0] * plain.shape[1]
    npcr, uaci = analysis.expected_npcr(samples), analysis.expected_uaci(samples)
    published = np.stack([reference.encrypt(plain[..., c]) for c in range(plain.shape[2])], axis=-1)
    return {
        "psnr": analysis.psnr(plain, cipher),
        "psnr_ideal": analysis.ideal_psnr(plain),
        "psnr_reference50": analysis.psnr(plain, published),
        "ssim": analysis.ssim(plain[..., 0], cipher[..., 0]),
        "entropy": analysis.entropy(cipher),
        "entropy_ideal": 8 - 255 / (2 * cipher.size * np.log(2)),
        "chi_square": analysis.chi_square(cipher),
        "chi_square_limit_5_percent": analysis.chi_square_limit(),
        **{
            f"correlation_{d}": analysis.adjacent_correlation(cipher[..., 0], direction=d)
            for d in ("horizontal", "vertical", "diagonal")
        },
        "correlation_limit_5_percent": 1.96 / np.sqrt(samples),
        "npcr_one_bit_of_plain": analysis.npcr(cipher[..., 0], other),
        "npcr_lower_limit_5_percent": npcr.low,
        "uaci_one_bit_of_plain": analysis.uaci(cipher[..., 0], other),
        "uaci_low": uaci.low,
        "uaci_high": uaci.high,
        "flipped_bits_one_bit_of_key": analysis.flipped_bits(cipher, near_key),
        "decrypts": bool(np.array_equal(decrypt(cipher, **names), plain)),
    }


def lyapunov_exponents(time: float, *, lanes: int = 64) -> tuple[list[float], list[float]]:
    """Exponents of the integer system per time unit, and their standard errors over the lanes.

    Tangent vectors follow the derivative of the (unrounded) step along the integer trajectory and are made orthonormal
    every ten steps; the logarithms of what they grew by are averaged (Benettin et al. 1980).
    """
    scale, h = 2.0**lorenz.CONSTANT_BITS, 0.002
    px, qx, py, qy, pz, qz, pw, qw = (v / scale for v in lorenz.STEP)
    seeds = np.frombuffer(np.random.default_rng(0).bytes(16 * lanes), np.uint8).reshape(lanes, 16)
    state = lorenz.drop_transient(lorenz.start(seeds))
    tangents = np.broadcast_to(np.eye(4), (lanes, 4, 4)).copy()
    steps, total = int(time / h), np.zeros((lanes, 4))
    settle = steps // 10
    for step in range(settle + steps):
        before = state.z[:, None] / 2.0**lorenz.STATE_BITS
        state = lorenz.advance(state, lorenz.dither(lorenz.TRANSIENT_STEPS + step))
        x, y, z, _ = (v[:, None] / 2.0**lorenz.STATE_BITS for v in state)
        dx, dy, dz, dw = (tangents[:, i] for i in range(4))
        dx = px * dx + qx * (10 * dy + dw)
        dy = py * dy + qy * (dx * (28 - before) - x * dz)
        dz = pz * dz + qz * (dx * y + x * dy)
        dw = pw * dw + qw * (dy * z + y * dz)
        tangents = np.stack([dx, dy, dz, dw], axis=1)
        if step % 10 == 9:
            tangents, growth = np.linalg.qr(tangents)
            if step >= settle:
                total += np.log(np.abs(np.diagonal(growth, axis1=1, axis2=2)))
    rates = total / time
    return rates.mean(0).tolist(), (rates.std(0) / np.sqrt(lanes)).tolist()


def _draw_images(pictures: dict[str, np.ndarray], path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(4, len(pictures), figsize=(8, 5.6), layout="constrained")
    for column, (name, plain) in zip(axes.T, pictures.items(), strict=True):
        cipher = encrypt(plain, key=KEY, nonce=NONCE)
        for axis, pixels, title in zip(column[[0, 2]], (plain, cipher), (name, "encrypted"), strict=True):
            # Shown at half size: noise does not compress.
            axis.imshow(np.squeeze(pixels[::2, ::2]), cmap="gray", vmin=0, vmax=255)
            axis.set_title(title, fontsize=8)
            axis.axis("off")
        for axis, pixels in zip(column[[1, 3]], (plain, cipher), strict=True):
            axis.bar(range(256), np.bincount(pixels.ravel(), minlength=256), width=1, color="0.3")
            axis.set_yticks([])
            axis.tick_params(labelsize=6)
            axis.set_box_aspect(0.35)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def _draw_psnr(table: dict[str, dict[str, float]], path: Path) -> None:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6.4, 3), layout="constrained")
    places = np.arange(len(table))
    shown = (("psnr", "this cipher", "0.25"), ("psnr_reference50", "reference [50]", "0.6"))
    for offset, (key, label, color) in zip((-0.2, 0.2), shown, strict=True):
        axis.bar(places + offset, [row[key] for row in table.values()], 0.38, label=label, color=color)
    ideal = [row["psnr_ideal"] for row in table.values()]
    label = "any good cipher (plain histogram alone)"
    axis.hlines(ideal, places - 0.42, places + 0.42, colors="tab:red", lw=2, label=label)
    axis.set_xticks(places, list(table), fontsize=8)
    axis.set_ylabel("PSNR plain against cipher, dB", fontsize=8)
    axis.set_ylim(0, 15)
    axis.legend(fontsize=7, loc="upper right")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _draw_attractor(path: Path) -> None:
    from matplotlib import pyplot

    seeds = np.frombuffer(np.random.default_rng(4).bytes(16), np.uint8).reshape(1, 16)
    x, y, z, w = lorenz.samples(lorenz.drop_transient(lorenz.start(seeds)), steps=12_000)[..., 0].T
    figure, axes = pyplot.subplots(1, 3, figsize=(8, 2.8), layout="constrained")
    for axis, a, b, names in zip(axes, (x, x, z), (z, y, w), ("xz", "xy", "zw"), strict=True):
        axis.plot(a, b, lw=0.3, color="0.2")
        axis.set_xlabel(names[0], fontsize=8)
        axis.set_ylabel(names[1], fontsize=8)
        axis.tick_params(labelsize=6)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


if __name__ == "__main__":
    main(command_line(SCALES))
