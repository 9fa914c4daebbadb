"""Whether our losses are those of public code: value ratio and gradient cosine, with defaults and with arguments.

    python -m experiments.parity --report experiments/results/parity.json

Every loss is compared with the restated formulas of `published_losses` on random batches, in float64. Expected: with
the arguments printed, every ratio is 1 to 1e-6 and every cosine 1, but for those whose arguments are "none".
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import published_losses as published
from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir.hashing import centers, losses

TORCH, OFFICIAL = "DeepHash-pytorch", "its authors"


@dataclass(frozen=True)
class Batches:
    """What is compared on.

    Attributes:
        where: places.
        batches: random batches.
        size: images a batch, even.
        bits: code length, a power of two.
        classes: number of classes.
        stored: images that the memory bank, or the database, holds.
    """

    where: At = PLACES
    batches: int = 5
    size: int = 12
    bits: int = 16
    classes: int = 4
    stored: int = 30


SCALES: dict[Scale, Batches] = {"smoke": Batches(batches=1, size=6, bits=8, stored=10), "cpu": Batches()}


class Setting(NamedTuple):
    """One random batch in both worlds: what public code holds as floats, here booleans."""

    # Logits, multi-hot rows and center of each image; the table of centers; what is remembered, and where the batch
    # stands in it; features of the images, and a classifier on their signs.
    logits: np.ndarray
    rows: np.ndarray
    codes: np.ndarray
    table: np.ndarray
    bank: losses.MemoryBank
    places: np.ndarray
    features: np.ndarray
    weights: np.ndarray

    @property
    def y(self) -> np.ndarray:
        return self.rows.astype(np.float64)

    @property
    def signs(self) -> np.ndarray:
        return np.where(self.codes, 1.0, -1.0)

    @property
    def stored(self) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(self.bank.outputs), np.asarray(self.bank.labels, np.float64)


Ours = Callable[..., jax.Array]
Theirs = Callable[[Setting, np.ndarray], float | tuple[float, np.ndarray]]


class Case(NamedTuple):
    """A loss of public code and ours.

    Attributes:
        name: of the method.
        whose: code.
        arguments: that reproduce it, as one writes them; empty where the defaults do, "none" where nothing does.
        ours: (setting, logits, arguments as a dictionary) -> losses.
        theirs: (setting, logits) -> loss, or loss and gradient where that is not the derivative.
        options: the arguments.
    """

    name: str
    whose: str
    arguments: str
    ours: Ours
    theirs: Theirs
    options: Callable[[Setting], dict[str, Any]] = lambda s: {}


def cases() -> list[Case]:
    """Every comparison."""

    def pair(loss: Ours) -> Ours:
        return lambda s, u, **more: loss(u, s.rows, **more)

    def banked(**more: Any) -> Callable[[Setting], dict[str, Any]]:
        return lambda s: {"bank": s.bank, **more}

    def always(**more: Any) -> Callable[[Setting], dict[str, Any]]:
        return lambda s: more

    def remembered(loss: Callable[..., float]) -> Theirs:
        # The bank's copy of the batch is a constant: it stays that of the logits compared at.
        return lambda s, u: loss(u, s.y, *s.stored)

    csq = lambda s, u, **more: losses.csq(u, s.codes, **more)  # noqa: E731
    return [
        Case(
            "CSQ",
            OFFICIAL,
            "labels, pair_weight=0.2",
            csq,
            lambda s, u: published.csq_official(u, s.signs, s.y),
            lambda s: {"labels": s.rows, "pair_weight": 0.2},
        ),
        Case(
            "CSQ",
            TORCH,
            "quantization_weight=1e-4",
            csq,
            lambda s, u: published.csq(u, s.signs, weight=1e-4),
            always(quantization_weight=1e-4),
        ),
        Case("DPSH", TORCH, "bank", pair(losses.dpsh), remembered(published.dpsh), banked()),
        Case("DHN", TORCH, "bank, tanh=False", pair(losses.dhn), remembered(published.dhn), banked(tanh=False)),
        Case("DHN", OFFICIAL, "none", pair(losses.dhn), lambda s, u: published.dhn_tensorflow(u, s.y)),
        Case(
            "HashNet",
            TORCH,
            "sharpness=0.1, self_pairs=True",
            pair(losses.hashnet),
            lambda s, u: published.hashnet(u, s.y),
            always(sharpness=0.1, self_pairs=True),
        ),
        Case(
            "HashNet",
            OFFICIAL,
            "class_num=C, self_pairs=True",
            pair(losses.hashnet),
            lambda s, u: published.hashnet(u, s.y, alpha=10 / u.shape[1], class_num=s.rows.shape[1]),
            lambda s: {"class_num": float(s.rows.shape[1]), "self_pairs": True},
        ),
        Case(
            "DCH",
            TORCH,
            "tanh=False, cosine_cap=0.99, self_pairs=True",
            pair(losses.dch),
            lambda s, u: published.dch(u, s.y),
            always(tanh=False, cosine_cap=0.99, self_pairs=True),
        ),
        Case("DCH", OFFICIAL, "none", pair(losses.dch), lambda s, u: published.dch_tensorflow(u, s.y)),
        Case(
            "DSH",
            TORCH,
            "bank, quantization_weight=0.1 / K",
            pair(losses.dsh),
            remembered(published.dsh),
            lambda s: {"bank": s.bank, "quantization_weight": 0.1 / s.logits.shape[1]},
        ),
        Case(
            "DTSH",
            TORCH,
            "scale=1, self_pairs=True",
            pair(losses.dtsh),
            lambda s, u: published.dtsh(u, s.y),
            always(scale=1.0, self_pairs=True),
        ),
        Case("DBDH", TORCH, "bank", pair(losses.dbdh), remembered(published.dbdh), banked()),
        Case("IDHN", TORCH, "bank", pair(losses.idhn), remembered(published.idhn), banked()),
        Case(
            "DFH",
            TORCH,
            "bank",
            lambda s, u, **more: losses.dfh(u, s.rows, s.codes, **more),
            lambda s, u: published.dfh(u, s.y, s.signs, *s.stored),
            banked(),
        ),
        Case(
            "ADSH",
            TORCH,
            "",
            lambda s, u: losses.adsh(u, s.rows, np.sign(s.bank.outputs), s.bank.labels, s.places),
            lambda s, u: published.adsh(u, s.y, np.sign(s.stored[0]), s.stored[1], s.places),
        ),
        Case(
            "GreedyHash",
            TORCH,
            "",
            lambda s, u: losses.greedyhash(u, losses.straight_through(u) @ s.weights, s.rows),
            lambda s, u: published.greedyhash(u, s.y, s.weights),
        ),
        Case(
            "Bi-half",
            TORCH,
            "",
            lambda s, u: losses.bihalf(u, s.features),
            lambda s, u: published.bihalf(u, s.features),
        ),
        Case(
            "CNNH",
            TORCH,
            "squared=True",
            lambda s, u, **more: losses.cnnh(u, s.codes, **more),
            lambda s, u: published.cnnh(u, s.signs),
            always(squared=True),
        ),
        Case(
            "OrthoHash",
            OFFICIAL,
            "",
            lambda s, u: losses.orthohash(u, s.rows, s.table),
            lambda s, u: published.orthohash(u, s.y, np.where(s.table, 1.0, -1.0)),
        ),
    ]


def setting(seed: int, config: Batches) -> Setting:
    """A random batch of which the bank holds the outputs too, as it does when public code asks it."""
    g = np.random.default_rng(seed)
    logits = g.normal(size=(config.size, config.bits))
    kinds = g.permutation(np.arange(config.stored) % config.classes)
    places = g.permutation(config.stored)[: config.size]
    rows = np.eye(config.classes, dtype=bool)[kinds]
    outputs = g.normal(size=(config.stored, config.bits))
    outputs[places] = logits
    table = np.asarray(centers.hadamard(config.classes, config.bits))
    bank = losses.MemoryBank(outputs, rows)
    features = g.normal(size=(config.size, 8))
    weights = g.normal(size=(config.bits, config.classes))
    return Setting(logits, rows[places], table[kinds[places]], table, bank, places, features, weights)


def compare(case: Case, s: Setting, options: dict[str, Any]) -> tuple[float, float]:
    """Ratio of the values, cosine of the gradients."""
    slope = jax.jit(jax.value_and_grad(lambda u: case.ours(s, u, **options).mean()))
    value, gradient = slope(jnp.asarray(s.logits))
    theirs = case.theirs(s, s.logits)
    if not isinstance(theirs, tuple):
        theirs = theirs, published.slope(partial(case.theirs, s), s.logits)
    norms = np.linalg.norm(gradient) * np.linalg.norm(theirs[1])
    return float(value) / theirs[0], float((np.asarray(gradient) * theirs[1]).sum() / norms)


def updates(s: Setting) -> dict[str, float]:
    """The steps between batches that two methods take: largest difference from public code."""
    signs, (outputs, stored) = np.sign(s.bank.outputs), s.stored
    z = np.tanh(s.logits)
    ours = losses.adsh_codes(signs, z, s.rows, s.bank.labels, s.places)
    theirs = published.adsh_codes(signs, z, s.y, stored, s.places)
    relaxed = 0.1 * outputs[: s.rows.shape[1]]
    moved = losses.dfh_centers(relaxed, s.rows, s.codes)
    return {
        "ADSH, codes of the database": float(np.abs(np.asarray(ours) - theirs).max()),
        "DFH, class centers": float(np.abs(np.asarray(moved) - published.dfh_centers(relaxed, s.y, s.signs)).max()),
    }


def main(config: Batches) -> dict[str, Any]:
    """Compare every case on every batch, print a table, write the report."""
    run = begin("parity", config)
    rows = []
    with jax.enable_x64(True):
        settings = [setting(seed, config) for seed in range(config.batches)]
        for case in cases():
            row: dict[str, Any] = {"method": case.name, "code": case.whose, "arguments": case.arguments}
            for name, options in (("defaults", lambda s: {}), ("reproduced", case.options)):
                found = [compare(case, s, options(s)) for s in settings]
                ratios, cosines = zip(*found, strict=True)
                row[name] = {"ratio": [min(ratios), max(ratios)], "cosine": min(cosines)}
            rows.append(row)
            print(f"{case.name:12}{case.whose:18}{row['defaults']} -> {case.arguments}: {row['reproduced']}")
        steps = [updates(s) for s in settings]
    return finish(run, {"losses": rows, "updates": {name: max(step[name] for step in steps) for name in steps[0]}})


if __name__ == "__main__":
    main(command_line(SCALES))
