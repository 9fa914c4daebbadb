"""A linear hash head on the features of any backbone, and the two as one network."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jcbir.models._backbone import Backbone, output_width
from jcbir.typing import Array, check_array


class Head(NamedTuple):
    """A linear hash head on features of unit length; `jcbir.hashing.heads` fits them.

    Attributes:
        projection: one column a bit.
        bias: one number a bit.
    """

    projection: Float[Array, "d k"]
    bias: Float[Array, " k"]


def project_head(head: Head, features: Float[Array, "n d"]) -> Float[jax.Array, "n k"]:
    r"""Logits of a head.

    $u = W^\top x / \lVert x \rVert + b$.

    Args:
        head: as a fit returns it.
        features: pooled features, one row a photograph, of any length but zero.

    Returns:
        float32 logits; only their signs mean something.

    Raises:
        ValueError: features are not floating rows of the head's width.

    Example:
        >>> import numpy as np
        >>> head = Head(np.eye(4, 2, dtype=np.float32), np.zeros(2, np.float32))
        >>> project_head(head, np.ones((3, 4), np.float32)).shape
        (3, 2)
    """
    width = head.projection.shape[0]
    if features.ndim != 2 or features.shape[1] != width or not jnp.issubdtype(features.dtype, jnp.floating):
        raise ValueError(f"features: must be floating [n {width}], got {features.dtype} {features.shape}")
    rows = jnp.asarray(features).astype(jnp.float32)
    lengths = jnp.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / jnp.maximum(lengths, jnp.finfo(jnp.float32).tiny)
    return unit @ jnp.asarray(head.projection) + jnp.asarray(head.bias)[None]


def attach_head(backbone: Backbone, head: Head) -> Backbone:
    """A network that hashes: the backbone's features through a linear head.

    Args:
        backbone: gives features.
        head: on features of that width.

    Returns:
        A backbone whose rows are hash logits, with the same preprocessing.

    Raises:
        ValueError: the head is for features of another width, or is not floats of one width.

    Example:
        >>> import numpy as np
        >>> from jcbir.models import Preprocessing
        >>> features = Backbone(lambda variables, inputs: inputs.mean(axis=(1, 2)), {}, Preprocessing(size=8))
        >>> output_width(attach_head(features, Head(np.eye(3, 16, dtype=np.float32), np.zeros(16, np.float32))))
        16
    """
    check_array("head.projection", head.projection, kind="floats", form="[d, k]", rank=2)
    check_array("head.bias", head.bias, kind="floats", form="[k]", rank=1)
    if len(head.bias) != head.projection.shape[1]:
        raise ValueError(f"head.bias: must be {head.projection.shape[1]} numbers, got {len(head.bias)}")
    if len(head.projection) != output_width(backbone):
        raise ValueError(f"head: must take {output_width(backbone)} features, got {len(head.projection)}")
    variables = {"backbone": backbone.variables, "head": head._asdict()}
    description: Mapping[str, Any] = {}
    if backbone.description:
        description = {
            "architecture": "linear_head",
            "output": "hash_logits",
            "backbone": backbone.description,
            "preprocessing": backbone.description["preprocessing"],
        }
    return Backbone(_logits_of(backbone.apply), variables, backbone.preprocessing, description)


@functools.lru_cache(maxsize=64)
def _logits_of(apply: Callable[..., Any]) -> Callable[[Any, Any], jax.Array]:
    """One function for all heads on a network: they share the programs that are compiled of it."""
    return functools.partial(_hash_logits, apply)


def _hash_logits(apply: Callable[..., Any], variables: Any, inputs: Any) -> jax.Array:
    return project_head(Head(**variables["head"]), apply(variables["backbone"], inputs))
