"""Augmentation of image batches in JAX: crops and mirror images, each a pure function of (key, images).

Values and dtype are kept, so uint8 photographs can be augmented before they are converted. What is drawn names its
type: a key gives the same crops whether 64-bit types are allowed or not.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Shaped

from jcbir.typing import Array, check_real, check_whole


def random_flip(key: jax.Array, images: Shaped[Array, "b h w c"]) -> Shaped[jax.Array, "b h w c"]:
    """Mirror each image left to right with probability one half.

    Args:
        key: PRNG key.
        images: a batch of any dtype.

    Returns:
        The batch, same shape and dtype.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> random_flip(jax.random.key(0), jnp.arange(6).reshape(3, 1, 2, 1))[..., 0].tolist()
        [[[0, 1]], [[2, 3]], [[5, 4]]]
    """
    images = jnp.asarray(images)
    chosen = jax.random.bernoulli(key, jnp.float32(0.5), (len(images), 1, 1, 1))
    return jnp.where(chosen, images[:, :, ::-1], images)


def random_crop(key: jax.Array, images: Shaped[Array, "b h w c"], *, padding: int = 4) -> Shaped[jax.Array, "b h w c"]:
    """Shift each image by up to `padding` pixels in both directions; what enters is a reflection of the border.

    Same as padding by reflection and cropping a window of the old size at a uniform offset.

    Args:
        key: PRNG key.
        images: a batch of uint8 or floating images.
        padding: the largest shift in pixels, below the height and the width.

    Returns:
        The batch, same shape and dtype.

    Raises:
        ValueError: padding is negative or not below the image size.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> image = jnp.arange(9, dtype=jnp.uint8).reshape(1, 3, 3, 1)
        >>> random_crop(jax.random.key(1), image, padding=1)[..., 0].tolist()
        [[[1, 2, 1], [4, 5, 4], [7, 8, 7]]]
    """
    images = jnp.asarray(images)
    count, height, width, channels = images.shape
    padding = check_whole("padding", padding, low=0, high=min(height, width) - 1)
    margin = (padding, padding)
    padded = jnp.pad(images, ((0, 0), margin, margin, (0, 0)), mode="reflect")
    corners = jax.random.randint(key, (count, 2), 0, 2 * padding + 1, jnp.int32)

    def window(image: jax.Array, corner: jax.Array) -> jax.Array:
        # One slice per image: selection matrices (two products per image) are ten times slower on XLA:CPU.
        return jax.lax.dynamic_slice(image, (*corner, jnp.zeros_like(corner[0])), (height, width, channels))

    return jax.vmap(window)(padded, corners)


def crop_and_flip(
    key: jax.Array, images: Shaped[Array, "b h w c"], *, padding: int = 4
) -> Shaped[jax.Array, "b h w c"]:
    """The usual augmentation of small photographs: `random_crop`, then `random_flip`.

    Args:
        key: PRNG key.
        images: a batch of uint8 or floating images.
        padding: the largest shift in pixels.

    Returns:
        The batch, same shape and dtype.

    Raises:
        ValueError: as `random_crop`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> jax.jit(crop_and_flip)(jax.random.key(0), jnp.zeros((2, 8, 8, 3), jnp.uint8)).shape
        (2, 8, 8, 3)
    """
    first, second = jax.random.split(key)
    return random_flip(second, random_crop(first, images, padding=padding))


def random_resized_crop(
    key: jax.Array, images: Shaped[Array, "b h w c"], *, least: float = 0.35, size: int | None = None
) -> Shaped[jax.Array, "b s t c"]:
    """Cut a random rectangle out of each image and scale it to the network's size, bilinear and antialiased.

    The area is uniform from `least` to 1 of the image's, the ratio of the sides log-uniform from 3/4 to 4/3, no side
    longer than the image's; the place is uniform.

    Args:
        key: PRNG key.
        images: a batch of uint8 or floating images.
        least: smallest share of the area, above 0 and at most 1.
        size: pixels a side of what the network sees; None keeps height and width. Images that are larger than that
            lose less to a small rectangle.

    Returns:
        The batch at the size asked for, same dtype; uint8 is rounded.

    Raises:
        ValueError: `least` is out of range, or `size` is no whole number of at least 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> crop = jax.jit(random_resized_crop, static_argnames="size")
        >>> crop(jax.random.key(0), jnp.full((2, 8, 8, 3), 7, jnp.uint8))[0, 0, 0].tolist()
        [7, 7, 7]
        >>> crop(jax.random.key(0), jnp.zeros((2, 16, 12, 3), jnp.uint8), size=8).shape
        (2, 8, 8, 3)

    References:
        Szegedy et al., Going deeper with convolutions, CVPR 2015, section 6.
    """
    check_real("least", least, above=0.0, high=1.0)
    images = jnp.asarray(images)
    count, height, width, channels = images.shape
    side = None if size is None else check_whole("size", size, low=1)
    seen = (height, width) if side is None else (side, side)
    area_key, ratio_key, place_key = jax.random.split(key, 3)
    area = jax.random.uniform(area_key, (count,), jnp.float32, minval=least, maxval=1.0)
    turned = jax.random.uniform(ratio_key, (count,), jnp.float32, minval=-1.0, maxval=1.0)
    ratio = jnp.exp(turned * jnp.log(jnp.float32(4 / 3)))
    # Shares of the image's own sides.
    sides = jnp.minimum(jnp.stack([jnp.sqrt(area / ratio), jnp.sqrt(area * ratio)], axis=-1), 1.0)
    extent = jnp.array([height, width], jnp.float32)[None]
    corners = jax.random.uniform(place_key, (count, 2), jnp.float32) * (1.0 - sides) * extent
    scales = jnp.array(seen, jnp.float32)[None] / (sides * extent)

    def window(image: jax.Array, scale: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.image.scale_and_translate(
            image, (*seen, channels), (0, 1), scale, -corner * scale, method="linear", antialias=True
        )

    cut = jax.vmap(window)(images.astype(jnp.float32), scales, corners)
    return (jnp.clip(jnp.round(cut), 0, 255) if images.dtype == jnp.uint8 else cut).astype(images.dtype)


def resized_crop_and_flip(
    key: jax.Array, images: Shaped[Array, "b h w c"], *, least: float = 0.35, size: int | None = None
) -> Shaped[jax.Array, "b s t c"]:
    """The usual augmentation of photographs: `random_resized_crop`, then `random_flip`.

    Args:
        key: PRNG key.
        images: a batch of uint8 or floating images.
        least: smallest share of the area.
        size: pixels a side of what the network sees; None keeps height and width.

    Returns:
        The batch at the size asked for, same dtype.

    Raises:
        ValueError: as `random_resized_crop`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> jax.jit(resized_crop_and_flip)(jax.random.key(0), jnp.zeros((2, 8, 8, 3), jnp.uint8)).shape
        (2, 8, 8, 3)
    """
    first, second = jax.random.split(key)
    return random_flip(second, random_resized_crop(first, images, least=least, size=size))
