"""Training as a pure function of (state, batch), and a driver that owns the one compilation.

A method supplies a loss, and nothing else has to change:

    step = partial(train_step, apply=..., loss=..., optimizer=...)      # (state, batch) -> (state, metrics), pure
    state, history = fit(state, images, targets, step=step, epochs=10)  # compiles `step` once

A loss that changes while training goes on (HashNet's continuation) is composed in the step, which can read
`state.step`. The random keys of a step come from (state.key, state.step) and the order of an epoch from (state.key,
epoch) alone, so a run that continues from a saved state repeats the uninterrupted one.
"""

import functools
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TextIO

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Int32, Shaped

from jcbir.hashing._augment import crop_and_flip
from jcbir.hashing.losses import csq
from jcbir.models import replicate, split_batch
from jcbir.typing import Array, check_finite, check_real, check_whole


class TrainState(NamedTuple):
    """All that a training step reads and changes, as one pytree.

    Attributes:
        step: steps taken so far, an int32 scalar.
        params: trained parameters.
        batch_stats: running statistics of BatchNorm, {} for a network without.
        opt_state: state of the optimizer.
        key: PRNG key of the run; it never changes, every step folds its own number into it.
        memory: what the method remembers between steps, any pytree of arrays, e.g. `losses.MemoryBank`; () for none.
    """

    step: Int32[Array, ""]
    params: Any
    batch_stats: Any
    opt_state: Any
    key: jax.Array
    memory: Any = ()


class Batch(NamedTuple):
    """What one step learns from.

    Attributes:
        images: as `apply` wants them, after augmentation; usually uint8[b h w c].
        targets: what the loss compares with, any pytree with leading axis b: centers, labels, ...
    """

    images: Any
    targets: Any


class Progress(NamedTuple):
    """What `fit` reports after every step; the receiver owns the clock.

    Attributes:
        step: steps taken in all, counting those before a resume.
        steps: steps the run will have taken at its end.
        epoch: number of the epoch the step belongs to, from 0.
        images: images in the step.
        metrics: what the step returned, as Python floats.
    """

    step: int
    steps: int
    epoch: int
    images: int
    metrics: dict[str, float]


TrainApply = Callable[[Any, Any, jax.Array], tuple[Any, Any]]
"""(variables, images, key) -> (outputs, new batch_stats), in training mode."""


def linen_apply(module: Any, *, select: Callable[[Any], Any] = lambda outputs: outputs) -> TrainApply:
    """Training-mode `apply` of a flax linen module called as module(images, train=True).

    Args:
        module: a linen module with a `train` argument; BatchNorm and dropout are optional.
        select: what the loss needs of the module's outputs.

    Returns:
        A function (variables, images, key) -> (outputs, new batch_stats).

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp
        >>> class Head(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x, train=False):
        ...         return nn.Dense(8)(x)
        >>> variables = Head().init(jax.random.key(0), jnp.ones((1, 4)))
        >>> outputs, statistics = linen_apply(Head())(variables, jnp.ones((2, 4)), jax.random.key(1))
        >>> outputs.shape, statistics
        ((2, 8), {})
    """

    def apply(variables: Any, images: Any, key: jax.Array) -> tuple[Any, Any]:
        outputs, updates = module.apply(variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": key})
        return select(outputs), updates.get("batch_stats", {})

    return apply


def init_state(
    key: jax.Array, variables: Any, *, optimizer: optax.GradientTransformation, memory: Any = ()
) -> TrainState:
    """A state at step 0 from a network's variables.

    Args:
        key: PRNG key of the run.
        variables: {"params": ..., "batch_stats": ...}; the statistics may be missing.
        optimizer: the optax optimizer that `train_step` will use.
        memory: what the method remembers before the first step.

    Returns:
        The state.

    Raises:
        ValueError: a weight or a statistic is NaN or infinite, naming the leaf.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> state = init_state(jax.random.key(0), {"params": {"w": jnp.ones(3)}}, optimizer=optax.adam(1e-3))
        >>> int(state.step), state.batch_stats
        (0, {})
    """
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    check_finite("params", params)
    check_finite("batch_stats", batch_stats)
    # A plain number would pass through a step, and neither through `state_to_bytes` nor a mesh.
    params, batch_stats, memory = jax.tree.map(jnp.asarray, (params, batch_stats, memory))
    with jax.numpy_dtype_promotion("standard"):
        opt_state = optimizer.init(params)
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, opt_state, key, memory)


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    apply: TrainApply,
    loss: Callable[..., Any],
    optimizer: optax.GradientTransformation,
    augment: Callable[[jax.Array, Any], Any] | None = None,
    remember: Callable[[Any, Any, Any], Any] | None = None,
    accumulate: int = 1,
    compute_dtype: Any = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step of gradient descent on the mean loss of a batch; pure, for `jax.jit` by the caller or by `fit`.

    theta' = theta + optimizer(grad mean_i loss(outputs_i, targets_i)).

    Args:
        state: the state before.
        batch: images and targets.
        apply: (variables, images, key) -> (outputs, new batch_stats) in training mode, e.g. `linen_apply(module)`.
        loss: (outputs, targets) -> unreduced loss, averaged here; with `remember`, (outputs, targets, memory).
        optimizer: the optimizer of `init_state`.
        augment: (key, images) -> images, e.g. `jcbir.hashing.crop_and_flip`.
        remember: (memory, outputs, targets) -> memory, before the loss and without a gradient, e.g. `losses.remember`.
        accumulate: parts of the batch that pass the network one after the other, whose gradients are averaged. A loss
            of pairs sees the pairs of a part, and BatchNorm its statistics.
        compute_dtype: type of parameters and of images that are floats inside the network, e.g. `jnp.bfloat16`; the
            loss, the gradient and the optimizer stay in float32. None changes nothing.

    Returns:
        The state after, and scalar metrics: `loss` (mean of the batch) and `gradient_norm` (over all parameters).

    Raises:
        ValueError: `accumulate` is no whole number of at least 1 that divides the batch.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> def apply(variables, images, key):
        ...     return images @ variables["params"]["w"], {}
        >>> optimizer = optax.sgd(0.5)
        >>> state = init_state(jax.random.key(0), {"params": {"w": jnp.zeros((1, 1))}}, optimizer=optimizer)
        >>> batch = Batch(jnp.ones((4, 1)), jnp.ones((4, 1)))
        >>> state, metrics = train_step(
        ...     state, batch, apply=apply, loss=lambda out, y: (out - y)[:, 0] ** 2, optimizer=optimizer
        ... )
        >>> float(metrics["loss"]), float(state.params["w"][0, 0]), int(state.step)
        (1.0, 1.0, 1)
    """
    parts = check_whole("accumulate", accumulate, low=1)

    def objective(params: Any, kept: _Kept, part: Batch, key: jax.Array) -> tuple[jax.Array, _Kept]:
        augment_key, apply_key = jax.random.split(key)
        images = part.images if augment is None else augment(augment_key, part.images)
        inside, images = _computing((params, images), compute_dtype)
        variables = {"params": inside, "batch_stats": kept.batch_stats}
        outputs, batch_stats = apply(variables, images, apply_key)
        if compute_dtype is not None:
            outputs, batch_stats = _computing((outputs, batch_stats), jnp.float32)
        if remember is None:
            return loss(outputs, part.targets).mean(), _Kept(batch_stats, kept.memory)
        memory = remember(kept.memory, jax.lax.stop_gradient(outputs), part.targets)
        return loss(outputs, part.targets, memory).mean(), _Kept(batch_stats, memory)

    slope = jax.value_and_grad(objective, has_aux=True)
    key, kept = jax.random.fold_in(state.key, state.step), _Kept(state.batch_stats, state.memory)
    if parts == 1:
        (value, kept), gradient = slope(state.params, kept, batch, key)
    else:
        rows = {leaf.shape[0] for leaf in jax.tree.leaves(batch)}
        if any(count % parts for count in rows):
            raise ValueError(f"accumulate: must divide the batch of {max(rows)}, got {parts}")

        def add(carry: Any, part: tuple[Batch, jax.Array]) -> tuple[Any, None]:
            (total, summed), kept = carry
            (value, kept), gradient = slope(state.params, kept, *part)
            return ((total + value, jax.tree.map(jnp.add, summed, gradient)), kept), None

        split = jax.tree.map(lambda leaf: leaf.reshape(parts, leaf.shape[0] // parts, *leaf.shape[1:]), batch)
        nothing = jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, state.params)
        (sums, kept), _ = jax.lax.scan(add, (nothing, kept), (split, jax.random.split(key, parts)))
        value, gradient = jax.tree.map(lambda leaf: leaf / parts, sums)
    # optax raises a Python float to an integer count, which strict dtype promotion refuses; the networks stay strict.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        norm = optax.tree.norm(gradient)
    state = TrainState(state.step + 1, params, kept.batch_stats, opt_state, state.key, kept.memory)
    return state, {"loss": value, "gradient_norm": norm}


class _Kept(NamedTuple):
    """What passes from a part of a batch to the next."""

    batch_stats: Any
    memory: Any


def _computing(tree: Any, dtype: Any) -> Any:
    """The floats of a tree in another type; all as it is where there is none."""
    if dtype is None:
        return tree
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree)


def fit(
    state: TrainState,
    images: Shaped[Array, "n h w c"],
    targets: Any,
    *,
    step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]],
    epochs: int,
    batch: int = 64,
    progress: Callable[[Progress], None] | None = None,
    evaluate: Callable[[TrainState], Mapping[str, float]] | None = None,
    checkpoint: Callable[[TrainState, dict[str, int | float]], None] | None = None,
    mesh: Mesh | None = None,
) -> tuple[TrainState, list[dict[str, int | float]]]:
    """Train for a number of epochs in all, from wherever the state stands; compiles `step` once.

    Each epoch visits the images in a fresh order that depends on (state.key, epoch) alone and leaves out the last n mod
    batch of it, so that every step has one shape. A state in the middle of a run, even of an epoch, continues exactly
    where it stood. `fit_batches` takes batches that come from elsewhere.

    Args:
        state: where to start: `init_state`, or a saved state.
        images: training images on the host.
        targets: pytree of arrays with leading axis n.
        step: (state, batch) -> (state, metrics with a `loss`), e.g. a `functools.partial` of `train_step`; jitted here,
            unless it is already, as it should be when several runs share it.
        epochs: epochs of the whole run, those already in `state.step` included.
        batch: images per step, at most n; fewer images than that are one batch.
        progress: called after every step, e.g. `log_lines(file)`.
        evaluate: state -> figures, after every epoch; they join the epoch's metrics.
        checkpoint: called after every epoch with the state and the epoch's metrics.
        mesh: devices that share each batch, all along its first axis; the state is copied to each.

    Returns:
        The last state, and the metrics of each epoch (with its `epoch`) that was run here: means of the steps', and the
        figures of `evaluate`.

    Raises:
        ValueError: no images, a batch below 1 or not divided by the devices, a target of another length, or a loss that
            became NaN or infinite (naming step and epoch; the state before is what `checkpoint` saw last).

    Example:
        >>> import jax, numpy as np, optax
        >>> from functools import partial
        >>> def apply(variables, images, key):
        ...     return images.mean(axis=(1, 2)) @ variables["params"], {}
        >>> optimizer = optax.sgd(0.1)
        >>> state = init_state(jax.random.key(0), {"params": np.zeros((3, 1), np.float32)}, optimizer=optimizer)
        >>> images, targets = np.ones((8, 2, 2, 3), np.float32), np.ones((8, 1), np.float32)
        >>> step = partial(train_step, apply=apply, loss=lambda out, y: (out - y)[:, 0] ** 2, optimizer=optimizer)
        >>> state, history = fit(state, images, targets, step=step, epochs=3, batch=4)
        >>> int(state.step), history[-1]["loss"] < history[0]["loss"]
        (6, True)
    """
    total = len(images)
    if total == 0:
        raise ValueError("images: must hold at least one image, got none")
    batch, epochs = check_whole("batch", batch, low=1), check_whole("epochs", epochs, low=0)
    for path, leaf in jax.tree.leaves_with_path(targets):
        if len(leaf) != total:
            raise ValueError(
                f"targets{jax.tree_util.keystr(path)}: must have {total} rows like images, got {len(leaf)}"
            )
    size = min(batch, total)
    key = state.key

    def rows(epoch: int, first: int) -> Iterator[Batch]:
        order = _epoch_order(key, epoch, count=total)
        for index in range(first, total // size):
            yield _rows(images, targets, order[index * size : (index + 1) * size])

    hooks = _Hooks(progress, evaluate, checkpoint)
    return _epochs(state, rows, step=step, epochs=epochs, per_epoch=total // size, hooks=hooks, mesh=mesh)


def fit_batches(
    state: TrainState,
    batches: Iterable[Any] | Callable[[int], Iterable[Any]],
    *,
    step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]],
    epochs: int,
    per_epoch: int,
    progress: Callable[[Progress], None] | None = None,
    evaluate: Callable[[TrainState], Mapping[str, float]] | None = None,
    checkpoint: Callable[[TrainState, dict[str, int | float]], None] | None = None,
    mesh: Mesh | None = None,
) -> tuple[TrainState, list[dict[str, int | float]]]:
    """`fit` on batches that a loader makes: grain, tf.data, a PyTorch DataLoader, a generator.

    Args:
        state: as in `fit`; in the middle of an epoch, the batches it has seen are drawn again and skipped.
        batches: pairs (images, targets) of arrays, of one shape. Either something that can be iterated anew each epoch
            (a loader), or a function from the number of the epoch to its batches (which alone makes a resumed run that
            of an uninterrupted one), or an iterator without an end, of which the epochs take what comes.
        step: as in `fit`.
        epochs: as in `fit`.
        per_epoch: batches per epoch.
        progress: as in `fit`.
        evaluate: as in `fit`.
        checkpoint: as in `fit`.
        mesh: as in `fit`.

    Returns:
        As `fit`.

    Raises:
        ValueError: fewer batches than `per_epoch`, one that is no pair or has another number of targets than images,
            or a loss that became NaN or infinite.

    Example:
        >>> import jax, numpy as np, optax
        >>> from functools import partial
        >>> def apply(variables, images, key):
        ...     return images @ variables["params"], {}
        >>> optimizer = optax.sgd(0.1)
        >>> state = init_state(jax.random.key(0), {"params": np.zeros((3, 1), np.float32)}, optimizer=optimizer)
        >>> step = partial(train_step, apply=apply, loss=lambda out, y: (out - y)[:, 0] ** 2, optimizer=optimizer)
        >>> def batches(epoch):
        ...     for _ in range(2):
        ...         yield np.ones((4, 3), np.float32), np.ones((4, 1), np.float32)
        >>> state, history = fit_batches(state, batches, step=step, epochs=3, per_epoch=2)
        >>> int(state.step), len(history)
        (6, 3)
    """
    per_epoch, epochs = check_whole("per_epoch", per_epoch, low=1), check_whole("epochs", epochs, low=0)

    def rows(epoch: int, first: int) -> Iterator[Batch]:
        made = batches(epoch) if callable(batches) else batches
        for item in itertools.islice(made, first, per_epoch):
            if not isinstance(item, tuple | list) or len(item) != 2:
                raise ValueError(f"batches: must be pairs of images and targets, got {type(item).__name__}")
            batch = Batch(*jax.tree.map(_from_loader, tuple(item)))
            shapes = [leaf.shape for leaf in jax.tree.leaves(batch)]
            # One target would be broadcast to all images.
            if not all(shapes) or len({shape[0] for shape in shapes}) != 1:
                raise ValueError(f"batches: must have a target for each image, got arrays of shapes {shapes}")
            yield batch

    hooks = _Hooks(progress, evaluate, checkpoint)
    return _epochs(state, rows, step=step, epochs=epochs, per_epoch=per_epoch, hooks=hooks, mesh=mesh)


def log_lines(file: TextIO | io.TextIOBase, *, every: int = 1) -> Callable[[Progress], None]:
    """A `progress` that writes JSON lines: step, epoch and metrics.

    Args:
        file: an open text file, or `sys.stderr`.
        every: steps between two lines.

    Returns:
        The function.

    Raises:
        ValueError: `every` is no whole number of at least 1.

    Example:
        >>> import io
        >>> file = io.StringIO()
        >>> log_lines(file)(Progress(1, 10, 0, 64, {"loss": 0.5}))
        >>> file.getvalue()
        '{"step": 1, "steps": 10, "epoch": 0, "loss": 0.5}\\n'
    """
    every = check_whole("every", every, low=1)

    def write(news: Progress) -> None:
        if news.step % every == 0:
            line = {"step": news.step, "steps": news.steps, "epoch": news.epoch, **news.metrics}
            file.write(json.dumps(line) + "\n")
            file.flush()

    return write


class _Hooks(NamedTuple):
    """What is told of a run."""

    progress: Callable[[Progress], None] | None
    evaluate: Callable[[TrainState], Mapping[str, float]] | None
    checkpoint: Callable[[TrainState, dict[str, int | float]], None] | None


def _epochs(
    state: TrainState,
    batches: Callable[[int, int], Iterator[Batch]],
    *,
    step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]],
    epochs: int,
    per_epoch: int,
    hooks: _Hooks,
    mesh: Mesh | None,
) -> tuple[TrainState, list[dict[str, int | float]]]:
    """The loop of both `fit`s; `batches` gives those of an epoch from the one after the first so many."""
    compiled = step if hasattr(step, "lower") else jax.jit(step)
    # Uncommitted Python and NumPy leaves would make the second call another program than the first.
    state = jax.tree.map(jnp.asarray, state)
    devices = None if mesh is None else list(mesh.devices.flat)
    if devices is not None:
        state = replicate(state, devices=devices)

    def placed(rows: Batch | None) -> Batch | None:
        return rows if rows is None or devices is None else split_batch(rows, devices=devices)

    history = []
    for epoch in range(int(state.step) // per_epoch, epochs):
        sums: dict[str, float] = {}
        first = int(state.step) - epoch * per_epoch
        coming = batches(epoch, first)
        rows = placed(next(coming, None))
        for index in range(first, per_epoch):
            if rows is None:
                raise ValueError(f"batches: must be {per_epoch} an epoch, got {index} in epoch {epoch}")
            count = jax.tree.leaves(rows)[0].shape[0]
            state, metrics = compiled(state, rows)
            # Before the metrics are read: the host gathers the next batch while the device computes.
            rows = placed(next(coming, None)) if index + 1 < per_epoch else None
            values = {name: float(value) for name, value in metrics.items()}
            _check_loss(values["loss"], epoch * per_epoch + index, epoch)
            sums = {name: sums.get(name, 0.0) + value for name, value in values.items()}
            if hooks.progress is not None:
                hooks.progress(Progress(epoch * per_epoch + index + 1, epochs * per_epoch, epoch, count, values))
        means = {name: value / (per_epoch - first) for name, value in sums.items()}
        found = {} if hooks.evaluate is None else {k: float(v) for k, v in hooks.evaluate(state).items()}
        history.append({"epoch": epoch, **means, **found})
        if hooks.checkpoint is not None:
            hooks.checkpoint(state, history[-1])
    check_finite("params", state.params)
    return state, history


def _from_loader(leaf: Any) -> jax.Array:
    """A loader's array: NumPy's, or what can be read as one (a tensor of TensorFlow or PyTorch)."""
    return jnp.asarray(leaf if isinstance(leaf, jax.Array) else np.asarray(leaf))


def fine_tune(
    key: jax.Array,
    images: Shaped[Array, "n h w c"],
    targets: Any,
    *,
    apply: TrainApply,
    variables: Any,
    epochs: int,
    loss: Callable[[Any, Any], Any] = csq,
    batch: int = 100,
    rate: float = 2e-3,
    trained: Any = None,
    augment: Callable[[jax.Array, Any], Any] = crop_and_flip,
    progress: Callable[[Progress], None] | None = None,
) -> Any:
    """Train layers to place each image's code at its target: the driver around `fit` for who wants no other recipe.

    AdamW on L_T = L_C + 0.05 L_Q, cosine learning rate with a short warm-up, augmented photographs.

    Args:
        key: PRNG key.
        images: training photographs.
        targets: the hash center of each image's class, or what `loss` compares with.
        apply: (variables, images, key) -> (logits, new batch_stats) in training mode, the preprocessing included.
        variables: its parameters and statistics, pretrained or random.
        epochs: passes over the images.
        loss: (logits, targets) -> unreduced loss.
        batch: images per step.
        rate: highest learning rate.
        trained: a tree of booleans like the parameters, False for what stays as it is; None trains all.
        augment: (key, images) -> images: `crop_and_flip` for small pictures, `resized_crop_and_flip` for photographs.
        progress: called after each step.

    Returns:
        The fine-tuned variables `{"params", "batch_stats"}`.

    Raises:
        ValueError: weights that are not finite, no images, a number out of range, or a loss that stops being finite.

    Example:
        >>> import numpy as np
        >>> def apply(variables, images, key):
        ...     return images.mean(axis=(1, 2)) @ variables["params"], {}
        >>> photos, centers = np.ones((4, 8, 8, 3), np.float32), np.ones((4, 8), bool)
        >>> variables = {"params": np.zeros((3, 8), np.float32)}
        >>> tuned = fine_tune(jax.random.key(1), photos, centers, apply=apply, variables=variables, epochs=1)
        >>> sorted(tuned)
        ['batch_stats', 'params']

    References:
        Yuan et al., Central Similarity Quantization, CVPR 2020. Wang et al., CMC 75(3), 2023, eq. 5.
    """
    batch, epochs = check_whole("batch", batch, low=1), check_whole("epochs", epochs, low=0)
    check_real("rate", rate)
    steps = epochs * max(1, len(images) // batch)
    rising = max(1, steps // 10)
    schedule = optax.warmup_cosine_decay_schedule(rate / 10, rate, rising, max(steps, rising + 1), rate / 100)
    optimizer = optax.adamw(schedule, weight_decay=1e-4)
    if trained is not None:
        # Not only without gradient: weight decay would shrink what is frozen.
        optimizer = optax.partition({True: optimizer, False: optax.set_to_zero()}, trained)
    step = functools.partial(train_step, apply=apply, loss=loss, optimizer=optimizer, augment=augment)
    state = init_state(key, variables, optimizer=optimizer)
    state, _ = fit(state, images, targets, step=step, epochs=epochs, batch=batch, progress=progress)
    return {"params": state.params, "batch_stats": state.batch_stats}


def _epoch_order(key: jax.Array, epoch: int, *, count: int) -> Int32[np.ndarray, " n"]:
    """The order in which an epoch visits the images."""
    # Steps fold their number into the same key; the second fold keeps the two families of keys apart.
    epoch_key = jax.random.fold_in(jax.random.fold_in(key, 0x7FFFFFFF), epoch)
    return np.asarray(jax.random.permutation(epoch_key, count)).astype(np.int32)


def _rows(images: Any, targets: Any, picked: np.ndarray) -> Batch:
    return Batch(jnp.asarray(images[picked]), jax.tree.map(lambda leaf: jnp.asarray(leaf[picked]), targets))


def _check_loss(loss: float, step: int, epoch: int) -> None:
    if not np.isfinite(loss):
        raise ValueError(
            f"loss: must stay finite, got {loss} at step {step} of epoch {epoch}: lower the learning rate, or look for "
            "NaN in the images and targets; the state of the last checkpoint is still good"
        )
