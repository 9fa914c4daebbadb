"""The small pretrained network inside the package, for experiments and tests at 32 x 32; commands take the ResNet50.

Four stages of one basic block, 32 to 256 channels, for 32 x 32 photographs; pretrained by `experiments.assets.pretrain`
on Tiny-ImageNet. The record beside the weights holds configuration, data hashes, held-out accuracy, date and source.
"""

import json
from importlib import resources
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from jcbir.errors import FormatError
from jcbir.models._backbone import Backbone, resnet_backbone
from jcbir.models._imagenet_file import asset_tensors
from jcbir.models._preprocessing import Preprocessing
from jcbir.models._resnet import ResNet, small


def bundled(*, bits: int | None = None, key: jax.Array | None = None) -> Backbone:
    """The pretrained network, ready to apply or to fine-tune.

    Args:
        bits: width of a new hash head; None leaves the head out.
        key: PRNG key of the head's random weights; needed with `bits`.

    Returns:
        The network; with `bits` it gives hash logits, without pooled features.

    Raises:
        ValueError: `bits` below 1, or `bits` without `key`.
        IntegrityError: the weights of the package are not those of their record.
        FormatError: the tensors are not those of the module.

    Example:
        >>> backbone = bundled(bits=16, key=jax.random.key(0))
        >>> backbone.variables["params"]["hash"]["kernel"].shape, backbone.preprocessing.size
        ((256, 16), 32)
    """
    if bits is not None and bits < 1:
        raise ValueError(f"bits: must be at least 1, got {bits}")
    if bits is not None and key is None:
        raise ValueError(
            f"key: must be given with bits, a new head of {bits} bits starts from random weights, got None"
        )
    about = record()
    module = _module(about, bits or 0)
    variables = _variables(about)
    if bits is not None:
        features = variables["params"][f"layer{len(module.stages)}_0"]["bn2"]["scale"].shape[0]
        kernel = 0.01 * jax.random.normal(key, (features, bits), jnp.float32)
        variables["params"]["hash"] = {"kernel": kernel, "bias": jnp.zeros(bits)}
    return resnet_backbone(module, variables, _preprocessing(about))


def untrained(key: jax.Array, *, bits: int | None = None) -> Backbone:
    """The same network from random initialization, to compare with.

    Args:
        key: PRNG key of all weights.
        bits: width of the hash head; None leaves the head out.

    Returns:
        As `bundled`.

    Raises:
        ValueError: `bits` below 1.

    Example:
        >>> untrained(jax.random.key(0), bits=16).variables["params"]["hash"]["kernel"].shape
        (256, 16)
    """
    if bits is not None and bits < 1:
        raise ValueError(f"bits: must be at least 1, got {bits}")
    about = record()
    module, preprocessing = _module(about, bits or 0), _preprocessing(about)
    # One compilation costs less than initializing leaf by leaf.
    variables = jax.jit(module.init)(key, jnp.zeros((1, preprocessing.size, preprocessing.size, 3)))
    return resnet_backbone(module, variables, preprocessing)


def record() -> dict[str, Any]:
    """The JSON record beside the weights.

    Returns:
        Script, configuration, data hashes, held-out accuracy, date, source, as plain Python values.

    Example:
        >>> record()["script"]
        'experiments/assets/pretrain.py'
    """
    return json.loads(_asset("small.json"))


def _module(about: dict[str, Any], bits: int) -> ResNet:
    fields = about["module"]
    return small(stages=tuple(fields["stages"]), width=fields["width"], stem_stride=fields["stem_stride"], bits=bits)


def _preprocessing(about: dict[str, Any]) -> Preprocessing:
    fields = about["preprocessing"]
    return Preprocessing(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})


def _variables(about: dict[str, Any]) -> dict[str, Any]:
    tensors = asset_tensors(_asset(about["file"]), about)
    leaves = {name: jnp.asarray(tensor.astype(np.float32)) for name, tensor in tensors.items()}
    variables = flax.traverse_util.unflatten_dict(leaves, sep="/")
    if set(variables) != {"params", "batch_stats"}:
        raise FormatError(f"{about['file']}: must hold params and batch_stats, got {sorted(variables)}")
    return variables


def _asset(name: str) -> bytes:
    return (resources.files("jcbir.models") / "assets" / name).read_bytes()
