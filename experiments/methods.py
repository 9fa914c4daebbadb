"""The methods of the comparison, each as the little it needs beyond the shared training step.

A deep method is a loss and its targets. Some need more: HashNet reads the step number, GreedyHash adds a linear
classifier on the signs, Bi-half compares with the features, ADSH and DFH remember between steps.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jcbir import hashing
from jcbir.hashing import centers, losses, shallow

SHALLOW = ("lsh", "itq", "itq_cca", "bre", "ksh", "sdh")
DEEP = ("cnnh", "dnnh", "dhn", "dpsh", "hashnet", "dch", "greedyhash", "orthohash", "csq")
ADDED = ("fsdh", "bihalf", "dsh", "dtsh", "adsh", "dbdh", "idhn", "dfh")
"""More methods, those with a memory bank by their losses within a batch: asked for by name, not part of the paper's
comparison. FSDH is fitted to features; Bi-half sees no labels and needs frozen features."""
FITTED = (*SHALLOW, "fsdh")
VARIANTS = ("csq_drawn", "csq_balanced", "csq_pairs", "csq_labels", "csq_factorized", "csq_class")
"""CSQ with its rows of the Hadamard matrix drawn at random, with balanced random rows, with the pair term of the
official code, with the codes of the label rows as targets (photographs with several labels), with CNNH's codes as
targets, or with the majority of those in each class: asked for by name, not part of the comparison."""
NAMES = (
    {"csq_drawn": "CSQ, rows drawn", "csq_balanced": "CSQ, balanced random rows", "csq_pairs": "CSQ, pair term"}
    | {"csq_labels": "CSQ, label codes", "csq_factorized": "CSQ, CNNH's codes"}
    | {"csq_class": "CSQ, CNNH's codes, one a class"}
    | {"lsh": "LSH", "itq": "ITQ", "itq_cca": "ITQ-CCA", "greedyhash": "GreedyHash", "orthohash": "OrthoHash"}
    | {"hashnet": "HashNet", "bihalf": "Bi-half"}
)

# The authors of HashNet let beta grow over 10,000 steps, in stages of 200.
_HASHNET_STEPS = 10_000


def title(method: str) -> str:
    """The name as the papers print it."""
    return NAMES.get(method, method.upper())


def class_centers(classes: int, *, bits: int, method: str = "csq") -> np.ndarray:
    """Hash centers: the paper's Hadamard rows, and past 2Q classes the separated ones, the same for every seed."""
    make = {"csq_drawn": centers.drawn_centers, "csq_balanced": centers.bernoulli}.get(
        method, centers.separated_centers
    )
    return np.asarray(make(jax.random.key(0), classes, bits=bits))


def targets_of(
    method: str, key: jax.Array, labels: np.ndarray, *, bits: int, features: np.ndarray | None = None
) -> Any:
    """What the method's loss compares with: centers, factorized codes, frozen features, or the labels themselves."""
    if method in ("csq", "csq_drawn", "csq_balanced", "csq_pairs"):
        found = np.asarray(centers.semantic(labels, class_centers(labels.shape[1], bits=bits, method=method)))
        return (found, labels) if method == "csq_pairs" else found
    if method == "csq_labels":
        return (
            np.asarray(shallow.project(_label_codes()(jax.random.key(0), labels, bits=bits), labels.astype(np.float32)))
            >= 0
        )
    if method in ("cnnh", "csq_factorized", "csq_class"):
        codes = np.asarray(_factorizer()(key, losses.similar_pairs(labels), bits=bits, rounds=3))
        if method != "csq_class":
            return codes
        members = labels.astype(np.float32)
        return members @ (members.T @ (2.0 * codes - 1)) >= 0
    if method == "bihalf":
        if features is None:
            raise ValueError("bihalf: must have frozen features to imitate, got a network that is trained")
        return features
    if method == "adsh":
        return {"rows": np.arange(len(labels), dtype=np.int32), "labels": labels}
    return labels


def step_of(
    method: str,
    *,
    apply: hashing.TrainApply,
    optimizer: optax.GradientTransformation,
    classes: int,
    bits: int,
    steps: int,
    augment: Callable[[jax.Array, Any], Any] | None,
    **settings: float,
) -> Callable[[hashing.TrainState, hashing.Batch], tuple[hashing.TrainState, dict[str, jax.Array]]]:
    """The jitted training step of a deep method; `apply` returns hash logits, `settings` are arguments of the loss."""
    common = {"optimizer": optimizer, "augment": augment}
    if method == "hashnet":
        growth, every = 0.005 * _HASHNET_STEPS / steps, max(1, round(200 * steps / _HASHNET_STEPS))

        def step(state: hashing.TrainState, batch: hashing.Batch) -> tuple[hashing.TrainState, dict[str, jax.Array]]:
            scale = losses.continuation(state.step, growth=growth, every=every)
            loss = partial(losses.hashnet, scale=scale, **settings)
            return hashing.train_step(state, batch, apply=apply, loss=loss, **common)

        return jax.jit(step)
    if method == "greedyhash":
        return jax.jit(
            partial(
                hashing.train_step,
                apply=_classified(apply),
                loss=lambda outputs, labels: losses.greedyhash(*outputs, labels, **settings),
                **common,
            )
        )
    if method in ("adsh", "dfh"):
        loss, remember = (_asymmetric, _database) if method == "adsh" else (_fisher, _moved)
        return jax.jit(partial(hashing.train_step, apply=apply, loss=loss, remember=remember, **common))
    table = class_centers(classes, bits=bits)
    loss = {
        **dict.fromkeys(("csq", *VARIANTS), losses.csq),
        "csq_pairs": _with_pairs,
        "bihalf": losses.bihalf,
        "dsh": losses.dsh,
        "dtsh": losses.dtsh,
        "dbdh": losses.dbdh,
        "idhn": losses.idhn,
        "cnnh": losses.cnnh,
        "dnnh": losses.dnnh,
        "dhn": losses.dhn,
        "dpsh": losses.dpsh,
        "dch": losses.dch,
        "orthohash": partial(losses.orthohash, centers=table),
    }[method]
    return jax.jit(partial(hashing.train_step, apply=apply, loss=partial(loss, **settings), **common))


def classifier(method: str, key: jax.Array, *, classes: int, bits: int) -> dict[str, Any]:
    """Parameters besides those of the network: GreedyHash's classifier; other methods have none."""
    if method != "greedyhash":
        return {}
    return {"hash_classifier": jax.random.normal(key, (bits, classes)) / jnp.sqrt(bits)}


def memory(method: str, labels: np.ndarray, *, bits: int, batch: int) -> Any:
    """What the method remembers between steps: DFH class centers, and the codes of a batch drawn to those before; ADSH
    the last outputs and the codes of all photographs.
    """
    count, classes = labels.shape
    if method == "dfh":
        return {"centers": jnp.zeros((classes, bits), jnp.float32), "codes": jnp.zeros((batch, bits), bool)}
    if method == "adsh":
        zeros = jnp.zeros((count, bits), jnp.float32)
        steps = jnp.full((), count // batch, jnp.int32)
        return {"outputs": zeros, "signs": zeros, "labels": labels, "left": steps, "epoch": steps}
    return ()


def shallow_fitter(
    method: str, *, bits: int
) -> Callable[[jax.Array, np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """A shallow method as a function (key, features, labels) -> (features -> boolean codes), compiled once."""
    fit = {
        "lsh": lambda key, x, y: shallow.lsh(key, x, bits=bits),
        "itq": lambda key, x, y: shallow.itq(key, x, bits=bits),
        "itq_cca": lambda key, x, y: shallow.itq_cca(key, x, y, bits=bits),
        "bre": lambda key, x, y: shallow.bre(key, x, bits=bits, labels=y),
        "ksh": lambda key, x, y: shallow.ksh(key, x, y, bits=bits),
        "sdh": lambda key, x, y: shallow.sdh(key, x, y, bits=bits),
        "fsdh": lambda key, x, y: shallow.fsdh(key, x, y, bits=bits),
    }[method]
    fit, project = jax.jit(fit), jax.jit(shallow.project)

    def fitted(key: jax.Array, features: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        found = fit(key, features, labels).hash
        return lambda items: np.asarray(project(found, items)) >= 0

    return fitted


@cache
def _factorizer() -> Callable[..., jax.Array]:
    return jax.jit(losses.similarity_codes, static_argnames=("bits", "rounds"))


@cache
def _label_codes() -> Callable[..., shallow.LinearHash]:
    return jax.jit(centers.label_codes, static_argnames="bits")


def _with_pairs(logits: Any, targets: Any, *, pair_weight: float = 0.2, **settings: Any) -> jax.Array:
    return losses.csq(logits, targets[0], labels=targets[1], pair_weight=pair_weight, **settings)


def _moved(before: Any, logits: Any, labels: Any) -> Any:
    codes = losses.dfh_codes(logits, labels, before["centers"])
    return {"centers": losses.dfh_centers(before["centers"], labels, codes), "codes": codes}


def _fisher(logits: Any, labels: Any, memory: Any) -> jax.Array:
    return losses.dfh(logits, labels, memory["codes"])


def _database(before: Any, logits: Any, targets: Any) -> Any:
    """The database is the training set, its codes are solved for after each epoch; what was not seen has output 0."""
    outputs = before["outputs"].at[targets["rows"]].set(jnp.tanh(logits))
    everything, left = jnp.arange(len(outputs), dtype=jnp.int32), before["left"] - 1

    def solve(signs: jax.Array) -> jax.Array:
        return losses.adsh_codes(signs, outputs, before["labels"], before["labels"], everything)

    signs = jax.lax.cond(left == 0, solve, lambda signs: signs, before["signs"])
    left = jnp.where(left == 0, before["epoch"], left)
    return {**before, "outputs": outputs, "signs": signs, "left": left}


def _asymmetric(logits: Any, targets: Any, memory: Any) -> jax.Array:
    return losses.adsh(logits, targets["labels"], memory["signs"], memory["labels"], targets["rows"])


def _classified(apply: hashing.TrainApply) -> hashing.TrainApply:
    def classified(variables: Any, images: Any, key: jax.Array) -> tuple[Any, Any]:
        logits, batch_stats = apply(variables, images, key)
        weights = variables["params"]["hash_classifier"]
        return (logits, losses.straight_through(logits) @ weights), batch_stats

    return classified
