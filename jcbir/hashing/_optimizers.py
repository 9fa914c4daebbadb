"""Optimizers by the recipes of the papers, as optax transformations."""

from collections.abc import Callable
from typing import Any

import jax
import optax


def step_decay(rate: float, *, factor: float, every: int) -> Callable[[Any], Any]:
    """A learning rate multiplied by `factor` every `every` steps: rate * factor^floor(step / every).

    Args:
        rate: learning rate at step 0.
        factor: what each stage multiplies it by.
        every: steps per stage.

    Returns:
        An optax schedule.

    Example:
        >>> float(step_decay(1.0, factor=0.5, every=10)(25))
        0.25
    """
    return optax.exponential_decay(rate, transition_steps=every, decay_rate=factor, staircase=True)


def two_rates(
    *,
    steps_per_epoch: int,
    rate: float = 1e-3,
    backbone_scale: float = 0.01,
    decay: float = 0.7,
    decay_epochs: int = 10,
    weight_decay: float = 0.0,
    head: str | Callable[[tuple[str, ...]], bool] = "hash",
) -> optax.GradientTransformation:
    """Adam with a fast new head and a slow pretrained backbone, both decaying by steps.

    The published CSQ recipe: 1e-3 for the head, 0.01 of it (ImageNet; 0.05 for COCO and NUS-WIDE) for the backbone,
    times 0.7 every 10 epochs.

    Args:
        steps_per_epoch: images // batch.
        rate: learning rate of the head.
        backbone_scale: the backbone's learning rate over the head's; 0 freezes the backbone.
        decay: factor of each stage.
        decay_epochs: epochs per stage.
        weight_decay: decoupled weight decay (AdamW); 0 is plain Adam.
        head: which parameters are the head's: those with a name on their path that starts with this text, or for which
            this function of the path (a tuple of names) is true.

    Returns:
        The optimizer.

    Raises:
        ValueError: from its `init`, where no parameter is the head's or none the backbone's.

    Example:
        >>> import jax.numpy as jnp
        >>> optimizer = two_rates(steps_per_epoch=100)
        >>> _ = optimizer.init({"conv": jnp.ones(2), "hash_head": jnp.ones(2)})

    References:
        Yuan et al., code of Central Similarity Quantization (Hadamard-Matrix-for-hashing), 2020.
    """

    def adam(scale: float) -> optax.GradientTransformation:
        schedule = step_decay(rate * scale, factor=decay, every=decay_epochs * steps_per_epoch)
        return optax.adamw(schedule, weight_decay=weight_decay)

    backbone = adam(backbone_scale) if backbone_scale else optax.set_to_zero()

    def labels(params: Any) -> Any:
        def label(path: Any, _: Any) -> str:
            names = tuple(str(getattr(entry, "key", getattr(entry, "name", ""))) for entry in path)
            chosen = head(names) if callable(head) else any(name.startswith(head) for name in names)
            return "head" if chosen else "backbone"

        found = jax.tree_util.tree_map_with_path(label, params)
        for group in ("head", "backbone"):
            if group not in jax.tree.leaves(found):
                names = ", ".join(
                    sorted({str(getattr(path[0], "key", path[0])) for path, _ in jax.tree.leaves_with_path(params)})
                )
                raise ValueError(f"head: must leave parameters in both groups, got none in the {group} among {names}")
        return found

    return optax.multi_transform({"head": adam(1.0), "backbone": backbone}, labels)


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

    Example:
        >>> import jax.numpy as jnp
        >>> _ = paper_adam(steps_per_epoch=100).init({"w": jnp.ones(2)})

    References:
        Wang et al., Secure Content Based Image Retrieval Scheme, CMC 75(3), 2023, section 5.
    """
    schedule = step_decay(rate, factor=decay, every=steps_per_epoch)
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.adam(schedule))
