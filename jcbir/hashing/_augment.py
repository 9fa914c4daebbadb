"""Augmentation of image batches in JAX: a shifted crop and a mirror image, each a pure function of (key, images).

Values and dtype are kept, so uint8 photographs can be augmented before they are converted.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Shaped

from jcbir.typing import Array


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
    chosen = jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
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
    if not 0 <= padding < min(height, width):
        raise ValueError(
            f"padding: must be from 0 to {min(height, width) - 1} for {height} x {width} images, got {padding}"
        )
    margin = (padding, padding)
    padded = jnp.pad(images, ((0, 0), margin, margin, (0, 0)), mode="reflect")
    corners = jax.random.randint(key, (count, 2), 0, 2 * padding + 1)

    def window(image: jax.Array, corner: jax.Array) -> jax.Array:
        # One slice per image: selection matrices (two products per image) are ten times slower on XLA:CPU.
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (height, width, channels))

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
        >>> crop_and_flip(jax.random.key(0), jnp.zeros((2, 8, 8, 3), jnp.uint8)).shape
        (2, 8, 8, 3)
    """
    first, second = jax.random.split(key)
    return random_flip(second, random_crop(first, images, padding=padding))
