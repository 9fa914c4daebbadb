"""Where a command answers: one record on standard output, everything else on standard error."""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

Advance = Callable[[int, int | None], None]
"""(done so far, all of it or None where nobody knows yet)."""


@dataclasses.dataclass(frozen=True)
class Screen:
    """The two streams of a command.

    Attributes:
        json: answer as one JSON object.
        out: standard output, for the answer.
        err: standard error, for progress, warnings and questions.
    """

    json: bool
    out: Console
    err: Console


def open_screen(*, json: bool) -> Screen:
    """Take the standard streams as they are now.

    Args:
        json: answer as one JSON object.

    Returns:
        The screen.

    Example:
        >>> open_screen(json=True).json
        True
    """
    # In a file or a pipe nobody knows the width of the page; a table needs one.
    width = None if sys.stdout.isatty() else 140
    out = Console(highlight=False, soft_wrap=True, markup=False, width=width)
    return Screen(json, out, Console(stderr=True, highlight=False, soft_wrap=True, markup=False))


def answer(screen: Screen, record: Mapping[str, Any], *, lines: Sequence[str | Table] = ()) -> None:
    """Print what a command has to say: the record as JSON, or else the lines.

    Args:
        screen: where.
        record: the whole answer.
        lines: the same for people; without them, a line for each field.

    Returns:
        Nothing.

    Example:
        >>> answer(open_screen(json=True), {"photographs": 3})
        {"photographs": 3}
    """
    if screen.json:
        # Not through rich, which would wrap and style.
        print(json.dumps(record, default=_plain, ensure_ascii=False), file=screen.out.file, flush=True)
        return
    for line in lines or [f"{name.replace('_', ' ')}: {value}" for name, value in record.items()]:
        screen.out.print(line)


def note(screen: Screen, line: str) -> None:
    """Say something on standard error.

    Args:
        screen: where.
        line: what.

    Returns:
        Nothing.

    Example:
        >>> note(open_screen(json=True), "one file skipped")
    """
    screen.err.print(line)


@contextmanager
def progress(screen: Screen, description: str) -> Iterator[Advance]:
    """Show a progress bar on standard error for the length of a block; none where that is no terminal.

    Args:
        screen: where.
        description: what is done.

    Yields:
        `advance(done, total)`.

    Example:
        >>> with progress(open_screen(json=True), "hash") as advance:
        ...     advance(1, 2)
    """
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    with Progress(*columns, console=screen.err, disable=not screen.err.is_terminal, transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"record: no JSON for a {type(value).__name__}")


__all__ = ["Advance", "Screen", "answer", "note", "open_screen", "progress"]
