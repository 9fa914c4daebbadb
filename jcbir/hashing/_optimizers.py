"""Optimizers by the recipes of the papers, as optax transformations."""

import functools
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from jcbir.typing import check_real, check_whole

Rate = float | Callable[[Any], Any]
"""A learning rate, or an optax schedule of it."""

Chosen = str | Callable[[tuple[str, ...]], bool]
"""Parameters with a name on their path that starts with this text, or for whose path this function is true."""

HEAD = "hash"
"""What the names of this library's hash heads start with."""


def step_decay(rate: float, *, factor: float, every: int) -> Callable[[Any], Any]:
    """A learning rate multiplied by `factor` every `every` steps: rate * factor^floor(step / every).

    Args:
        rate: learning rate at step 0, at least 0.
        factor: what each stage multiplies it by, above 0.
        every: steps per stage.

    Returns:
        An optax schedule.

    Raises:
        ValueError: a number out of range.

    Example:
        >>> float(step_decay(1.0, factor=0.5, every=10)(25))
        0.25
    """
    check_real("rate", rate)
    # With these optax would leave the rate as it is.
    check_real("factor", factor, above=0.0)
    every = check_whole("every", every, low=1)
    return optax.exponential_decay(rate, transition_steps=every, decay_rate=factor, staircase=True)


def learning_rates(
    rates: Mapping[str, Rate],
    *,
    groups: Mapping[str, Chosen | None] | None = None,
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.adam,
) -> optax.GradientTransformation:
    """An optimizer with a learning rate for each group of parameters, by name.

    Args:
        rates: learning rate or schedule by group; 0 leaves a group as it is.
        groups: which parameters, by group: those with a name on their path that starts with a text, or for which a
            function of the path (a tuple of names) is true; None, for one group at most, takes all others. By default
            `head`, the names that start with "hash", and `backbone`, all others.
        optimizer: rate -> transformation, e.g. `functools.partial(optax.adamw, weight_decay=1e-4)`.

    Returns:
        The optimizer.

    Raises:
        ValueError: a group without a rate or that is none, a rate without a group, below 0 or no number; from its
            `init`, a group without parameters, or parameters of no group or of two, by name.

    Example:
        >>> import jax.numpy as jnp
        >>> optimizer = learning_rates({"head": 1e-3, "backbone": 1e-5})
        >>> _ = optimizer.init({"conv": jnp.ones(2), "hash_head": jnp.ones(2)})
        >>> optimizer.init({"conv": jnp.ones(2)})
        Traceback (most recent call last):
        ...
        ValueError: groups: must each have parameters, got none in head among conv
    """
    chosen: Mapping[str, Chosen | None] = {"head": HEAD, "backbone": None} if groups is None else groups
    if set(rates) != set(chosen):
        known, given = (", ".join(sorted(map(str, names))) for names in (chosen, rates))
        raise ValueError(f"rates: must be of the groups {known}, got {given}")
    for name, choice in chosen.items():
        if not (choice is None or isinstance(choice, str) or callable(choice)):
            raise ValueError(f"groups[{name!r}]: must be the start of a name, a function or None, got {choice!r}")
    for name, rate in rates.items():
        if not callable(rate) and not _is_rate(rate):
            raise ValueError(f"rates[{name!r}]: must be a schedule or a number of at least 0, got {rate!r}")
    others = [name for name, choice in chosen.items() if choice is None]
    if len(others) > 1:
        raise ValueError(f"groups: must leave the others to one group at most, got {', '.join(others)}")

    def labels(params: Any) -> Any:
        def label(path: Any, _: Any) -> str:
            names = tuple(str(getattr(entry, "key", getattr(entry, "name", ""))) for entry in path)
            found = [name for name, choice in chosen.items() if choice is not None and _is_of(choice, names)] or others
            if len(found) != 1:
                raise ValueError(
                    f"groups: must have each parameter once, got {'/'.join(names)} in {' and '.join(found) or 'none'}"
                )
            return found[0]

        found = jax.tree_util.tree_map_with_path(label, params)
        if missing := [name for name in chosen if name not in jax.tree.leaves(found)]:
            top = {str(getattr(path[0], "key", path[0])) for path, _ in jax.tree.leaves_with_path(params)}
            raise ValueError(
                f"groups: must each have parameters, got none in {', '.join(missing)} among {', '.join(sorted(top))}"
            )
        return found

    moved: dict[Hashable, optax.GradientTransformation] = {
        name: optimizer(rate) if callable(rate) or rate > 0 else optax.set_to_zero() for name, rate in rates.items()
    }
    return optax.partition(moved, labels)


def _is_rate(rate: Any) -> bool:
    """Whether it is one number of Python, NumPy or JAX, and at least 0."""
    number = np.asarray(rate)
    return number.ndim == 0 and number.dtype.kind in "iuf" and bool(0 <= number < np.inf)


def _is_of(choice: Chosen, names: tuple[str, ...]) -> bool:
    return bool(choice(names)) if callable(choice) else any(name.startswith(choice) for name in names)


def two_rates(
    *,
    steps_per_epoch: int,
    rate: float = 1e-3,
    backbone_scale: float = 0.01,
    decay: float = 0.7,
    decay_epochs: int = 10,
    weight_decay: float = 0.0,
    head: Chosen = HEAD,
) -> optax.GradientTransformation:
    """Adam with a fast new head and a slow pretrained backbone, both decaying by steps.

    The published CSQ recipe: 1e-3 for the head, 0.01 of it (ImageNet; 0.05 for COCO and NUS-WIDE) for the backbone,
    times 0.7 every 10 epochs. Other groups and rates: `learning_rates`.

    Args:
        steps_per_epoch: images // batch.
        rate: learning rate of the head.
        backbone_scale: the backbone's learning rate over the head's; 0 freezes the backbone.
        decay: factor of each stage.
        decay_epochs: epochs per stage.
        weight_decay: decoupled weight decay (AdamW); 0 is plain Adam.
        head: which parameters are the head's, as in `learning_rates`.

    Returns:
        The optimizer.

    Raises:
        ValueError: a number out of range; from its `init`, where no parameter is the head's or none the backbone's.

    Example:
        >>> import jax.numpy as jnp
        >>> optimizer = two_rates(steps_per_epoch=100)
        >>> _ = optimizer.init({"conv": jnp.ones(2), "hash_head": jnp.ones(2)})

    References:
        Yuan et al., code of Central Similarity Quantization (Hadamard-Matrix-for-hashing), 2020.
    """

    per_epoch = _check_recipe(steps_per_epoch=steps_per_epoch, rate=rate, decay=decay, weight_decay=weight_decay)
    check_real("backbone_scale", backbone_scale)
    every = check_whole("decay_epochs", decay_epochs, low=1) * per_epoch

    def schedule(scale: float) -> Rate:
        return step_decay(rate * scale, factor=decay, every=every) if scale else 0.0

    return learning_rates(
        {"head": schedule(1.0), "backbone": schedule(backbone_scale)},
        groups={"head": head, "backbone": None},
        optimizer=functools.partial(optax.adamw, weight_decay=weight_decay),
    )


def paper_adam(
    *, steps_per_epoch: int, rate: float = 1e-4, decay: float = 0.9, weight_decay: float = 1e-6
) -> optax.GradientTransformation:
    """The optimizer the paper prints: Adam at 1e-4, "learning rate decay" 0.9 (read as per epoch), weight decay 1e-6.

    The weight decay is the L2 kind of PyTorch's Adam: it joins the gradient before the moments.

    Args:
        steps_per_epoch: images // batch.
        rate: learning rate of all parameters.
        decay: factor per epoch.
        weight_decay: L2 coefficient.

    Returns:
        The optimizer.

    Raises:
        ValueError: a number out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> _ = paper_adam(steps_per_epoch=100).init({"w": jnp.ones(2)})

    References:
        Wang et al., Secure Content Based Image Retrieval Scheme, CMC 75(3), 2023, section 5.
    """
    per_epoch = _check_recipe(steps_per_epoch=steps_per_epoch, rate=rate, decay=decay, weight_decay=weight_decay)
    schedule = step_decay(rate, factor=decay, every=per_epoch)
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.adam(schedule))


def _check_recipe(*, steps_per_epoch: int, rate: float, decay: float, weight_decay: float) -> int:
    """Refuse numbers that are no recipe; the steps of an epoch."""
    check_real("rate", rate)
    check_real("decay", decay, above=0.0)
    check_real("weight_decay", weight_decay)
    return check_whole("steps_per_epoch", steps_per_epoch, low=1)
