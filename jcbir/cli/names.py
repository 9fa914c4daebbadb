"""Which photograph a pseudonym is: hidden files of JSON in the owner's folder."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from jcbir.cli.hidden import Kind, read_hidden, write_hidden
from jcbir.errors import FormatError
from jcbir.protocol.owner import Owner

KIND = Kind("names", b"JCBN", 1)
SUFFIX, EARLIER = ".names", ".json"
"""Names of files; those of version 0 were JSON that anybody could read who could read the folder."""

Entry = dict[str, str]
"""What the owner alone knows of an image: `sha256` of its file, its `path` below the folder `root`, its `code`, as
`file` the path as the disk has it where that is another spelling, and its `caption` where that was noted."""


def names_writer(names: Mapping[str, Mapping[str, str]], owner: Owner) -> Callable[[Path], None]:
    """Make the writer of a file of names for `commit`: pseudonym to entry."""
    return partial(write_names, names=names, owner=owner)


def write_names(file: Path, names: Mapping[str, Mapping[str, str]], owner: Owner) -> None:
    """Write a file of names."""
    write_hidden(file, json.dumps(names).encode(), kind=KIND, owner=owner)


def read_names(file: Path, owner: Owner) -> dict[str, Entry]:
    """Read a file of names."""
    return json.loads(read_hidden(file, kind=KIND, owner=owner))


def convert_names(folder: Path, owner: Owner) -> None:
    """Encrypt the files of names that an earlier version left in the clear; interrupted, the next call goes on."""
    for file in sorted(folder.glob(f"*{EARLIER}")):
        try:
            names = json.loads(file.read_text())
        except ValueError:
            raise FormatError(f"{file}: must be a file of names, got something else") from None
        # What stands there already is the owner's for certain; a clear file beside it anybody may have written.
        if not file.with_suffix(SUFFIX).exists():
            write_names(file.with_suffix(SUFFIX), names, owner)
        file.unlink()
