"""Residual networks of He et al. 2015, one description for every depth, stride convention and input size.

`ResNet` is a linen module: `init(key, images)` gives variables, `apply(variables, images)` gives `Outputs`, both pure.
Names in the tree are torchvision's with dots as underscores: `layer1.0.conv1.weight` is `params/layer1_0/conv1/kernel`.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from jcbir.models._convolution import convolve
from jcbir.models._pooling import max_pool
from jcbir.typing import Array


class Outputs(NamedTuple):
    """What one apply gives; a head that the module does not have is None.

    Attributes:
        features: last map, after its ReLU and before pooling, [b h w c].
        pooled: its mean over the pixels, float32 [b c].
        logits: class scores, float32 [b classes].
        hash_logits: float32 [b bits]; a bit is `hash_logits >= 0`.
    """

    features: Float[Array, "b h w c"]
    pooled: Float[Array, "b c"]
    logits: Float[Array, "b classes"] | None
    hash_logits: Float[Array, "b bits"] | None


class _Settings(NamedTuple):
    stride_at: str
    padding: str
    bias: bool
    norm_epsilon: float
    norm_momentum: float
    dtype: Any
    convolution: Callable[..., Any] | None


def _conv(settings: _Settings, channels: int, size: int, *, stride: int = 1, name: str) -> nn.Conv:
    border = (size - 1) // 2
    return nn.Conv(
        channels,
        (size, size),
        (stride, stride),
        padding="SAME" if settings.padding == "same" else ((border, border), (border, border)),
        use_bias=settings.bias,
        dtype=settings.dtype,
        conv_general_dilated=settings.convolution,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        name=name,
    )


def _wide(dtype: Any) -> Any:
    # Statistics in at least float32 whatever the compute type: a variance in bfloat16 has 8 bits.
    return dtype if jnp.finfo(dtype).bits > 32 else jnp.float32


# Autodiff would keep the centered maps for the backward pass; made again from the maps and the sums they cost less.
_BatchNorm = nn.remat(nn.BatchNorm, policy=lambda primitive, *_, **__: primitive.name == "reduce_sum")


def _norm(settings: _Settings, maps: jax.Array, *, train: bool, name: str) -> jax.Array:
    wide = _wide(settings.dtype)
    kind = _BatchNorm if jax.default_backend() == "cpu" else nn.BatchNorm
    layer = kind(
        use_running_average=not train,
        momentum=settings.norm_momentum,
        epsilon=settings.norm_epsilon,
        dtype=wide,
        name=name,
    )
    return layer(maps.astype(wide)).astype(settings.dtype)


class _Block(nn.Module):
    """One residual unit, basic (3x3, 3x3) or bottleneck (1x1, 3x3, 1x1 at four times the width)."""

    width: int
    stride: int
    bottleneck: bool
    project: bool
    train: bool
    settings: _Settings

    @nn.compact
    def __call__(self, maps: jax.Array) -> jax.Array:
        sizes = (1, 3, 1) if self.bottleneck else (3, 3)
        strided = 1 if self.bottleneck and self.settings.stride_at == "3x3" else 0
        last = len(sizes) - 1
        shortcut, out = maps, maps
        for i, size in enumerate(sizes):
            channels = self.width * 4 if self.bottleneck and i == last else self.width
            stride = self.stride if i == strided else 1
            out = _conv(self.settings, channels, size, stride=stride, name=f"conv{i + 1}")(out)
            out = _norm(self.settings, out, train=self.train, name=f"bn{i + 1}")
            out = nn.relu(out) if i < last else out
        if self.project:
            shortcut = _conv(self.settings, out.shape[-1], 1, stride=self.stride, name="downsample_0")(maps)
            shortcut = _norm(self.settings, shortcut, train=self.train, name="downsample_1")
        return nn.relu(out + shortcut)


class ResNet(nn.Module):
    r"""A residual network: stem, stages of blocks at doubling width and halving size, mean over the pixels, heads.

    $y = \mathrm{ReLU}(F(x) + s(x))$ per block, $s$ the identity, or a strided 1x1 convolution where the shape changes.

    Attributes:
        stages: blocks in each stage.
        block: `"basic"` (two 3x3) or `"bottleneck"` (1x1, 3x3, 1x1).
        width: channels of the stem and of the first stage's inner convolutions.
        stem: `"imagenet"` (7x7 stride 2, max-pool) or `"cifar"` (3x3, no pooling).
        stem_stride: of the `"cifar"` stem; 1 keeps the full size, 2 costs a quarter.
        stride_at: where a bottleneck halves: `"3x3"` (v1.5: torchvision) or `"1x1"` (v1: the paper, Keras).
        padding: `"symmetric"` (torchvision, Keras) or `"same"` (Haiku, TensorFlow).
        bias: whether convolutions have biases (Keras).
        norm_epsilon: 1e-5 torchvision and Haiku, 1e-3 Keras.
        norm_momentum: share of the running statistics kept each step (torch's momentum is one minus this).
        classes: width of the classification head `fc`; 0 leaves it out.
        bits: width of the hash head `hash`; 0 leaves it out.
        hash_hidden: widths of ReLU layers between pooled features and hash head.
        frozen: how many leading parts (stem, then stages) run in evaluation mode, without gradient.
        dtype: compute type; parameters, statistics and heads stay float32.
        remat: recompute each block in the backward pass instead of storing its maps.
        convolution: `conv_general_dilated` hook; None for XLA's own.

    References:
        He, Zhang, Ren and Sun, 2015, Deep residual learning for image recognition, Table 1 and eq. 1 and 2.
    """

    stages: tuple[int, ...]
    block: Literal["basic", "bottleneck"] = "bottleneck"
    width: int = 64
    stem: Literal["imagenet", "cifar"] = "imagenet"
    stem_stride: int = 1
    stride_at: Literal["1x1", "3x3"] = "3x3"
    padding: Literal["symmetric", "same"] = "symmetric"
    bias: bool = False
    norm_epsilon: float = 1e-5
    norm_momentum: float = 0.9
    classes: int = 0
    bits: int = 0
    hash_hidden: tuple[int, ...] = ()
    frozen: int = 0
    dtype: Any = jnp.float32
    remat: bool = False
    convolution: Callable[..., Any] | None = convolve

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Outputs:
        """Features, pooled features and the scores of the heads there are; `train` updates the batch statistics."""
        settings = _Settings(
            self.stride_at,
            self.padding,
            self.bias,
            self.norm_epsilon,
            self.norm_momentum,
            self.dtype,
            self.convolution,
        )
        block = nn.remat(_Block) if self.remat else _Block
        maps = self._stem(jnp.asarray(images).astype(self.dtype), settings, train=train and self.frozen < 1)
        if self.frozen == 1:
            maps = lax.stop_gradient(maps)
        for stage, blocks in enumerate(self.stages):
            for index in range(blocks):
                width = self.width * 2**stage
                stride = 2 if stage and not index else 1
                channels = width * 4 if self.block == "bottleneck" else width
                maps = block(
                    width=width,
                    stride=stride,
                    bottleneck=self.block == "bottleneck",
                    project=stride != 1 or maps.shape[-1] != channels,
                    train=train and self.frozen < stage + 2,
                    settings=settings,
                    name=f"layer{stage + 1}_{index}",
                )(maps)
            if self.frozen == stage + 2:
                maps = lax.stop_gradient(maps)
        return self._heads(maps)

    def _stem(self, images: jax.Array, settings: _Settings, *, train: bool) -> jax.Array:
        large = self.stem == "imagenet"
        maps = _conv(settings, self.width, 7 if large else 3, stride=2 if large else self.stem_stride, name="conv1")(
            images
        )
        maps = nn.relu(_norm(settings, maps, train=train, name="bn1"))
        if large:
            border = "SAME" if self.padding == "same" else ((1, 1), (1, 1))
            maps = max_pool(maps, padding=border)
        return maps

    def _heads(self, maps: jax.Array) -> Outputs:
        pooled = jnp.mean(maps, axis=(1, 2), dtype=_wide(self.dtype))
        small = nn.initializers.normal(0.01)
        logits = nn.Dense(self.classes, kernel_init=small, name="fc")(pooled) if self.classes else None
        hidden = pooled
        for i, width in enumerate(self.hash_hidden if self.bits else ()):
            hidden = nn.relu(nn.Dense(width, name=f"hash_hidden{i}")(hidden))
        hash_logits = nn.Dense(self.bits, kernel_init=small, name="hash")(hidden) if self.bits else None
        return Outputs(maps, pooled, logits, hash_logits)


def resnet18(**options: Any) -> ResNet:
    """ResNet-18: 8 basic blocks, 512 features.

    Args:
        **options: fields of `ResNet`.

    Returns:
        The module description.

    Example:
        >>> resnet18(bits=64).stages
        (2, 2, 2, 2)

    References:
        He, Zhang, Ren and Sun, 2015, Table 1.
    """
    return ResNet(**{"stages": (2, 2, 2, 2), "block": "basic", **options})


def resnet34(**options: Any) -> ResNet:
    """ResNet-34: 16 basic blocks, 512 features.

    Args:
        **options: fields of `ResNet`.

    Returns:
        The module description.

    Example:
        >>> resnet34(bits=64).block
        'basic'

    References:
        He, Zhang, Ren and Sun, 2015, Table 1.
    """
    return ResNet(**{"stages": (3, 4, 6, 3), "block": "basic", **options})


def resnet50(**options: Any) -> ResNet:
    """ResNet-50: 16 bottleneck blocks, 2048 features.

    Args:
        **options: fields of `ResNet`.

    Returns:
        The module description.

    Example:
        >>> resnet50(classes=1000).block
        'bottleneck'

    References:
        He, Zhang, Ren and Sun, 2015, Table 1.
    """
    return ResNet(**{"stages": (3, 4, 6, 3), **options})


def resnet101(**options: Any) -> ResNet:
    """ResNet-101: 33 bottleneck blocks, 2048 features.

    Args:
        **options: fields of `ResNet`.

    Returns:
        The module description.

    Example:
        >>> resnet101().stages
        (3, 4, 23, 3)

    References:
        He, Zhang, Ren and Sun, 2015, Table 1.
    """
    return ResNet(**{"stages": (3, 4, 23, 3), **options})


def small(**options: Any) -> ResNet:
    """CIFAR-style network: 3x3 stem at full size, then stages of basic blocks at 1, 1/2, 1/4 (and 1/8) of it.

    Args:
        **options: fields of `ResNet`; by default 2, 2, 2 blocks of 32, 64, 128 channels (700,000 parameters).

    Returns:
        The module description.

    Example:
        >>> import jax
        >>> network = small(stages=(1, 1, 1), width=8, bits=16)
        >>> variables = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        >>> jax.jit(network.apply)(variables, jnp.zeros((2, 32, 32, 3))).hash_logits.shape
        (2, 16)

    References:
        He, Zhang, Ren and Sun, 2015, section 4.2.
    """
    return ResNet(**{"stages": (2, 2, 2), "block": "basic", "width": 32, "stem": "cifar", **options})
