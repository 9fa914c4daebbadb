"""Photographs a second from encoded file to feature vector: decode, scale, ResNet50, against PyTorch.

    python -m experiments.bench_photos --report experiments/results/bench_photos.json

The photographs are synthetic JPEGs, `small` ones hardly larger than the network's input and `camera` ones of 12
megapixels. Ours runs as `jcbir owner publish` does: `jcbir.data.chunks` with decoding processes beside the packaged
network. PyTorch runs as its users write it: a `DataLoader` with as many workers, the Pillow calls of torchvision's
Resize and CenterCrop, ResNet50 in evaluation mode (`experiments.torch_resnet`), channels_last; `draft` is the same with
Pillow's JPEG draft, which its users rarely ask for and ours always does. `processes` are those that decode; with 0 the
network's process does.

The contenders take turns. The clock starts when the first batch is there, since processes start once, however many
photographs follow. Figures are medians of `repeats`, on the clock and in processor seconds, which a busy machine
disturbs less. PyTorch is left out where it is not installed.
"""

import io
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir.data import Source, chunks
from jcbir.hashing import encode_images
from jcbir.models import imagenet_resnet50

BATCH = 32


@dataclass(frozen=True)
class Photographs:
    """What to measure.

    Attributes:
        where: places.
        sizes: pixels a side that the network receives.
        processes: decoding processes.
        small: how many small photographs a turn.
        camera: how many of 12 megapixels a turn.
        repeats: turns of each contender.
    """

    where: At = PLACES
    sizes: tuple[int, ...] = (160, 224)
    processes: tuple[int, ...] = (0, 1)
    small: int = 64
    camera: int = 48
    repeats: int = 2


SCALES: dict[Scale, Photographs] = {
    "cpu": Photographs(),
    "smoke": Photographs(sizes=(64,), processes=(0,), small=40, camera=33, repeats=1),
}


def synthetic(seed: int, *, width: int, height: int) -> bytes:
    """A JPEG with the detail of a photograph: noise of falling amplitude at rising frequency."""
    g = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float32)
    for side, weight in ((4, 60), (16, 35), (64, 20), (256, 10)):
        noise = g.normal(size=(side, side * width // height + 1, 3)).clip(-2, 2) * 63 + 128
        layer = Image.fromarray(noise.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
        picture += (np.asarray(layer, np.float32) - 128) * (weight / 63)
    stream = io.BytesIO()
    Image.fromarray((picture + 128).clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def ours(files: list[bytes], *, size: int, processes: int) -> Callable[[], Iterator[np.ndarray]]:
    network = imagenet_resnet50(size=size)
    source = Source(files.__getitem__, np.zeros(len(files), np.int32), tuple(map(str, range(len(files)))), ("any",))

    def turn() -> Iterator[np.ndarray]:
        for part in chunks(source, size=size, count=BATCH, processes=processes):
            yield encode_images(network, part.split.images, batch=BATCH)

    return turn


class _Files:
    """A torch `Dataset`: anything with a length and positions."""

    def __init__(self, files: list[bytes], size: int, draft: bool) -> None:
        self.files, self.size, self.draft = files, size, draft

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> np.ndarray:
        picture = Image.open(io.BytesIO(self.files[position]))
        if self.draft:
            picture.draft("RGB", (2 * self.size, 2 * self.size))
        # What torchvision's Resize, CenterCrop and ToTensor call.
        factor = self.size / min(picture.size)
        scaled = picture.convert("RGB").resize(
            [round(side * factor) for side in picture.size], Image.Resampling.BILINEAR
        )
        left, top = ((side - self.size) // 2 for side in scaled.size)
        square = scaled.crop((left, top, left + self.size, top + self.size))
        return np.asarray(square, np.float32).transpose(2, 0, 1) / 255


def theirs(files: list[bytes], *, size: int, processes: int, draft: bool) -> Callable[[], Iterator[np.ndarray]]:
    import torch

    from experiments.torch_resnet import ResNet

    network = ResNet(50, classes=0).eval().to(memory_format=torch.channels_last)

    def turn() -> Iterator[np.ndarray]:
        for batch in torch.utils.data.DataLoader(_Files(files, size, draft), batch_size=BATCH, num_workers=processes):
            with torch.inference_mode():
                rows = network(batch.to(memory_format=torch.channels_last))
            yield rows.numpy()

    return turn


def spent() -> float:
    """Processor seconds of this process and of those that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def compare(files: list[bytes], *, size: int, processes: int, repeats: int) -> dict[str, Any]:
    """Each contender's median rate after its first batch."""
    contenders = {"jcbir": ours(files, size=size, processes=processes)}
    try:
        import torch  # noqa: F401

        contenders |= {
            name: theirs(files, size=size, processes=processes, draft=draft)
            for name, draft in (("PyTorch", False), ("PyTorch, draft", True))
        }
    except ModuleNotFoundError:
        pass
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, turn in contenders.items():
            batches = turn()
            rows, clock, processor = [next(batches)], time.perf_counter(), spent()
            rows += batches
            taken[name].append((time.perf_counter() - clock, spent() - processor))
            whole = np.concatenate(rows)
            if whole.shape != (len(files), 2048) or not np.isfinite(whole).all():
                raise ValueError(f"{name}: must give 2048 finite features a photograph, got {whole.shape}")
    counted = len(files) - BATCH
    return {
        name: {
            "per_second": round(counted / statistics.median(clock for clock, _ in turns), 2),
            "per_processor_second": round(counted / statistics.median(used for _, used in turns), 2),
        }
        for name, turns in taken.items()
    }


def main(config: Photographs) -> dict[str, Any]:
    """Make the photographs, let the contenders take turns."""
    run = begin("bench_photos", config, packages=("pillow", "torch"))
    sets = {
        "small": [synthetic(seed, width=240, height=180) for seed in range(config.small)],
        # A few pictures many times over: each is decoded anew.
        "camera": [synthetic(seed, width=4000, height=3000) for seed in range(4)],
    }
    sets["camera"] = [sets["camera"][i % 4] for i in range(config.camera)]
    rows = []
    for kind, files in sets.items():
        for size in config.sizes:
            for processes in config.processes:
                found = compare(files, size=size, processes=processes, repeats=config.repeats)
                rows.append({"photographs": kind, "size": size, "processes": processes, "rates": found})
                print(rows[-1], flush=True)
    about = {kind: round(float(np.mean([len(file) for file in files])) / 1e6, 3) for kind, files in sets.items()}
    return finish(run, {"megabytes": about, "batch": BATCH, "cores": os.cpu_count(), "rows": rows})


if __name__ == "__main__":
    main(command_line(SCALES))
