"""`jcbir user`: what each command does."""

import dataclasses
import hmac
import json
import secrets
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from jcbir.cli import options
from jcbir.cli.checks import ADMISSION, CARD, MEMBER, SERVICE, USER_KEYS, find_cloud
from jcbir.cli.console import CommandConsole, answer, date, note
from jcbir.cli.network import NETWORK, VOUCHER, check_network, find_network, keep_network, open_hasher
from jcbir.cli.passphrase import read_passphrase
from jcbir.cli.results import PAGE, describe_match, save_results
from jcbir.data import decode_image, pictures_below, read_encoded
from jcbir.errors import FormatError, KeyMismatchError
from jcbir.protocol import user as protocol, wire
from jcbir.protocol.audit import ask_audit, check_opened
from jcbir.protocol.messages import Admission, Delivery, Query
from jcbir.storage import (
    _keys as keys,
    card_fingerprint,
    read_secret,
    write_card,
    write_file,
    write_secret,
)
from jcbir.storage._files import PRIVATE

ENROLLMENT = "enrollment.jcbir"
HEAD, USE = "head.json", "use.json"


def init(command: options.UserInit, console: CommandConsole) -> None:
    home = command.place.home
    passphrase = read_passphrase(command.place.passphrase_file, purpose="your keys", confirm=True)
    pair = protocol.make_keys(draw=secrets.token_bytes, hybrid=command.hybrid)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_file(home / ENROLLMENT, wire.to_bytes(protocol.enroll(pair)))
    write_secret(home / USER_KEYS, pair, passphrase=passphrase, draw=secrets.token_bytes, work=keys.WORK)
    answer(console, {"home": home, "enrollment": home / ENROLLMENT, "hybrid": command.hybrid})


def join(command: options.UserJoin, console: CommandConsole) -> None:
    home, file = command.place.home, command.folder / ADMISSION
    admission = wire.from_bytes(file.read_bytes(), expect=Admission)
    card = admission.card
    _compare(card_fingerprint(card), command.fingerprint, console)
    voucher = (command.folder / VOUCHER).read_text()
    given = [command.folder / NETWORK, *([] if command.network is None else [command.network])]
    network, digits = find_network(card, voucher, given)
    # Its program is compiled here and kept: the first query need not wait for that.
    hasher = open_hasher(network, sha256=digits)
    bits = hasher.hash(np.zeros((1, hasher.size, hasher.size, 3), np.uint8)).shape[1]
    if bits != card.bits:
        raise KeyMismatchError(f"network: must give {card.bits} bits as the collection has, got {bits}")
    passphrase = read_passphrase(command.place.passphrase_file, purpose="your keys")
    pair = read_secret(home / USER_KEYS, passphrase=passphrase, expect=protocol.UserKeys)
    member = protocol.join(pair, admission, owner_key=card.owner_key)
    keep_network(network, home, sha256=digits)
    write_file(home / VOUCHER, voucher.encode())
    write_card(home / CARD, card)
    service = command.folder / SERVICE
    if service.exists():
        shutil.copyfile(service, home / SERVICE)
    write_secret(
        home / MEMBER, member, passphrase=passphrase, draw=secrets.token_bytes, work=keys.WORK, replace=True
    )  # fmt: skip
    answer(console, _describe(member))


def query(command: options.UserQuery, console: CommandConsole) -> None:
    from jcbir.service.client import connect

    begin = time.perf_counter()
    home = command.place.home
    candidates = _expand(command.images)
    url = find_cloud(command)
    member, digits = open_member(command.place)
    hasher = open_hasher(home / NETWORK, sha256=digits)
    squares = _squares(candidates, command.images, hasher.size, console)
    codes = hasher.hash(np.stack(list(squares.values())))
    note(console, f"asking {url}")
    with connect(
        url, certificate=command.certificate, insecure_http=command.insecure_http, timeout=command.timeout
    ) as link:
        answered = ask_cloud(
            link, member, codes, home=home, top=command.top, scheme=command.scheme, blocks=command.audit
        )  # fmt: skip
    member, found = answered.member, answered.matches
    about = {
        "collection": member.card.collection,
        "scheme": answered.query.request.scheme,
        "head": member.head,
        "audited": command.audit,
    }
    queries = []
    for image, matches in zip(squares, found, strict=True):
        folder, names = save_results(command.out, image, read_encoded(image), matches, record=about)
        lines = [describe_match(match, name and folder / name) for match, name in zip(matches, names, strict=True)]
        queries.append({"image": image, "folder": folder, "page": folder / PAGE, "matches": lines})
    lines = [
        f"{entry['image']}: {match['distance']:4d}  {match['file'] or match['image_id']}"
        for entry in queries
        for match in entry["matches"]
    ]
    lines += [f"see {entry['page']}" for entry in queries]
    answer(console, {**about, "queries": queries, "seconds": round(time.perf_counter() - begin, 2)}, lines=lines)


class Answered(NamedTuple):
    """An answered query.

    Attributes:
        member: the user's state after it.
        query: what was asked.
        delivery: what came.
        matches: for each query photograph, best first.
        waited: seconds that cloud and authority took, and the way there and back.
    """

    member: protocol.User
    query: Query
    delivery: Delivery
    matches: tuple[tuple[protocol.Match, ...], ...]
    waited: float


def ask_cloud(
    link: Any, member: protocol.User, codes: Any, *, home: Path, top: int, scheme: str, blocks: int
) -> Answered:
    """Ask by codes, open what comes, have blocks of the scores audited; latest head and use are noted in `home`."""
    from jcbir.service.client import audit, search

    member, message = protocol.ask(
        member, codes, top=top, now=int(time.time()), draw=secrets.token_bytes, scheme=scheme
    )
    begin = time.perf_counter()
    delivery = search(link, message)
    waited = time.perf_counter() - begin
    member, found = protocol.receive(member, delivery)
    _keep_head(home, member)
    _keep_use(home, member, found)
    if blocks:
        if delivery.head is None:
            raise ValueError("audit: must be of a collection whose owner signs heads, got one without")
        asked = ask_audit(member, message, delivery.ranking, delivery.head, blocks=blocks, draw=secrets.token_bytes)
        begin = time.perf_counter()
        opened = audit(link, asked)
        waited += time.perf_counter() - begin
        check_opened(member.card, message, delivery.ranking, delivery.head, opened, audit=asked)
    return Answered(member, message, delivery, found, waited)


def used_today(home: Path, member: protocol.User) -> dict[str, Any]:
    """What this folder's queries took from the day's budget: `queries`, and `images` as keyed hashes."""
    day, file = int(time.time()) // 86400, home / USE
    fresh = {"grant": member.grant.grant_id.hex(), "day": day, "queries": 0, "images": []}
    if not file.exists():
        return fresh
    try:
        kept = json.loads(file.read_text())
        same = (kept["grant"], kept["day"]) == (fresh["grant"], day)
        return {**fresh, "queries": int(kept["queries"]), "images": list(kept["images"])} if same else fresh
    except (ValueError, KeyError, TypeError):
        raise FormatError(f"{file}: holds no use of a grant") from None


def info(command: options.UserInfo, console: CommandConsole) -> None:
    member, _ = open_member(command.place)
    answer(console, _describe(member))


def open_member(place: options.UserPlace) -> tuple[protocol.User, str]:
    """The user's state, and the SHA-256 of the network that the owner vouched for."""
    home = place.home
    passphrase = read_passphrase(place.passphrase_file, purpose="your keys")
    member = read_secret(home / MEMBER, passphrase=passphrase, expect=protocol.User)
    member = dataclasses.replace(member, head=_kept_head(home, member))
    return member, check_network(member.card, home / NETWORK, (home / VOUCHER).read_text())


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


def _keep_use(home: Path, member: protocol.User, found: Sequence[Sequence[protocol.Match]]) -> None:
    used, key = used_today(home, member), member.keys.signing_secret
    opened = {match.image_id for matches in found for match in matches if match.photograph is not None}
    # Not the pseudonyms: who reads the folder without the passphrase does not learn what was found.
    images = {hmac.digest(key, image_id.encode(), "sha256")[:8].hex() for image_id in opened}
    plain = {**used, "queries": used["queries"] + len(found), "images": sorted(images.union(used["images"]))}
    write_file(home / USE, json.dumps(plain).encode() + b"\n", mode=PRIVATE)


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


def _expand(paths: Sequence[Path]) -> list[Path]:
    """Query photographs, each once; of a folder every file below it."""
    found = [[file.path for file in pictures_below(path).pictures] if path.is_dir() else [path] for path in paths]
    return list(dict.fromkeys(path for part in found for path in part))


def _squares(
    paths: Sequence[Path], named: Sequence[Path], size: int, console: CommandConsole
) -> dict[Path, UInt8[np.ndarray, "s s 3"]]:
    """Decode query photographs; what is none is left out where it comes from a folder, refused where it was named."""
    squares = {}
    for path in paths:
        try:
            squares[path] = decode_image(read_encoded(path), size=size)
        except ValueError as error:
            if path in named:
                raise ValueError(f"images: must be photographs, got {str(path)!r}: {error}") from None
            note(console, f"skipped {path}: {error}")
    if not squares:
        raise ValueError(f"images: must hold a photograph, got none in {str(named[0])!r}")
    return squares


def _describe(member: protocol.User) -> dict[str, Any]:
    grant = member.grant
    return {
        "collection": member.card.collection,
        "epoch": member.card.epoch,
        "fingerprint": card_fingerprint(member.card),
        "grant": grant.grant_id.hex(),
        "rights": list(grant.rights),
        "max_results": grant.max_results,
        "expires": date(grant.expires),
        "hybrid": len(grant.sealing_key) > 32,
    }
