"""What the image cipher would gain from another scrambling: three in the place of the sort, in one run, in turns.

    taskset -c 0 python -m experiments.bench_scrambling --report experiments/results/bench_scrambling.json

Chains of the paper's stages that differ in the second alone. `sort`: by 32-bit keys of the key stream, what the format
has. `blocks`: 256 samples each by 16-bit keys, between passes every sample of a block goes to a block of its own; two
passes, three where a plane has more than 2^16 samples. `Feistel`: rows and columns of the plane are the halves of a
Feistel network, to each half is added a hash of the other under a round key, modulo its extent; eight rounds, computed
and gathered by one compiled program; no key stream but one byte a sample, the least that a stage takes. `none`: no
scrambling at all, which no scrambling can outrun. Megabytes of image a second, as `experiments.bench_cipher` counts
them; `ratio` is to `sort`. Every image comes back but for `Feistel`, whose order is checked to be a permutation.
"""

import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench_cipher import photographs
from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir.cipher import CHAINS, Chain, Stage, decrypt_batch, encrypt_batch

BLOCK = 256
ROUNDS = 8


@dataclass(frozen=True)
class Speed:
    """What is measured.

    Attributes:
        where: places.
        clock: wall clock, or processor time of this process.
        batch: images of 224 x 224 x 3.
        side: side of the large image, x 3.
        repeats: turns; the best counts.
    """

    where: At = PLACES
    clock: Literal["wall", "cpu"] = "cpu"
    batch: int = 64
    side: int = 2048
    repeats: int = 10


SCALES: dict[Scale, Speed] = {"cpu": Speed(), "smoke": Speed(batch=1, side=256, repeats=1)}


def block_passes(samples: int) -> int:
    """Passes after which a sample may be anywhere."""
    return 2 if samples <= BLOCK**2 else 3


def scramble_blocks(planes: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Blocks of 256 samples in the order of their keys, then the samples of a block far from one another."""
    count = planes[0].size // BLOCK
    samples = planes.reshape(len(planes), count, BLOCK)
    for sort_keys in block_keys(keys, samples.shape):
        words = (sort_keys.astype(np.uint32) << 8 | np.arange(BLOCK, dtype=np.uint32)) << 8
        words |= samples
        words.sort(axis=-1)
        ordered = words.astype(np.uint8)
        samples = np.ascontiguousarray(np.swapaxes(ordered, 1, 2)).reshape(samples.shape)
    return samples.reshape(planes.shape)


def unscramble_blocks(planes: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Inverse of `scramble_blocks`."""
    count = planes[0].size // BLOCK
    samples = planes.reshape(len(planes), count, BLOCK)
    for sort_keys in reversed(block_keys(keys, samples.shape)):
        ordered = np.swapaxes(samples.reshape(len(planes), BLOCK, count), 1, 2)
        samples = np.empty_like(samples)
        np.put_along_axis(samples, np.argsort(sort_keys, axis=-1, stable=True), ordered, axis=-1)
    return samples.reshape(planes.shape)


def block_keys(keys: np.ndarray, shape: tuple[int, ...]) -> list[np.ndarray]:
    """16-bit sort keys of each pass: two planes of the key stream, two bytes a sample in turn."""
    streams = keys.reshape(len(keys), -1, 2 * shape[1] * shape[2])
    return [np.ascontiguousarray(streams[:, turn]).view("<u2").reshape(shape) for turn in range(streams.shape[1])]


def feistel_order(keys: jax.Array, height: int, width: int) -> jax.Array:
    """Where each sample comes from: row and column, in turns moved by a hash of the other."""
    row, column = (jax.lax.broadcasted_iota(np.uint32, (height, width), axis) for axis in (0, 1))
    for turn in range(0, ROUNDS, 2):
        column = (column + hashed(row, keys[turn]) % width) % width
        row = (row + hashed(column, keys[turn + 1]) % height) % height
    return (row * np.uint32(width) + column).astype(np.int32)


def hashed(x: jax.Array, key: jax.Array) -> jax.Array:
    """32 bits mixed (the finalizer of MurmurHash3) under a round key."""
    x = x ^ key
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    return x ^ (x >> np.uint32(16))


@jax.jit
def gathered(planes: jax.Array, keys: jax.Array) -> jax.Array:
    """Planes in the order of the Feistel network."""

    def one(plane: jax.Array, key: jax.Array) -> jax.Array:
        return plane.reshape(-1)[feistel_order(key, *plane.shape)]

    return jax.vmap(one)(planes, keys)


def scramble_feistel(planes: np.ndarray, keys: np.ndarray) -> np.ndarray:
    rounds = np.ascontiguousarray(keys.reshape(len(planes), -1)[:, : 4 * ROUNDS]).view(np.uint32)
    return np.asarray(gathered(planes, rounds))


def not_undone(planes: np.ndarray, keys: np.ndarray) -> np.ndarray:
    raise NotImplementedError("only the speed of encryption is asked for")


def chains(samples: int) -> dict[str, Chain]:
    """The contenders."""
    first, sort, *rest = CHAINS[0].stages
    blocks = Stage(scramble_blocks, unscramble_blocks, 2, 2 * block_passes(samples))
    instead = {"sort": [sort], "blocks": [blocks], "Feistel": [Stage(scramble_feistel, not_undone, 2, 1)], "none": []}
    return {name: Chain(name, (first, *stages, *rest)) for name, stages in instead.items()}


def measure(photos: np.ndarray, config: Speed) -> dict[str, Any]:
    """Rates of all contenders for one batch."""
    clock = time.perf_counter if config.clock == "wall" else time.process_time
    count, side = len(photos), photos.shape[1]
    secret = {"keys": [bytes([i]) * 32 for i in range(count)], "nonces": [bytes([i]) * 16 for i in range(count)]}
    runs, seconds, comes_back = {}, {}, {}
    for name, chain in chains(side**2).items():
        runs[name] = partial(encrypt_batch, photos, **secret, order=chain, engine="compiled")
        noise, seconds[name] = runs[name](), np.inf
        if name != "Feistel":
            again = decrypt_batch(noise, **secret, order=chain, engine="compiled")
            comes_back[name] = bool(np.array_equal(again, photos))
    order = np.asarray(feistel_order(jnp.arange(ROUNDS, dtype=np.uint32), side, side))
    comes_back["Feistel"] = bool(np.array_equal(np.sort(order.ravel()), np.arange(side**2)))
    for _ in range(config.repeats):
        for name, run in runs.items():
            begun = clock()
            run()
            seconds[name] = min(seconds[name], clock() - begun)
    return {
        "shape": list(photos.shape),
        "mb_s": {name: photos.nbytes / best / 1e6 for name, best in seconds.items()},
        "ratio": {name: seconds["sort"] / best for name, best in seconds.items()},
        "exact": all(comes_back.values()),
    }


def main(config: Speed) -> dict[str, Any]:
    """Measure both sizes."""
    run = begin("bench_scrambling", config)
    runs = [measure(photographs(config.batch, 224), config), measure(photographs(1, config.side), config)]
    for found in runs:
        print(found)
    return finish(run, {"runs": runs})


if __name__ == "__main__":
    main(command_line(SCALES))
