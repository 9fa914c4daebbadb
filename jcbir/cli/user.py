"""`jcbir user`: what each command does."""

import json
import secrets
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jcbir.cli import options
from jcbir.cli.console import Screen, answer, note
from jcbir.cli.network import check_network, hash_squares, keep_programs, load_network, square
from jcbir.cli.owner import ADMISSION, SERVICE, VOUCHER
from jcbir.cli.passphrase import read_passphrase
from jcbir.cli.workspace import CARD, NETWORK
from jcbir.errors import FormatError, KeyMismatchError
from jcbir.protocol import user as protocol, wire
from jcbir.protocol.messages import Admission
from jcbir.storage import keys
from jcbir.storage.files import write_file
from jcbir.storage.images import write_image
from jcbir.storage.keys import card_fingerprint, read_secret, write_card, write_secret

KEYS, ENROLLMENT, MEMBER = "user.secret", "enrollment.jcbir", "member.secret"
MESSAGE_BYTES = 1 << 16


def init(command: options.UserInit, screen: Screen) -> None:
    if (command.home / KEYS).exists():
        raise FileExistsError(f"{command.home / KEYS}: there are keys already")
    passphrase = read_passphrase(command.passphrase_file, purpose="your keys", confirm=True)
    pair = protocol.make_keys(draw=secrets.token_bytes, hybrid=command.hybrid)
    enrollment = protocol.enroll(pair)
    command.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_file(command.home / ENROLLMENT, wire.to_bytes(enrollment))
    write_secret(
        command.home / KEYS, pair, passphrase=passphrase, draw=secrets.token_bytes, work=keys.WORK
    )  # fmt: skip
    answer(screen, {"home": command.home, "enrollment": command.home / ENROLLMENT, "hybrid": command.hybrid})


def join(command: options.UserJoin, screen: Screen) -> None:
    file = command.folder / ADMISSION
    if file.stat().st_size > MESSAGE_BYTES:
        raise FormatError(f"{file}: not an admission")
    admission = wire.from_bytes(file.read_bytes(), expect=Admission)
    card = admission.card
    _compare(card_fingerprint(card), command.fingerprint, screen)
    check_network(card, command.folder / NETWORK, (command.folder / VOUCHER).read_text())
    network = load_network(command.folder / NETWORK)
    if network.module.bits != card.bits:
        raise KeyMismatchError(f"network: gives {network.module.bits} bits, the collection has {card.bits}")
    passphrase = read_passphrase(command.passphrase_file, purpose="your keys")
    pair = read_secret(command.home / KEYS, passphrase=passphrase, expect=protocol.UserKeys)
    member = protocol.join(pair, admission, owner_key=card.owner_key)
    write_file(command.home / NETWORK, (command.folder / NETWORK).read_bytes())
    write_file(command.home / VOUCHER, (command.folder / VOUCHER).read_bytes())
    write_card(command.home / CARD, card)
    service = command.folder / SERVICE
    if service.exists():
        shutil.copyfile(service, command.home / SERVICE)
    write_secret(
        command.home / MEMBER, member, passphrase=passphrase, draw=secrets.token_bytes, work=keys.WORK, replace=True
    )  # fmt: skip
    answer(screen, _describe(member))


def query(command: options.UserQuery, screen: Screen) -> None:
    from jcbir.service.client import connect, search

    if not command.images:
        raise ValueError("images: at least one photograph")
    begin = time.perf_counter()
    url = command.cloud or _kept_url(command.home)
    member, network = _open_member(command.home, command.passphrase_file)
    squares = [_read_square(path, network) for path in command.images]
    folders = _result_folders(command.out, command.images)
    keep_programs()
    codes = hash_squares(network, squares)
    note(screen, f"asking {url}")
    member, message = protocol.ask(
        member, codes, top=command.top, now=int(time.time()), draw=secrets.token_bytes, scheme=command.scheme
    )
    with connect(url, certificate=command.certificate, timeout=command.timeout) as link:
        delivery = search(link, message)
    member, found = protocol.receive(member, delivery)
    record = {
        "collection": member.card.collection,
        "scheme": command.scheme,
        "queries": [_write_matches(*each) for each in zip(command.images, folders, found, strict=True)],
        "seconds": round(time.perf_counter() - begin, 2),
    }
    write_file(command.out / "results.json", json.dumps(record, default=str, indent=1).encode() + b"\n")
    lines = [
        f"{entry['image']}: {match['distance']:4d}  {match['file'] or match['image_id']}"
        for entry in record["queries"]
        for match in entry["matches"]
    ]
    answer(screen, record, lines=lines or ["no result"])


def info(command: options.UserInfo, screen: Screen) -> None:
    member, _ = _open_member(command.home, command.passphrase_file)
    answer(screen, _describe(member))


def _open_member(home: Path, passphrase_file: Path | None) -> tuple[protocol.User, Any]:
    if not (home / MEMBER).exists():
        raise FileNotFoundError(f"{home}: no admission here; `jcbir user join` takes the owner's")
    passphrase = read_passphrase(passphrase_file, purpose="your keys")
    member = read_secret(home / MEMBER, passphrase=passphrase, expect=protocol.User)
    digits = check_network(member.card, home / NETWORK, (home / VOUCHER).read_text())
    return member, load_network(home / NETWORK, sha256=digits)


def _compare(found: str, stated: str | None, screen: Screen) -> None:
    """Whose admission is it? A signature alone proves only that somebody has a key."""
    if stated is None and sys.stdin.isatty():
        note(screen, f"fingerprint of the collection: {found}")
        screen.err.print("is this what its owner told you? [y/N] ", end="")
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
        raise ValueError("cloud: give --cloud; the admission came without an address")
    try:
        return str(json.loads(file.read_text())["cloud"])
    except (ValueError, KeyError, TypeError):
        raise FormatError(f"{file}: holds no address") from None


def _read_square(path: Path, network: Any) -> Any:
    content = path.read_bytes()
    try:
        return square(content, network)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _result_folders(out: Path, images: Sequence[Path]) -> list[Path]:
    width = len(str(len(images)))
    folders = [out / f"{number:0{width}d}-{path.stem}" for number, path in enumerate(images, 1)]
    for folder in folders:
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(f"{folder}: the folder is not empty")
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    return folders


def _write_matches(image: Path, folder: Path, matches: Sequence[protocol.Match]) -> dict[str, Any]:
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


__all__ = ["info", "init", "join", "query"]
