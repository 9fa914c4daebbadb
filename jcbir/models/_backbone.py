"""A network with its weights and the preprocessing they were trained with: one record, so that they cannot part."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import UInt8

from jcbir.errors import FormatError
from jcbir.models._preprocessing import Preprocessing, preprocess
from jcbir.models._resnet import Outputs, ResNet
from jcbir.typing import Array

_TYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}
_NOT_STORED = {"parent", "name", "convolution", "remat", "frozen", "dtype"}


class Backbone(NamedTuple):
    """A pretrained network.

    Fields:
        module: the description.
        variables: `{"params": ..., "batch_stats": ...}`.
        preprocessing: what turns a uint8 photograph into its input.
    """

    module: ResNet
    variables: Any
    preprocessing: Preprocessing


def run(backbone: Backbone, images: UInt8[Array, "b h w 3"]) -> Outputs:
    """Photographs to outputs, in evaluation mode, through the preprocessing that belongs to the weights.

    Args:
        backbone: network, weights, preprocessing.
        images: uint8 RGB; a float array is refused, since nobody could tell how it was scaled.

    Returns:
        Features, pooled features and the scores of the heads there are.

    Raises:
        ValueError: images are not uint8 RGB of a size the preprocessing takes.

    Example:
        >>> import numpy as np
        >>> from jcbir.models import small
        >>> module = small(stages=(1,), width=4, bits=16)
        >>> variables = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
        >>> run(Backbone(module, variables, Preprocessing(size=8)), np.zeros((2, 8, 8, 3), np.uint8)).hash_logits.shape
        (2, 16)
    """
    return backbone.module.apply(backbone.variables, preprocess(images, backbone.preprocessing))


def shapes(module: ResNet) -> dict[str, Any]:
    """Shapes and types of the variables of a module, without computing any.

    Args:
        module: the description.

    Returns:
        A tree of `jax.ShapeDtypeStruct` like the variables.

    Example:
        >>> from jcbir.models._resnet import resnet50
        >>> shapes(resnet50(classes=1000))["params"]["fc"]["kernel"].shape
        (2048, 1000)
    """
    return jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3))))


def describe(module: ResNet, preprocessing: Preprocessing) -> dict[str, Any]:
    """Network and preprocessing as a record that JSON holds, to travel beside the weights.

    Args:
        module: the description; how it is run (`dtype`, `remat`, `frozen`, `convolution`) is left out.
        preprocessing: what the weights were trained with.

    Returns:
        `{"network": fields, "preprocessing": fields}`.

    Example:
        >>> from jcbir.models import small
        >>> describe(small(bits=16), Preprocessing(size=32))["network"]["bits"]
        16
    """
    fields = {f.name: getattr(module, f.name) for f in dataclasses.fields(module) if f.name not in _NOT_STORED}
    return {"network": fields, "preprocessing": dataclasses.asdict(preprocessing)}


def parse(record: Mapping[str, Any], *, dtype: str = "float32") -> tuple[ResNet, Preprocessing]:
    """The inverse of `describe`.

    Args:
        record: as `describe` gives it, perhaps through JSON.
        dtype: compute type of the module, `"float32"`, `"bfloat16"` or `"float16"`.

    Returns:
        Module description and preprocessing.

    Raises:
        FormatError: a field is missing, unknown or of the wrong kind.

    Example:
        >>> from jcbir.models import small
        >>> parse(describe(small(bits=16), Preprocessing(size=32)))[0].bits
        16
    """
    try:
        network = {k: tuple(v) if isinstance(v, list) else v for k, v in record["network"].items()}
        pixels = {k: tuple(v) if isinstance(v, list) else v for k, v in record["preprocessing"].items()}
        return ResNet(dtype=_TYPES[dtype], **network), Preprocessing(**pixels)
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(
            f"record must hold `network` and `preprocessing` as `describe` writes them; {error}"
        ) from error


def attach(key: jax.Array, backbone: Backbone, module: ResNet) -> Backbone:
    """The same weights under a module with other heads: shared parameters kept, new heads initialized.

    Args:
        key: JAX PRNG key for the new heads.
        backbone: the pretrained network.
        module: the description to move to, for example with `classes=0, bits=64`.

    Returns:
        A backbone with `module` and the same preprocessing.

    Raises:
        ValueError: outside the heads the two networks differ in a name or a shape.

    Example:
        >>> from jcbir.models import small
        >>> old = small(stages=(1,), width=4, classes=10)
        >>> variables = old.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
        >>> backbone = Backbone(old, variables, Preprocessing(size=8))
        >>> new = attach(jax.random.key(1), backbone, old.clone(classes=0, bits=16))
        >>> sorted(new.variables["params"])
        ['bn1', 'conv1', 'hash', 'layer1_0']
    """
    expected = shapes(module)
    kept = backbone.variables["params"]
    same = {
        name: kept[name]
        for name, leaves in expected["params"].items()
        if name in kept and _signature(kept[name]) == _signature(leaves)
    }
    new = [name for name in expected["params"] if name not in same]
    for name in new:
        if name != "fc" and not name.startswith("hash"):
            raise ValueError(f"module must agree with the backbone outside its heads; {name} differs or is missing")
    if _signature(expected["batch_stats"]) != _signature(backbone.variables["batch_stats"]):
        raise ValueError("module must have the backbone's normalization layers; they differ in name or shape")

    def fresh(key: jax.Array) -> dict[str, Any]:
        params = module.init(key, jnp.zeros((1, 64, 64, 3)))["params"]
        return {name: params[name] for name in new}

    # Compiled, only the new heads are computed: op by op, the whole network would be.
    heads = jax.jit(fresh)(key) if new else {}
    return Backbone(module, {**backbone.variables, "params": {**same, **heads}}, backbone.preprocessing)


def _signature(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in leaves}


def trainable(params: Mapping[str, Any], *, frozen: int) -> dict[str, Any]:
    """Mask for fine-tuning: False for the leading parts that stay as they are.

    Use with `optax.masked` or `optax.multi_transform`; `ResNet(frozen=...)` with the same number also keeps the batch
    statistics of those parts and skips their backward pass.

    Args:
        params: parameters of a `ResNet`.
        frozen: parts to freeze: 1 the stem, 2 the stem and the first stage, and so on.

    Returns:
        A tree of booleans like `params`.

    Raises:
        ValueError: the network has fewer parts.

    Example:
        >>> params = {"conv1": {"kernel": 0}, "layer1_0": {"conv1": {"kernel": 0}}, "hash": {"bias": 0}}
        >>> trainable(params, frozen=1)
        {'conv1': {'kernel': False}, 'layer1_0': {'conv1': {'kernel': True}}, 'hash': {'bias': True}}
    """
    parts = {name: int(name[5:].split("_")[0]) + 1 for name in params if name.startswith("layer")}
    deepest = max(parts.values(), default=1)
    if not 0 <= frozen <= deepest:
        raise ValueError(f"frozen must be 0 to {deepest} for this network; got {frozen}")
    parts |= {"conv1": 1, "bn1": 1}
    kept = {name: parts.get(name, deepest + 1) > frozen for name in params}
    return {name: jax.tree.map(lambda _, name=name: kept[name], leaves) for name, leaves in params.items()}
