"""Training runs in a folder: checkpoints that survive a kill, metrics as JSON lines, time left.

The folder holds `state.safetensors` (after every epoch), `best.safetensors` (highest validation metric) and
`metrics.jsonl` (one line an epoch). Calling `train_run` again with the same arguments continues where the folder stands
and ends with the same weights as a run that was never interrupted.
"""

import json
import os
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import Shaped

from jcbir.errors import FormatError
from jcbir.hashing import Batch, Progress, TrainState, fit, state_from_bytes, state_to_bytes
from jcbir.storage._files import write_file
from jcbir.typing import Array


def train_run(
    folder: str | os.PathLike[str],
    state: TrainState,
    images: Shaped[Array, "n h w c"],
    targets: Any,
    *,
    step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]],
    epochs: int,
    batch: int = 64,
    about: Mapping[str, Any] | None = None,
    validate: Callable[[TrainState], Mapping[str, float]] | None = None,
    monitor: str | None = None,
    progress: Callable[[Progress, float, float], None] | None = None,
) -> tuple[TrainState, list[dict[str, Any]]]:
    """Train with `fit`, writing a checkpoint and a line of metrics after every epoch, and resume what the folder holds.

    Args:
        folder: made where missing.
        state: a fresh `init_state`; replaced by the folder's checkpoint where there is one.
        images: training images.
        targets: pytree of arrays with leading axis n.
        step: (state, batch) -> (state, metrics).
        epochs: epochs of the whole run.
        batch: images per step.
        about: configuration that must be the same on resuming.
        validate: state -> metrics on a validation split (never the test queries), after every epoch.
        monitor: the validation metric whose highest value decides `best.safetensors`.
        progress: called after each step with the report, images per second and seconds left.

    Returns:
        The last state and the metrics of every epoch, those before a resume included.

    Raises:
        KeyMismatchError: the folder belongs to another network, optimizer or `about`.
        FormatError: its checkpoint or metrics are damaged.
        ValueError: as `fit`; the state of the last whole epoch is in the folder.

    Example:
        >>> import numpy as np, optax, tempfile
        >>> from functools import partial
        >>> from jcbir.hashing import init_state, train_step
        >>> optimizer = optax.sgd(0.1)
        >>> def apply(variables, images, key):
        ...     return images.mean(axis=(1, 2)) @ variables["params"], {}
        >>> step = partial(train_step, apply=apply, loss=lambda out, y: (out - y)[:, 0] ** 2, optimizer=optimizer)
        >>> fresh = init_state(jax.random.key(0), {"params": np.zeros((3, 1), np.float32)}, optimizer=optimizer)
        >>> images, targets = np.ones((8, 2, 2, 3), np.float32), np.ones((8, 1), np.float32)
        >>> folder = tempfile.mkdtemp()
        >>> _, two = train_run(folder, fresh, images, targets, step=step, epochs=2, batch=4)
        >>> state, three = train_run(folder, fresh, images, targets, step=step, epochs=3, batch=4)
        >>> int(state.step), [line["epoch"] for line in three]
        (6, [0, 1, 2])
    """
    place = pathlib.Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    saved = place / "state.safetensors"
    if saved.exists():
        state = state_from_bytes(saved.read_bytes(), like=state, about=about)
    per_epoch = max(1, len(images) // min(batch, max(1, len(images))))
    lines = _read_lines(place / "metrics.jsonl", epochs=int(state.step) // per_epoch)
    # A kill may fall between the line and its checkpoint: the epoch is run again, so its line goes.
    write_file(place / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    begun = time.perf_counter()
    done = int(state.step)

    def report(news: Progress) -> None:
        if progress is not None:
            seconds = time.perf_counter() - begun
            rate = (news.step - done) * news.images / seconds
            progress(news, rate, (news.steps - news.step) * news.images / rate)

    def keep(state: TrainState, metrics: dict[str, int | float]) -> None:
        line = {**metrics, "step": int(state.step), "seconds": round(time.perf_counter() - begun, 3)}
        line |= {name: float(value) for name, value in (validate(state) if validate else {}).items()}
        content = state_to_bytes(state, about=about)
        if monitor is not None and all(line[monitor] > earlier[monitor] for earlier in lines):
            write_file(place / "best.safetensors", content)
        lines.append(line)
        with (place / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        write_file(saved, content)

    state, _ = fit(state, images, targets, step=step, epochs=epochs, batch=batch, progress=report, checkpoint=keep)
    return state, lines


def best_state(
    folder: str | os.PathLike[str], like: TrainState, *, about: Mapping[str, Any] | None = None
) -> TrainState:
    """The state with the highest validation metric of a run.

    Args:
        folder: of `train_run` with `monitor`.
        like: a state of the same network and optimizer.
        about: as given to `train_run`.

    Returns:
        The state.

    Raises:
        FileNotFoundError: the run had no `monitor`, or no epoch ended.
        KeyMismatchError: the folder belongs to another run.

    Example:
        >>> import jax.numpy as jnp, optax, tempfile
        >>> state = TrainState(jnp.int32(3), {"w": jnp.ones(2)}, {}, optax.EmptyState(), jax.random.key(0))
        >>> folder = tempfile.mkdtemp()
        >>> write_file(f"{folder}/best.safetensors", state_to_bytes(state))
        >>> int(best_state(folder, state).step)
        3
    """
    return state_from_bytes((pathlib.Path(folder) / "best.safetensors").read_bytes(), like=like, about=about)


def _read_lines(path: pathlib.Path, *, epochs: int) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = path.read_text().splitlines()[:epochs]
    try:
        return [json.loads(line) for line in lines]
    except json.JSONDecodeError as error:
        raise FormatError(f"{path}: must hold one JSON object a line, got {lines[-1][:80]!r}") from error
