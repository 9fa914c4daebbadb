"""Optimizers by the recipes of the papers, as optax transformations."""

from collections.abc import Callable
from typing import Any

import jax
import optax


def head_parameters(params: Any, *, head: str = "hash") -> Any:
    """Label each parameter "head" or "backbone" by its place in the tree.

    Args:
        params: parameters as a tree of dictionaries.
        head: a parameter belongs to the head when a key on its path starts with this.

    Returns:
        A tree of the same structure holding the labels.

    Example:
        >>> import numpy as np
        >>> head_parameters({"conv1": {"kernel": np.ones(1)}, "hash_head": {"kernel": np.ones(1)}})
        {'conv1': {'kernel': 'backbone'}, 'hash_head': {'kernel': 'head'}}
    """

    def label(path: Any, _: Any) -> str:
        names = [str(getattr(entry, "key", getattr(entry, "name", ""))) for entry in path]
        return "head" if any(name.startswith(head) for name in names) else "backbone"

    return jax.tree_util.tree_map_with_path(label, params)


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
    labels: Callable[[Any], Any] = head_parameters,
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
        labels: params -> tree of "head" and "backbone".

    Returns:
        The optimizer.

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
