"""Pure maps between other libraries' name-to-array dictionaries and Flax variables.

Every map walks the variables that the module description asks for and fetches each from one source tensor, so that
nothing is guessed from what a file happens to hold; a tensor left over, missing or of another shape is named.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jcbir.errors import FormatError
from jcbir.models._backbone import shapes
from jcbir.models._preprocessing import Preprocessing
from jcbir.models._resnet import ResNet

IMAGENET_TORCH = Preprocessing(size=224, resize=256)
"""torchvision's and timm's ImageNet evaluation: RGB, 0 to 1, mean and deviation, 256 to 224."""

IMAGENET_KERAS = Preprocessing(
    size=224, resize=256, channels="bgr", scale=1.0, mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0)
)
"""Keras' "caffe" mode: BGR, 0 to 255, mean subtracted, unscaled."""

Path = tuple[str, ...]

_TORCH_LEAVES = {
    ("batch_stats", "mean"): "running_mean",
    ("batch_stats", "var"): "running_var",
    ("params", "kernel"): "weight",
    ("params", "scale"): "weight",
    ("params", "bias"): "bias",
}
_KERAS_LEAVES = {
    ("batch_stats", "mean"): "moving_mean",
    ("batch_stats", "var"): "moving_variance",
    ("params", "kernel"): "kernel",
    ("params", "scale"): "gamma",
    ("params", "bias"): "bias",
}


class _Pull(NamedTuple):
    """Where one variable comes from: the acceptable source names, and how its array is turned around."""

    names: tuple[str, ...]
    turn: Callable[[np.ndarray], np.ndarray]


def torch_name(path: Path) -> str:
    """The torchvision and timm name of one variable.

    Args:
        path: (collection, part, layer, leaf) or (collection, layer, leaf).

    Returns:
        The name in a torch state dictionary.

    Example:
        >>> torch_name(("params", "layer1_0", "downsample_1", "scale"))
        'layer1.0.downsample.1.weight'
    """
    leaf = _TORCH_LEAVES[path[0], path[-1]]
    return ".".join([*(part.replace("_", ".") if part[-1].isdigit() else part for part in path[1:-1]), leaf])


def from_torch(tensors: Mapping[str, np.ndarray], module: ResNet, *, ignore: Sequence[str] = ()) -> dict[str, Any]:
    """torchvision or timm state dictionary to Flax variables.

    Args:
        tensors: name to array, OIHW kernels; `num_batches_tracked` counters are of no use here and skipped.
        module: the network to fill; its heads must be in the file, or be attached later with `backbone.attach`.
        ignore: prefixes of names to leave out, for example `("fc.",)` for a module without classes.

    Returns:
        float32 `{"params": ..., "batch_stats": ...}`.

    Raises:
        FormatError: tensors missing, left over or of the wrong shape, each by name.

    Example:
        >>> from jcbir.models import small
        >>> module = small(stages=(1,), width=4)
        >>> tensors = to_torch({k: unflatten_dict({p: np.zeros(s.shape, np.float32)
        ...     for p, s in flatten_dict(v).items()}) for k, v in shapes(module).items()})
        >>> from_torch(tensors, module)["params"]["conv1"]["kernel"].shape
        (3, 3, 3, 4)
    """
    counted = {name: a for name, a in tensors.items() if not name.endswith("num_batches_tracked")}
    return _fill(counted, module, lambda path: _Pull((torch_name(path),), _turn_torch), ignore=ignore)


def to_torch(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Flax variables to torchvision names: the inverse of `from_torch`.

    Args:
        variables: `{"params": ..., "batch_stats": ...}`.

    Returns:
        Name to array, OIHW kernels.

    Example:
        >>> to_torch({"params": {"conv1": {"kernel": np.zeros((3, 3, 3, 8))}}})["conv1.weight"].shape
        (8, 3, 3, 3)
    """
    flat = flatten_dict(dict(variables))
    return {torch_name(path): _unturn_torch(np.asarray(a)) for path, a in flat.items()}


def from_keras(tensors: Mapping[str, np.ndarray], module: ResNet, *, ignore: Sequence[str] = ()) -> dict[str, Any]:
    """Keras ResNet50 (and 101) weights to Flax variables.

    Both generations of names are read: `res2a_branch2a`, `bn2a_branch2a` (2015 to 2018) and `conv2_block1_1_conv`,
    `conv2_block1_1_bn` (keras.applications since 2019). The module wants `stride_at="1x1", bias=True`, and
    `norm_epsilon` 1e-3 for the former, 1.001e-5 for the latter.

    Args:
        tensors: `layer/variable` to array, HWIO kernels.
        module: the network to fill.
        ignore: prefixes of names to leave out, for example `("fc1000/",)`.

    Returns:
        float32 `{"params": ..., "batch_stats": ...}`.

    Raises:
        FormatError: tensors missing, left over or of the wrong shape, each by name.

    Example:
        >>> from jcbir.models._resnet import resnet50
        >>> from_keras({}, resnet50())
        Traceback (most recent call last):
        jcbir.errors.FormatError: tensors do not fit the network: 265 missing (...
    """
    return _fill(tensors, module, lambda path: _Pull(tuple(_keras_names(path)), _keep), ignore=ignore)


def _keras_names(path: Path) -> Iterator[str]:
    layer, leaf = path[-2], _KERAS_LEAVES[path[0], path[-1]]
    norm = layer.startswith("bn") or layer == "downsample_1"
    if norm and leaf == "bias":
        leaf = "beta"
    if layer == "fc":
        yield from (f"{name}/{leaf}" for name in ("fc1000", "predictions", "probs"))
    elif len(path) == 3:
        yield from (f"{name}/{leaf}" for name in (("bn_conv1", "conv1_bn") if norm else ("conv1", "conv1_conv")))
    else:
        stage, block = (int(i) for i in path[1][5:].split("_"))
        which = 0 if layer.startswith("downsample") else int(layer[-1])
        branch = "1" if which == 0 else "2" + "abc"[which - 1]
        yield f"{'bn' if norm else 'res'}{stage + 1}{_letter(block)}_branch{branch}/{leaf}"
        yield f"conv{stage + 1}_block{block + 1}_{which}_{'bn' if norm else 'conv'}/{leaf}"


def _letter(block: int) -> str:
    # Deeper networks than 50 number their blocks a, b1, b2, ... in the older names.
    return "abcdef"[block] if block < 6 else f"b{block}"


def _fill(
    tensors: Mapping[str, np.ndarray], module: ResNet, pull: Callable[[Path], _Pull], *, ignore: Sequence[str]
) -> dict[str, Any]:
    left = {name: np.asarray(a) for name, a in tensors.items() if not name.startswith(tuple(ignore))}
    filled, missing, misshapen = {}, [], []
    expected: dict[Path, Any] = flatten_dict(shapes(module))
    for path, wanted in expected.items():
        names, turn = pull(path)
        found = [name for name in names if name in left]
        if not found:
            missing.append(f"{'/'.join(path[1:])}: {' or '.join(names)}")
            continue
        array = turn(left.pop(found[0]))
        if array.shape != wanted.shape:
            misshapen.append(f"{found[0]}: {array.shape} for {wanted.shape}")
        filled[path] = array.astype(np.float32)
    _refuse(missing=missing, misshapen=misshapen, leftover=sorted(left))
    return unflatten_dict(filled)


def _refuse(**problems: list[str]) -> None:
    wording = {"missing": "missing", "misshapen": "of the wrong shape", "leftover": "left over"}
    texts = [
        f"{len(names)} {wording[kind]} ({'; '.join(names[:8])}{'; ...' if len(names) > 8 else ''})"
        for kind, names in problems.items()
        if names
    ]
    if texts:
        raise FormatError("tensors do not fit the network: " + ", ".join(texts))


def _keep(array: np.ndarray) -> np.ndarray:
    return array


def _turn_torch(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _unturn_torch(array: np.ndarray) -> np.ndarray:
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
