"""A network with its weights and the preprocessing they were trained with: one record, so that they cannot part."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from jcbir.errors import FormatError
from jcbir.models._preprocessing import Preprocessing, preprocess
from jcbir.models._resnet import Outputs, ResNet
from jcbir.typing import Array, check_whole

_TYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}
MOST_BLOCKS, MOST_STAGES, MOST_CHANNELS = 256, 8, 1 << 20
"""Limits on a network that a file describes."""
_NOT_STORED = {"parent", "name", "convolution", "remat", "frozen", "dtype"}


class Backbone(NamedTuple):
    """A network ready to be applied: any (init, apply) pair makes one.

    Attributes:
        apply: (variables, inputs float[b s s 3]) -> float[b d], in evaluation mode: features, or the logits of a head.
        variables: what `apply` takes, usually `{"params": ..., "batch_stats": ...}`.
        preprocessing: what turns a uint8 photograph into its input.
        description: what JSON can say of it, so that a file can hold it; {} for a network of your own.
    """

    apply: Callable[[Any, Float[Array, "b s s 3"]], Float[Array, "b d"]]
    variables: Any
    preprocessing: Preprocessing
    description: Mapping[str, Any] = {}


def run(backbone: Backbone, images: UInt8[Array, "b h w 3"]) -> Float[Array, "b d"]:
    """Photographs to features or logits, in evaluation mode, through the preprocessing that belongs to the weights.

    Args:
        backbone: network, weights, preprocessing.
        images: uint8 RGB; a float array is refused, since nobody could tell how it was scaled.

    Returns:
        What the network gives: one row a photograph.

    Raises:
        ValueError: images are not uint8 RGB of a size the preprocessing takes.

    Example:
        >>> import numpy as np
        >>> from jcbir.models import resnet_backbone, small
        >>> module = small(stages=(1,), width=4, bits=16)
        >>> variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
        >>> run(resnet_backbone(module, variables, Preprocessing(size=8)), np.zeros((2, 8, 8, 3), np.uint8)).shape
        (2, 16)
    """
    return backbone.apply(backbone.variables, preprocess(images, backbone.preprocessing))


def output_width(backbone: Backbone) -> int:
    """Numbers that the network gives for a photograph, without computing any.

    Args:
        backbone: network, weights, preprocessing.

    Returns:
        The length d of a row of `run`.

    Raises:
        ValueError: `apply` does not give rows of numbers.

    Example:
        >>> output_width(Backbone(lambda variables, inputs: inputs.mean(axis=(1, 2)), {}, Preprocessing(size=8)))
        3
    """
    size = backbone.preprocessing.size
    inputs = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    found = jax.eval_shape(backbone.apply, backbone.variables, inputs)
    if getattr(found, "ndim", None) != 2 or len(found) != 1:
        raise ValueError(f"backbone: must give by its apply an array of one row a photograph, got {found}")
    return found.shape[1]


def shapes(module: ResNet) -> dict[str, Any]:
    """Shapes and types of the variables of a module, without computing any.

    Args:
        module: the description.

    Returns:
        A tree of `jax.ShapeDtypeStruct` like the variables.

    Example:
        >>> from jcbir.models import resnet50
        >>> shapes(resnet50(classes=1000))["params"]["fc"]["kernel"].shape
        (2048, 1000)
    """
    return jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3))))


def resnet_backbone(module: ResNet, variables: Any, preprocessing: Preprocessing) -> Backbone:
    """A residual network as a backbone: it gives its hash logits, or its pooled features where it has no hash head.

    Args:
        module: the description.
        variables: its `{"params": ..., "batch_stats": ...}`.
        preprocessing: what they were trained with.

    Returns:
        The backbone; its description can be written to a file. How the module is run (`dtype`, `remat`, `frozen`,
        `convolution`) is not part of it.

    Example:
        >>> from jcbir.models import small
        >>> backbone = resnet_backbone(small(bits=16), {}, Preprocessing(size=32))
        >>> backbone.description["architecture"], backbone.description["network"]["bits"]
        ('resnet', 16)
    """
    fields = {f.name: getattr(module, f.name) for f in dataclasses.fields(module) if f.name not in _NOT_STORED}
    description = {
        "architecture": "resnet",
        "output": "hash_logits" if module.bits else "features",
        "network": fields,
        "preprocessing": dataclasses.asdict(preprocessing),
    }
    return Backbone(functools.partial(_resnet_rows, module), variables, preprocessing, description)


def resnet_module(description: Mapping[str, Any], *, dtype: str = "float32") -> ResNet:
    """The module that a description speaks of, to train it or to give it other heads.

    Args:
        description: of a backbone that `resnet_backbone` made.
        dtype: compute type, `"float32"`, `"bfloat16"` or `"float16"`.

    Returns:
        The module description.

    Raises:
        FormatError: a field is missing, unknown or of the wrong kind.

    Example:
        >>> from jcbir.models import small
        >>> resnet_module(resnet_backbone(small(bits=16), {}, Preprocessing(size=32)).description).bits
        16
    """
    if dtype not in _TYPES:
        raise ValueError(f"dtype: must be one of {', '.join(_TYPES)}, got {dtype!r}")
    try:
        module = ResNet(dtype=_TYPES[dtype], **_tuples(description["network"]))
        _check_module(module)
        return module
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FormatError(f"description: must hold the `network` of a ResNet, got {error}") from error


def attach(key: jax.Array, variables: Mapping[str, Any], module: ResNet) -> dict[str, Any]:
    """The same weights under a module with other heads: shared parameters kept, new heads initialized.

    Args:
        key: JAX PRNG key for the new heads.
        variables: of the pretrained network.
        module: the description to move to, for example with `classes=0, bits=64`.

    Returns:
        Variables of `module`.

    Raises:
        ValueError: outside the heads the two networks differ in a name or a shape.

    Example:
        >>> from jcbir.models import small
        >>> old = small(stages=(1,), width=4, classes=10)
        >>> variables = jax.jit(old.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
        >>> sorted(attach(jax.random.key(1), variables, old.clone(classes=0, bits=16))["params"])
        ['bn1', 'conv1', 'hash', 'layer1_0']
    """
    expected, kept = shapes(module), variables["params"]
    same = {
        name: kept[name]
        for name, leaves in expected["params"].items()
        if name in kept and _signature(kept[name]) == _signature(leaves)
    }
    new = [name for name in expected["params"] if name not in same]
    for name in new:
        if name != "fc" and not name.startswith("hash"):
            raise ValueError(f"module: must agree with the variables outside its heads, got another {name}")
    if _signature(expected["batch_stats"]) != _signature(variables["batch_stats"]):
        raise ValueError("module: must have the normalization layers of the variables, got others")

    def fresh(key: jax.Array) -> dict[str, Any]:
        params = module.init(key, jnp.zeros((1, 64, 64, 3)))["params"]
        return {name: params[name] for name in new}

    # Compiled, only the new heads are computed: op by op, the whole network would be.
    heads = jax.jit(fresh)(key) if new else {}
    return {**variables, "params": {**same, **heads}}


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
        raise ValueError(f"frozen: must be 0 to {deepest} for this network, got {frozen}")
    parts |= {"conv1": 1, "bn1": 1}
    kept = {name: parts.get(name, deepest + 1) > frozen for name in params}
    return {name: jax.tree.map(lambda _, name=name: kept[name], leaves) for name, leaves in params.items()}


def _check_module(module: ResNet) -> None:
    """Refuse fields that no network has: shapes are found by tracing, and 10^9 blocks would keep that busy for ever."""
    check_whole("number of stages", len(module.stages), low=1, high=MOST_STAGES)
    for blocks in module.stages:
        check_whole("stages", blocks, low=1, high=MOST_BLOCKS)
    for name, widths in (("width", (module.width,)), ("hash_hidden", module.hash_hidden)):
        for width in widths:
            check_whole(name, width, low=1, high=MOST_CHANNELS)
    check_whole("classes", module.classes, low=0, high=MOST_CHANNELS)
    check_whole("bits", module.bits, low=0, high=MOST_CHANNELS)
    check_whole("stem_stride", module.stem_stride, low=1, high=8)
    for name in ("block", "stem", "stride_at", "padding"):
        allowed, value = get_args(ResNet.__annotations__[name]), getattr(module, name)
        if value not in allowed:
            raise ValueError(f"{name}: must be one of {', '.join(allowed)}, got {value!r}")
    for name, value in (("norm_epsilon", module.norm_epsilon), ("norm_momentum", module.norm_momentum)):
        if not 0 < value <= 1:
            raise ValueError(f"{name}: must be above 0 and at most 1, got {value!r}")


def _resnet_rows(module: ResNet, variables: Any, inputs: Any) -> jax.Array:
    outputs = cast(Outputs, module.apply(variables, inputs))
    return outputs.hash_logits if module.bits else outputs.pooled


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _signature(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): tuple(np.shape(leaf)) for path, leaf in leaves}
