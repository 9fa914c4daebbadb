"""Networks as a file holds them: a description in JSON, and the variables that the package does not hold already."""

from collections.abc import Mapping
from typing import Any

from jcbir.errors import FormatError
from jcbir.models._backbone import Backbone, _signature, _tuples, resnet_backbone, resnet_module, shapes
from jcbir.models._heads import Head, attach_head
from jcbir.models._imagenet import imagenet_resnet50
from jcbir.models._imagenet_file import imagenet_record
from jcbir.models._preprocessing import Preprocessing, check_preprocessing


def stored_variables(backbone: Backbone) -> dict[str, Any]:
    """The variables that a file must hold beside the description: all but those inside the package.

    Args:
        backbone: a network with a description.

    Returns:
        A tree of arrays, perhaps empty; `restore` takes it.

    Raises:
        ValueError: a network of your own, which no file can describe.

    Example:
        >>> from jcbir.models import imagenet_resnet50
        >>> stored_variables(imagenet_resnet50(size=64))
        {}
    """
    if not backbone.description:
        raise ValueError("backbone: must have a description to be written to a file, got a network of your own")
    kind = backbone.description["architecture"]
    if kind == "imagenet_resnet50":
        return {}
    if kind == "linear_head":
        inner = Backbone(
            backbone.apply, backbone.variables["backbone"], backbone.preprocessing, backbone.description["backbone"]
        )
        kept = stored_variables(inner)
        return {"head": backbone.variables["head"], **({"backbone": kept} if kept else {})}
    return dict(backbone.variables)


def restore(description: Mapping[str, Any], variables: Any) -> Backbone:
    """Build a backbone from its description and variables, as a file holds them.

    Args:
        description: of a backbone, perhaps through JSON; without `architecture` it is a ResNet's.
        variables: arrays for it.

    Returns:
        The backbone.

    Raises:
        FormatError: no architecture of this library, fields missing, unknown or of the wrong kind, or variables of
            another network.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jcbir.models import small
        >>> module = small(stages=(1,), width=4, bits=16)
        >>> variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
        >>> description = resnet_backbone(module, variables, Preprocessing(size=8)).description
        >>> restore(description, variables).preprocessing.size
        8
    """
    if not isinstance(description, Mapping) or not isinstance(variables, Mapping):
        kinds = type(description).__name__, type(variables).__name__
        raise FormatError(f"description: must be a mapping, as the variables, got {' and '.join(kinds)}")
    name = description.get("architecture", "resnet")
    if not isinstance(name, str) or name not in _ARCHITECTURES:
        raise FormatError(f"description: architecture must be one of {', '.join(_ARCHITECTURES)}, got {name!r}")
    try:
        preprocessing = Preprocessing(**_tuples(description["preprocessing"]))
        check_preprocessing(preprocessing)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FormatError(f"description: must hold the `preprocessing` of a network, got {error}") from error
    return _ARCHITECTURES[name](description, variables, preprocessing)


def _restore_resnet(description: Mapping[str, Any], variables: Any, preprocessing: Preprocessing) -> Backbone:
    module = resnet_module(description)
    if _signature(variables) != _signature(shapes(module)):
        raise FormatError("variables: must be those of the network that the description names, got others")
    return resnet_backbone(module, variables, preprocessing)


def _restore_imagenet(description: Mapping[str, Any], variables: Any, preprocessing: Preprocessing) -> Backbone:
    held = imagenet_record()["sha256"]
    if variables or description.get("sha256") != held:
        raise FormatError(f"description: must name the ImageNet ResNet50 of this package ({held[:16]}), got another")
    found = imagenet_resnet50(size=preprocessing.size)
    if found.preprocessing != preprocessing:
        raise FormatError(f"description: its preprocessing must be {found.preprocessing}, got {preprocessing}")
    return found


def _restore_head(description: Mapping[str, Any], variables: Any, preprocessing: Preprocessing) -> Backbone:
    try:
        # A head on a head is of no use, and a file of thousands would exhaust the stack.
        if description["backbone"].get("architecture") == "linear_head":
            raise FormatError("description: `backbone` must give features, got another linear_head")
        inner = restore(description["backbone"], variables.get("backbone", {}))
        head = Head(variables["head"]["projection"], variables["head"]["bias"])
        if inner.preprocessing != preprocessing:
            raise FormatError("description: must hold the preprocessing of its backbone, got another")
        return attach_head(inner, head)
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"description: must hold a `backbone` and its head, got {error!r}") from error
    except ValueError as error:
        raise FormatError(str(error)) from None


_ARCHITECTURES = {
    "resnet": _restore_resnet,
    "imagenet_resnet50": _restore_imagenet,
    "linear_head": _restore_head,
}
