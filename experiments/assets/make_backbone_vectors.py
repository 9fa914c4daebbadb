"""Small networks, photographs and logits by PyTorch, for tests that run without it.

    python -m experiments.assets.make_backbone_vectors --out tests/vectors/backbone

Each network is a checkpoint as `torch.save` writes it (one in its older format), with random weights and BatchNorm
statistics; `logits.npz` holds the images and what PyTorch makes of them.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from experiments import torch_resnet


@dataclass(frozen=True)
class Config:
    """Where the vectors go."""

    out: Path = Path("tests/vectors/backbone")


def main(config: Config) -> None:
    config.out.mkdir(parents=True, exist_ok=True)
    # 40, 20, 10, 5, 3, 2: even and odd maps, so that a padding rule which is right for one parity only shows.
    x = torch_resnet.images(2, 40)
    arrays = {"images": x.astype(np.float32)}
    kinds = (("basic", 18, False, True), ("bottleneck", 50, False, False), ("v1", 50, True, True))
    for name, depth, keras, zipped in kinds:
        network = torch_resnet.random_resnet(depth, classes=5, width=2, keras=keras, stages=(1, 2, 1, 1))
        torch.save(network.state_dict(), config.out / f"{name}.pth", _use_new_zipfile_serialization=zipped)
        with torch.no_grad():
            arrays[name] = network(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    np.savez(config.out / "logits.npz", **arrays)
    about = {
        "script": "experiments/assets/make_backbone_vectors.py",
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    (config.out / "provenance.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Config))
