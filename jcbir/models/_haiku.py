"""Flax variables to `hk.nets.ResNet` and back: an independent implementation of the same networks to compare with.

Both sides are dictionaries; Haiku itself is not needed. A module that shall agree with Haiku's must pad as it does:
`resnet50(padding="same", classes=1000)`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jcbir.errors import FormatError
from jcbir.models._backbone import shapes
from jcbir.models._resnet import ResNet

_LAYERS = {"conv": "conv", "bn": "batchnorm"}
_VECTORS = {"scale": "scale", "bias": "offset"}
_AVERAGES = {"mean": "mean_ema", "var": "var_ema"}


def to_haiku(
    variables: Mapping[str, Any], *, name: str = "res_net50", count: int = 1_000_000
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Flax variables to the parameters and state of `hk.nets.ResNet{18,34,50,101}`.

    Args:
        variables: `{"params": ..., "batch_stats": ...}` of a `ResNet` with a classification head and without biases.
        name: Haiku's name of the network.
        count: updates the averages are said to have seen; Haiku's zero-debias divides by `1 - decay**count`.

    Returns:
        (params, state), each {module: {variable: array}}.

    Raises:
        FormatError: a variable for which Haiku's network has no place.

    Example:
        >>> params, state = to_haiku({"params": {"conv1": {"kernel": np.zeros((7, 7, 3, 64))}}})
        >>> list(params)
        ['res_net50/~/initial_conv']
    """
    params: dict[str, Any] = {}
    state: dict[str, Any] = {}
    for path, leaf in flatten_dict(dict(variables)).items():
        array = np.asarray(leaf)
        layer = _haiku_layer(path, name)
        if path[0] == "batch_stats":
            average = array.reshape(1, 1, 1, -1)
            # The average of a debiased moving mean is the mean itself; what is hidden is the mean times the debias.
            state[f"{layer}/~/{_AVERAGES[path[-1]]}"] = {
                "average": average,
                "counter": np.int32(count),
                "hidden": average,
            }
        elif _is_norm(path):
            params.setdefault(layer, {})[_VECTORS[path[-1]]] = array.reshape(1, 1, 1, -1)
        elif path[-1] == "kernel" or path[-2] == "fc":
            params.setdefault(layer, {})["w" if path[-1] == "kernel" else "b"] = array
        else:
            raise FormatError(f"variables: must have a place in Haiku's network; {'/'.join(path)} has none")
    return params, state


def from_haiku(params: Mapping[str, Any], state: Mapping[str, Any], module: ResNet) -> dict[str, Any]:
    """Parameters and state of `hk.nets.ResNet{18,34,50,101}` to Flax variables: the inverse of `to_haiku`.

    Args:
        params: {module: {variable: array}}.
        state: the moving averages, likewise; their debiased `average` is taken.
        module: the network to fill, `padding="same"`.

    Returns:
        float32 `{"params": ..., "batch_stats": ...}`.

    Raises:
        FormatError: arrays missing, left over or of the wrong shape, each by name.

    Example:
        >>> from jcbir.models._resnet import resnet50
        >>> from_haiku({}, {}, resnet50(classes=10))
        Traceback (most recent call last):
        jcbir.errors.FormatError: Haiku variables do not fit the network: 267 missing (...
    """
    network = next(iter(params), "res_net50").split("/")[0]
    left = {(layer, leaf): a for layer, leaves in params.items() for leaf, a in leaves.items()}
    left |= {(layer, "average"): leaves["average"] for layer, leaves in state.items()}
    filled, missing, misshapen = {}, [], []
    expected: dict[tuple[str, ...], Any] = flatten_dict(shapes(module))
    for path, wanted in expected.items():
        source = _haiku_source(path, network)
        if source not in left:
            missing.append("/".join(source))
            continue
        array = np.asarray(left.pop(source), np.float32)
        array = array.reshape(-1) if len(wanted.shape) == 1 else array
        if array.shape != wanted.shape:
            misshapen.append(f"{'/'.join(source)}: {array.shape} for {wanted.shape}")
        filled[path] = array
    leftover = ["/".join(source) for source in left]
    problems = {"missing": missing, "of the wrong shape": misshapen, "left over": leftover}
    if any(problems.values()):
        told = [f"{len(names)} {kind} ({'; '.join(names[:5])})" for kind, names in problems.items() if names]
        raise FormatError("Haiku variables do not fit the network: " + ", ".join(told))
    return unflatten_dict(filled)


def _is_norm(path: tuple[str, ...]) -> bool:
    return path[-2].startswith("bn") or path[-2] == "downsample_1"


def _haiku_source(path: tuple[str, ...], network: str) -> tuple[str, str]:
    layer = _haiku_layer(path, network)
    if path[0] == "batch_stats":
        return f"{layer}/~/{_AVERAGES[path[-1]]}", "average"
    if _is_norm(path):
        return layer, _VECTORS[path[-1]]
    return layer, "w" if path[-1] == "kernel" else "b"


def _haiku_layer(path: tuple[str, ...], network: str) -> str:
    layer = path[-2]
    if layer == "fc":
        return f"{network}/~/logits"
    if len(path) == 3 and layer in ("bn1", "conv1"):
        return f"{network}/~/initial_{'batchnorm' if layer == 'bn1' else 'conv'}"
    if len(path) != 4 or not path[1].startswith("layer"):
        raise FormatError(f"variables: must have a place in Haiku's network; {'/'.join(path)} has none")
    stage, block = path[1][5:].split("_")
    if layer.startswith("downsample"):
        inner = "shortcut_conv" if layer == "downsample_0" else "shortcut_batchnorm"
    else:
        inner = f"{_LAYERS[layer[:-1]]}_{int(layer[-1]) - 1}"
    return f"{network}/~/block_group_{int(stage) - 1}/~/block_{block}/~/{inner}"
