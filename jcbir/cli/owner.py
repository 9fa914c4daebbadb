"""`jcbir owner`: what each command does."""

import json
import secrets
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax

from jcbir.cli import owner_options as options
from jcbir.cli.console import Screen, answer, note, progress
from jcbir.cli.network import keep_programs, load_network, train_network, vouch
from jcbir.cli.outbox import Carrier, carriers, deliver, fetcher, pending, post
from jcbir.cli.passphrase import authority_passphrase, read_passphrase
from jcbir.cli.publish import publish_folder, published_names, withdraw_missing
from jcbir.cli.rekey import discard_epoch, prepared_card, rekey_collection
from jcbir.cli.workspace import (
    CARD,
    DELEGATION,
    GRANTS,
    NETWORK,
    Home,
    Settings,
    check_vacant,
    commit,
    create_home,
    open_home,
)
from jcbir.errors import FormatError
from jcbir.paillier.secret import generate_keys
from jcbir.protocol import owner as protocol, wire
from jcbir.protocol.messages import Enrollment
from jcbir.storage import keys
from jcbir.storage.fetching import file_digest
from jcbir.storage.files import PRIVATE, write_file
from jcbir.storage.keys import card_fingerprint, write_card

ENROLLMENT_BYTES = 1 << 16
ADMISSION, VOUCHER, SERVICE = "admission.jcbir", "network.json", "service.json"


def train(command: options.OwnerTrain, screen: Screen) -> None:
    keep_programs()
    record = _train(command.out, command, command.folder, screen)
    for skipped in record["skipped"]:
        note(screen, f"skipped {skipped['path']}: {skipped['reason']}")
    answer(screen, {"network": command.out, **record})


def init(command: options.OwnerInit, screen: Screen) -> None:
    begin = time.perf_counter()
    home = command.place.home
    check_vacant(home)
    _check_init(command)
    passphrase = read_passphrase(command.place.passphrase_file, purpose="the owner's keys", confirm=True)
    second = authority_passphrase(command.authority_passphrase_file, fallback=passphrase)
    keep_programs()
    with TemporaryDirectory() as folder:
        network = command.network or Path(folder, NETWORK)
        if command.network is None:
            note(screen, "no --network: fine-tuning the bundled one on the bundled photographs")
            _train(network, options.OwnerTrain(network, bits=command.bits), None, screen)
        bits = load_network(network).module.bits
        note(screen, f"making a {command.modulus_bits}-bit Paillier key")
        secret = generate_keys(bits=command.modulus_bits, draw=secrets.token_bytes)
        state = protocol.create(collection=command.collection, bits=bits, secret=secret, draw=secrets.token_bytes)
        settings = Settings(command.schemes, command.cipher, file_digest(network), command.longest_side)
        create_home(
            home, state, settings, network, passphrase=passphrase, authority_passphrase=second, work=keys.WORK
        )  # fmt: skip
    record = {
        **_describe(state),
        "home": home,
        "card": home / CARD,
        "delegation": home / DELEGATION,
        "network": home / NETWORK,
        "seconds": round(time.perf_counter() - begin, 1),
    }
    answer(screen, record)


def publish(command: options.OwnerPublish, screen: Screen) -> None:
    keep_programs()
    with _opened(command.place) as home, carriers(command.links) as links:
        network = load_network(home.path / NETWORK, sha256=home.settings.network)
        sent = _deliver(home, links, screen)
        with progress(screen, "publish") as advance:

            def send(committed: Home) -> None:
                nonlocal sent
                sent += deliver(committed, links)

            home, tally = publish_folder(
                home, command.folder, network=network, segment=command.segment, send=send, advance=advance
            )
            if command.withdraw_missing:
                home = withdraw_missing(home, tally.seen, tally=tally)
                send(home)
        for skipped in tally.skipped:
            note(screen, f"skipped {skipped['path']}: {skipped['reason']}")
        record = {
            "published": tally.published,
            "already": tally.already,
            "copies": tally.copies,
            "withdrawn": tally.withdrawn,
            "segments": tally.segments,
            "in_collection": len(home.owner.image_ids),
            "skipped": tally.skipped,
            "sent": sent,
            "waiting": len(pending(home.path)),
        }
    answer(screen, record, lines=_lines({**record, "skipped": len(tally.skipped)}))


def send(command: options.OwnerSend, screen: Screen) -> None:
    with _opened(command.place) as home, carriers(command.links) as links:
        sent = _deliver(home, links, screen)
        answer(screen, {"sent": sent, "waiting": len(pending(home.path))})


def grant(command: options.OwnerGrant, screen: Screen) -> None:
    if command.out.exists() and any(command.out.iterdir()):
        raise FileExistsError(f"{command.out}: the folder is not empty")
    if command.enrollment.stat().st_size > ENROLLMENT_BYTES:
        raise FormatError(f"{command.enrollment}: not an enrollment")
    enrollment = wire.from_bytes(command.enrollment.read_bytes(), expect=Enrollment)
    with _opened(command.place) as home:
        state, admission = protocol.admit(
            home.owner,
            enrollment,
            now=int(time.time()),
            draw=secrets.token_bytes,
            lifetime=round(command.days * 86400),
            rights=command.rights,
            max_results=command.max_results,
        )
        given = admission.grant
        line = {
            "grant": given.grant_id.hex(),
            "label": command.label,
            "epoch": given.epoch,
            "expires": given.expires,
            "rights": list(given.rights),
            "hybrid": len(given.sealing_key) > 32,
        }
        # Noted before it is handed out: what nobody noted nobody can revoke.
        _write_grants(home, [*_read_grants(home), line])
        command.out.mkdir(parents=True, exist_ok=True)
        write_file(command.out / NETWORK, (home.path / NETWORK).read_bytes())
        voucher = vouch(state.card, command.out / NETWORK, secret=state.signing_secret)
        write_file(command.out / VOUCHER, voucher.encode())
        write_card(command.out / CARD, state.card)
        if command.cloud is not None:
            write_file(command.out / SERVICE, json.dumps({"cloud": command.cloud}).encode() + b"\n")
        write_file(command.out / ADMISSION, wire.to_bytes(admission))
    answer(screen, {**line, "folder": command.out, "fingerprint": card_fingerprint(state.card)})


def revoke(command: options.OwnerRevoke, screen: Screen) -> None:
    if not command.grants:
        raise ValueError("grants: name at least one")
    with _opened(command.place) as home, carriers(command.links) as links:
        lines = _read_grants(home)
        chosen = [_find_grant(lines, name, home.owner.card.epoch) for name in command.grants]
        state, revocation = protocol.revoke(home.owner, [bytes.fromhex(line["grant"]) for line in chosen])
        home = commit(home, state, post(home, [revocation]))
        sent = _deliver(home, links, screen)
        record = {
            "revoked": [line["grant"] for line in chosen],
            "serial": state.revocation_serial,
            "sent": sent,
            "waiting": len(pending(home.path)),
        }
    answer(screen, record)


def rekey(command: options.OwnerRekey, screen: Screen) -> None:
    links = command.links
    if not command.fresh and (links.cloud is None or links.authority is None):
        raise ValueError("cloud and authority: rekey needs both addresses, unless --fresh leaves the two to you")
    with _opened(command.place) as home:
        second = authority_passphrase(command.authority_passphrase_file, fallback=home.passphrase)

        def make() -> protocol.Owner:
            secret = None
            if command.modulus_bits is not None:
                note(screen, f"making a {command.modulus_bits}-bit Paillier key")
                secret = generate_keys(bits=command.modulus_bits, draw=secrets.token_bytes)
            return protocol.rekey(home.owner, draw=secrets.token_bytes, secret=secret)

        if command.fresh:
            discard_epoch(home.path)
            rekeyed, sent = _begin_afresh(home, make(), second), 0
            note(screen, "serve the new files with an empty store and journal; publish and grant again")
        else:
            _check_going_on(home, command.modulus_bits)
            with carriers(links) as opened, fetcher(links) as fetch, progress(screen, "rekey") as advance:
                rekeyed, sent = rekey_collection(
                    home, make, carriers=opened, fetch=fetch, authority_passphrase=second, advance=advance
                )
        record = {
            **_describe(rekeyed.owner),
            "in_collection": len(rekeyed.owner.image_ids),
            "segments": rekeyed.owner.segments,
            "sent": sent,
            "waiting": len(pending(home.path)),
        }
    answer(screen, record)


def info(command: options.OwnerInfo, screen: Screen) -> None:
    with _opened(command.place) as home:
        record = {
            **_describe(home.owner),
            "schemes": list(home.settings.schemes),
            "cipher": home.settings.cipher,
            "published": len(home.owner.image_ids),
            "segments": home.owner.segments,
            "waiting": len(pending(home.path)),
            "grants": [_with_status(line, home) for line in _read_grants(home)],
        }
        known = published_names(home) if command.names else {}
        names = {image_id: {"sha256": entry["sha256"], "path": entry["path"]} for image_id, entry in known.items()}
    if command.names:
        record["names"] = names
    lines = _lines({name: value for name, value in record.items() if name not in ("grants", "names")})
    lines += [f"grant {g['grant']} {g['label']!r} {g['status']}" for g in record["grants"]]
    lines += [f"{image_id}  {entry['path']}" for image_id, entry in names.items()]
    answer(screen, record, lines=lines)


def _opened(place: options.Place) -> Any:
    passphrase = read_passphrase(place.passphrase_file, purpose="the owner's keys")
    return open_home(place.home, passphrase=passphrase, work=keys.WORK)


def _train(out: Path, command: options.OwnerTrain, folder: Path | None, screen: Screen) -> dict[str, Any]:
    with progress(screen, "fine-tune") as advance:
        return train_network(
            jax.random.key(command.seed),
            out,
            folder=folder,
            bits=command.bits,
            epochs=command.epochs,
            progress=lambda step: advance(step.step, step.steps),
        )


def _deliver(home: Home, links: dict[str, Carrier], screen: Screen) -> int:
    with progress(screen, "send") as advance:
        return deliver(home, links, advance=advance)


def _begin_afresh(home: Home, state: protocol.Owner, passphrase: str) -> Home:
    delegation = protocol.delegate(state)
    writers = {
        CARD: partial(write_card, card=state.card),
        DELEGATION: partial(
            keys.write_secret, secret=delegation, passphrase=passphrase, draw=secrets.token_bytes, work=home.work
        ),
    }
    return commit(home, state, writers)


def _check_going_on(home: Home, modulus_bits: int | None) -> None:
    prepared = prepared_card(home.path)
    if modulus_bits is None or prepared is None or prepared.epoch <= home.owner.card.epoch:
        return
    if prepared.public.bits != modulus_bits:
        raise ValueError(
            f"modulus_bits: an interrupted rekey has a key of {prepared.public.bits} bits; go on without the option"
        )


def _check_init(command: options.OwnerInit) -> None:
    if not command.schemes or len(set(command.schemes)) != len(command.schemes):
        raise ValueError(f"schemes: different ones, at least one; got {command.schemes}")
    if command.longest_side is not None and command.longest_side < 1:
        raise ValueError(f"longest_side: at least 1 pixel, got {command.longest_side}")
    if not 1 <= len(command.collection) <= 100:
        raise ValueError(f"collection: a name of 1 to 100 characters, got {len(command.collection)}")


def _describe(state: protocol.Owner) -> dict[str, Any]:
    card = state.card
    return {
        "collection": card.collection,
        "epoch": card.epoch,
        "bits": card.bits,
        "modulus_bits": card.public.bits,
        "fingerprint": card_fingerprint(card),
    }


def _lines(record: dict[str, Any]) -> list[str]:
    return [f"{name.replace('_', ' ')}: {value}" for name, value in record.items()]


def _read_grants(home: Home) -> list[dict[str, Any]]:
    file = home.path / GRANTS
    return json.loads(file.read_text()) if file.exists() else []


def _write_grants(home: Home, lines: Sequence[dict[str, Any]]) -> None:
    write_file(home.path / GRANTS, json.dumps(list(lines), indent=1).encode(), mode=PRIVATE)


def _find_grant(lines: Sequence[dict[str, Any]], name: str, epoch: int) -> dict[str, Any]:
    found = [line for line in lines if line["epoch"] == epoch and name in (line["grant"], line["label"]) and name]
    if len(found) != 1:
        raise ValueError(
            f"grants: {len(found)} grants of this epoch are called {name!r}; `jcbir owner info` lists them"
        )
    return found[0]


def _with_status(line: dict[str, Any], home: Home) -> dict[str, Any]:
    if line["epoch"] != home.owner.card.epoch:
        status = "ended by rekey"
    elif bytes.fromhex(line["grant"]) in home.owner.revoked:
        status = "revoked"
    else:
        status = "in force" if time.time() < line["expires"] else "expired"
    return {**line, "status": status}


__all__ = ["grant", "info", "init", "publish", "rekey", "revoke", "send", "train"]
