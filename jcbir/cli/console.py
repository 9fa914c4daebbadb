"""Where a command answers: one record on standard output, everything else on standard error."""

import dataclasses
import json
import re
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

Advance = Callable[[int, int | None], None]
"""(done so far, all of it or None where nobody knows yet)."""

PAUSE = 5.0
"""Seconds between two lines of progress where standard error is no terminal."""


@dataclasses.dataclass(frozen=True)
class CommandConsole:
    """The two streams of a command: standard output for the answer, standard error for all else.

    Progress goes to `watch` where somebody else than a terminal wants it.
    """

    json: bool
    out: rich.console.Console
    err: rich.console.Console
    watch: Callable[[str], Advance] | None = None


def open_console(*, json: bool) -> CommandConsole:
    """Take the standard streams as they are now."""
    # In a file or a pipe nobody knows the width of the page; a table needs one.
    width = None if sys.stdout.isatty() else 140
    out = rich.console.Console(highlight=False, soft_wrap=True, markup=False, width=width)
    return CommandConsole(json, out, rich.console.Console(stderr=True, highlight=False, soft_wrap=True, markup=False))


def answer(console: CommandConsole, record: Mapping[str, Any], *, lines: Sequence[str | Table] = ()) -> None:
    """Print the whole answer as JSON, or else the lines for people; without any, a line for each field."""
    if console.json:
        text = json.dumps(record, default=_plain, ensure_ascii=False)
        # Not through rich, which would wrap and style. A name's bytes that are no UTF-8 are spelled out.
        print(re.sub("[\ud800-\udfff]", lambda found: f"\\{_spell(found[0])}", text), file=console.out.file, flush=True)
        return
    for line in lines or [f"{name.replace('_', ' ')}: {value}" for name, value in record.items()]:
        console.out.print(printable(line) if isinstance(line, str) else line)


def note(console: CommandConsole, line: str) -> None:
    """Say something on standard error."""
    console.err.print(printable(line))


def printable(text: str) -> str:
    r"""Spell out what a file name may hold and a line may not: line ends, controls, bytes that are no UTF-8."""
    unfit = ("Cc", "Cs", "Zl", "Zp")
    return "".join(_spell(letter) if unicodedata.category(letter) in unfit else letter for letter in text)


def date(seconds: int | float) -> str:
    """Seconds since 1970 as people and programs read a date: ISO 8601, universal time."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def progress(console: CommandConsole, description: str) -> Iterator[Advance]:
    """Show a progress bar on standard error for the length of a block; a line every few seconds if it is redirected."""
    if console.watch is not None:
        yield console.watch(description)
        return
    if not console.err.is_terminal:
        begun = told = time.monotonic()

        def tell(done: int, total: int | None) -> None:
            nonlocal told
            if time.monotonic() - told >= PAUSE:
                told = time.monotonic()
                rate = done / max(told - begun, 1)
                left = f", {rate:.1f}/s, {(total - done) / rate:.0f} s left" if total and rate >= 0.1 else ""
                note(console, f"{description}: {done} of {total or '?'} after {told - begun:.0f} s{left}")

        yield tell
        return
    columns = [TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()]
    columns += [TimeElapsedColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console.err, transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _spell(letter: str) -> str:
    r"""A letter as an escape; what stands for an odd byte of a file name as that byte: \xe9."""
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"record: must be made of what JSON has, got a {type(value).__name__}")
