"""`jcbir user`: what each command does."""

import dataclasses
import json
import secrets
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jcbir.cli import options
from jcbir.cli.console import CommandConsole, answer, note
from jcbir.cli.network import check_network, keep_programs, load_network, square
from jcbir.cli.outbox import check_addresses
from jcbir.cli.owner import ADMISSION, SERVICE, VOUCHER
from jcbir.cli.passphrase import read_passphrase
from jcbir.cli.workspace import CARD, NETWORK
from jcbir.errors import FormatError, KeyMismatchError
from jcbir.hashing import hash_images
from jcbir.models import Backbone, output_width
from jcbir.protocol import user as protocol, wire
from jcbir.protocol.audit import ask_audit, check_opened
from jcbir.protocol.messages import Admission
from jcbir.ranking import KEY_KINDS
from jcbir.storage import (
    _keys as keys,
    card_fingerprint,
    read_secret,
    write_card,
    write_file,
    write_image,
    write_secret,
)

KEYS, ENROLLMENT, MEMBER = "user.secret", "enrollment.jcbir", "member.secret"
RESULTS, HEAD = "results.json", "head.json"
MESSAGE_BYTES = 1 << 16


def init(command: options.UserInit, console: CommandConsole) -> None:
    home = command.place.home
    if (home / KEYS).exists():
        raise FileExistsError(f"home: must be a folder without keys, got {str(home)!r}, which has {KEYS}")
    passphrase = read_passphrase(command.place.passphrase_file, purpose="your keys", confirm=True)
    pair = protocol.make_keys(draw=secrets.token_bytes, hybrid=command.hybrid)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_file(home / ENROLLMENT, wire.to_bytes(protocol.enroll(pair)))
    write_secret(home / KEYS, pair, passphrase=passphrase, draw=secrets.token_bytes, work=keys.WORK)
    answer(console, {"home": home, "enrollment": home / ENROLLMENT, "hybrid": command.hybrid})


def join(command: options.UserJoin, console: CommandConsole) -> None:
    home, file = command.place.home, command.folder / ADMISSION
    if not file.is_file() or file.stat().st_size > MESSAGE_BYTES:
        raise FileNotFoundError(f"folder: must be what `jcbir owner grant` wrote, got {str(command.folder)!r}")
    if not (home / KEYS).exists():
        raise FileNotFoundError(f"home: must hold keys of `jcbir user init`, got none in {str(home)!r}")
    admission = wire.from_bytes(file.read_bytes(), expect=Admission)
    card = admission.card
    _compare(card_fingerprint(card), command.fingerprint, console)
    check_network(card, command.folder / NETWORK, (command.folder / VOUCHER).read_text())
    network = load_network(command.folder / NETWORK)
    if output_width(network) != card.bits:
        raise KeyMismatchError(
            f"network: must give {card.bits} bits as the collection has, got {output_width(network)}"
        )
    passphrase = read_passphrase(command.place.passphrase_file, purpose="your keys")
    pair = read_secret(home / KEYS, passphrase=passphrase, expect=protocol.UserKeys)
    member = protocol.join(pair, admission, owner_key=card.owner_key)
    write_file(home / NETWORK, (command.folder / NETWORK).read_bytes())
    write_file(home / VOUCHER, (command.folder / VOUCHER).read_bytes())
    write_card(home / CARD, card)
    service = command.folder / SERVICE
    if service.exists():
        shutil.copyfile(service, home / SERVICE)
    write_secret(
        home / MEMBER, member, passphrase=passphrase, draw=secrets.token_bytes, work=keys.WORK, replace=True
    )  # fmt: skip
    answer(console, _describe(member))


def query(command: options.UserQuery, console: CommandConsole) -> None:
    from jcbir.service.client import audit, connect, search

    begin = time.perf_counter()
    home = command.place.home
    if not command.images:
        raise ValueError("images: must be at least one photograph, got none")
    if command.audit < 0:
        raise ValueError(f"audit: must be at least 0, got {command.audit}")
    if command.top < 1:
        raise ValueError(f"top: must be at least 1, got {command.top}")
    contents = [_read_photograph(path) for path in command.images]
    folders = _result_folders(command.out, command.images)
    url = command.cloud or _kept_url(home)
    check_addresses(cloud=url)
    member, network = _open_member(command.place)
    kind = KEY_KINDS[member.card.public.kind]
    if command.audit and kind.blind is None:
        raise ValueError(f"audit: must be left out in a collection with {kind.name} keys, got {command.audit}")
    squares = [_square(*each, network) for each in zip(command.images, contents, strict=True)]
    keep_programs()
    codes = hash_images(network, np.stack(squares))
    member, message = protocol.ask(
        member, codes, top=command.top, now=int(time.time()), draw=secrets.token_bytes, scheme=command.scheme
    )
    note(console, f"asking {url}")
    with connect(
        url, certificate=command.certificate, insecure_http=command.insecure_http, timeout=command.timeout
    ) as link:
        delivery = search(link, message)
        member, found = protocol.receive(member, delivery)
        _keep_head(home, member)
        if command.audit:
            if delivery.head is None:
                raise ValueError("audit: must be of a collection whose owner signs heads, got one without")
            asked = ask_audit(
                member, message, delivery.ranking, delivery.head, blocks=command.audit, draw=secrets.token_bytes
            )
            note(console, f"auditing {command.audit} blocks")
            opened = audit(link, asked)
            check_opened(member.card, message, delivery.ranking, delivery.head, opened, audit=asked)
    record = {
        "collection": member.card.collection,
        "scheme": message.request.scheme,
        "head": member.head,
        "audited": command.audit,
        "queries": [_write_matches(*each) for each in zip(command.images, folders, found, strict=True)],
        "seconds": round(time.perf_counter() - begin, 2),
    }
    write_file(command.out / RESULTS, json.dumps(record, default=str, indent=1).encode() + b"\n", replace=False)
    lines = [
        f"{entry['image']}: {match['distance']:4d}  {match['file'] or match['image_id']}"
        for entry in record["queries"]
        for match in entry["matches"]
    ]
    answer(console, record, lines=lines or ["no result"])


def info(command: options.UserInfo, console: CommandConsole) -> None:
    member, _ = _open_member(command.place)
    answer(console, _describe(member))


def _open_member(place: options.UserPlace) -> tuple[protocol.User, Backbone]:
    home = place.home
    if not (home / MEMBER).exists():
        raise FileNotFoundError(f"home: must hold an admission, which `jcbir user join` takes, got {str(home)!r}")
    passphrase = read_passphrase(place.passphrase_file, purpose="your keys")
    member = read_secret(home / MEMBER, passphrase=passphrase, expect=protocol.User)
    member = dataclasses.replace(member, head=_kept_head(home, member))
    digits = check_network(member.card, home / NETWORK, (home / VOUCHER).read_text())
    return member, load_network(home / NETWORK, sha256=digits)


def _kept_head(home: Path, member: protocol.User) -> int:
    """The latest head of this epoch that an answer showed."""
    file = home / HEAD
    if not file.exists():
        return 0
    try:
        kept = json.loads(file.read_text())
        return int(kept["counter"]) if kept["epoch"] == member.card.epoch else 0
    except (ValueError, KeyError, TypeError):
        raise FormatError(f"{file}: holds no head") from None


def _keep_head(home: Path, member: protocol.User) -> None:
    plain = {"epoch": member.card.epoch, "counter": member.head}
    write_file(home / HEAD, json.dumps(plain).encode() + b"\n")


def _compare(found: str, stated: str | None, console: CommandConsole) -> None:
    """Whose admission is it? A signature alone proves only that somebody has a key."""
    if stated is None and sys.stdin.isatty():
        note(console, f"fingerprint of the collection: {found}")
        console.err.print("is this what its owner told you? [y/N] ", end="")
        if input().strip().lower() in ("y", "yes"):
            return
        raise KeyMismatchError("fingerprint: not confirmed")
    if stated is None:
        raise ValueError("fingerprint: give --fingerprint as the owner told you; there is no terminal to ask at")
    if stated.replace(" ", "").lower() != found.replace(" ", ""):
        raise KeyMismatchError(f"fingerprint: the admission has {found}, the owner told {stated}")


def _kept_url(home: Path) -> str:
    file = home / SERVICE
    if not file.exists():
        raise ValueError("cloud: must be given as --cloud, got none: the admission came without an address")
    try:
        return str(json.loads(file.read_text())["cloud"])
    except (ValueError, KeyError, TypeError):
        raise FormatError(f"{file}: holds no address") from None


def _read_photograph(path: Path) -> bytes:
    if path.is_dir():
        raise IsADirectoryError(f"images: must be photographs, got the folder {str(path)!r}")
    if not path.exists():
        raise FileNotFoundError(f"images: must be photographs, got nothing at {str(path)!r}")
    return path.read_bytes()


def _square(path: Path, content: bytes, network: Backbone) -> Any:
    try:
        return square(content, network)
    except ValueError as error:
        raise ValueError(f"images: must be photographs, got {str(path)!r}: {error}") from None


def _result_folders(out: Path, images: Sequence[Path]) -> list[Path]:
    """A folder for each query under its name; none that is there already, and none made before there is an answer."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"out: must be a folder, got the file {str(out)!r}")
    if (out / RESULTS).exists():
        raise FileExistsError(f"out: must be a folder without results, got {str(out)!r}, which has {RESULTS}")
    folders: list[Path] = []
    for path in images:
        same = sum(path.stem == other.stem for other in images[: len(folders)])
        folders.append(out / (f"{path.stem}-{same + 1}" if same else path.stem))
    taken = [folder for folder in folders if folder.exists() or folders.count(folder) > 1]
    if taken:
        raise FileExistsError(f"out: must not hold results of the query yet, got {str(taken[0])!r}")
    return folders


def _write_matches(image: Path, folder: Path, matches: Sequence[protocol.Match]) -> dict[str, Any]:
    folder.mkdir(parents=True)
    lines = []
    for place, match in enumerate(matches, 1):
        file = None
        if match.image is not None:
            file = folder / f"{place:03d}-{match.image_id}.png"
            write_image(file, match.image)
        lines.append({"image_id": match.image_id, "distance": match.distance, "file": file})
    return {"image": image, "folder": folder, "matches": lines}


def _describe(member: protocol.User) -> dict[str, Any]:
    grant = member.grant
    return {
        "collection": member.card.collection,
        "epoch": member.card.epoch,
        "fingerprint": card_fingerprint(member.card),
        "grant": grant.grant_id.hex(),
        "rights": list(grant.rights),
        "max_results": grant.max_results,
        "expires": grant.expires,
        "hybrid": len(grant.sealing_key) > 32,
    }
