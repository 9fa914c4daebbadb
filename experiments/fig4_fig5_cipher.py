"""Figs. 4 and 5: five images, their cipher images and histograms, and PSNR beside what any good cipher gives.

Command: python -m experiments.fig4_fig5_cipher --scale cpu --report experiments/results/fig4_fig5_cipher_cpu.json
Hardware: one core.
Time: smoke: seconds; cpu: a minute; full: a minute (512 pixels a side).
Expected: PSNR within 0.03 dB of the value that the plain histogram alone fixes, for this cipher and for reference [50]
    alike; every other statistic inside its 5 % limits but for one in twenty.
Paper: PSNR below 10 dB for five common images and the lowest of four schemes. Its values could not be found.
Status: smoke: run by the tests. cpu: run. full: not run.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments import cipher_figures
from experiments.running import Scale, Where, begin, command_line, finish


@dataclass(frozen=True)
class Config:
    """Which images.

    Fields:
        where: scale and places.
        images: folder of pictures; None takes five of scikit-image's.
        side: images are reduced to this side.
        count: how many.
        lyapunov_time: time units the exponents are averaged over, in each of 64 lanes.
    """

    where: Annotated[Where, tyro.conf.arg(name="")] = field(default_factory=Where)
    images: Path | None = None
    side: int = 48
    count: int = 2
    lyapunov_time: float = 0.2


SCALES: dict[Scale, Config] = {
    "smoke": Config(),
    "cpu": Config(where=Where(scale="cpu"), side=256, count=5, lyapunov_time=60.0),
    "full": Config(where=Where(scale="full"), side=512, count=5, lyapunov_time=60.0),
}


def main(config: Config) -> dict[str, Any]:
    """Encrypt, measure, draw."""
    import matplotlib

    matplotlib.use("Agg")
    run = begin("fig4_fig5_cipher", config)
    pictures = dict(list(cipher_figures.standard_images(config.images, config.side).items())[: config.count])
    table = {name: cipher_figures.figures_of(plain) for name, plain in pictures.items()}
    exponents, errors = cipher_figures.lyapunov_exponents(config.lyapunov_time)
    cipher_figures._draw_images(pictures, run.folder / "cipher_images.png")
    cipher_figures._draw_psnr(table, run.folder / "cipher_psnr.png")
    for name, row in table.items():
        print(f"{name:>10}: PSNR {row['psnr']:.3f} dB, any good cipher {row['psnr_ideal']:.3f} dB", flush=True)
    lyapunov = {"measured": exponents, "standard_error": errors, "published": list(cipher_figures.PUBLISHED_EXPONENTS)}
    return finish(run, {"images": table, "lyapunov": lyapunov})


if __name__ == "__main__":
    main(command_line(SCALES))
