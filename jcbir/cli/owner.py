"""`jcbir owner`: what each command does."""

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax

from jcbir.cli import options
from jcbir.cli.console import CommandConsole, answer, note, printable, progress
from jcbir.cli.network import found_network, keep_programs, load_network, load_unfitted, vouch
from jcbir.cli.outbox import Carrier, ask_health, carriers, check_addresses, deliver, fetcher, pending, post
from jcbir.cli.passphrase import authority_passphrase, read_passphrase
from jcbir.cli.publish import (
    find_missing,
    fit_network,
    publish_folder,
    published_names,
    withdraw as withdraw_entries,
)
from jcbir.cli.rekey import discard_epoch, prepared_card, rekey_collection
from jcbir.cli.training import train_network
from jcbir.cli.workspace import (
    CARD,
    DELEGATION,
    GRANTS,
    NETWORK,
    Settings,
    Workspace,
    check_vacant,
    commit,
    create_workspace,
    open_workspace,
)
from jcbir.errors import FormatError
from jcbir.models import output_width
from jcbir.paillier.secret import generate_keys
from jcbir.protocol import owner as protocol, wire
from jcbir.protocol.messages import Enrollment
from jcbir.ranking import SCHEMES, SECRET_KEY_KINDS
from jcbir.ranking._table import modulus_length
from jcbir.storage import _keys as keys, card_fingerprint, write_card, write_file
from jcbir.storage._files import PRIVATE, file_digest
from jcbir.storage._identities import read_public

ENROLLMENT_BYTES = 1 << 16
IN_FORCE = "in force"
MOST_DAYS = 36_500
ADMISSION, VOUCHER, SERVICE = "admission.jcbir", "network.json", "service.json"


def train(command: options.OwnerTrain, console: CommandConsole) -> None:
    _check_folder("folder", command.folder)
    if command.labels is not None and not command.labels.is_file():
        raise FileNotFoundError(f"labels: must be a file, got {str(command.labels)!r}")
    keep_programs()
    with progress(console, "learn") as advance:
        record = train_network(
            jax.random.key(command.seed),
            command.out,
            folder=command.folder,
            labels=command.labels,
            label_free=command.label_free,
            tune=command.tune,
            epochs=command.epochs,
            bits=command.bits,
            backbone=command.backbone,
            size=command.size,
            advance=advance,
        )
    _note_skipped(record["skipped"], console)
    for line in record["warnings"]:
        note(console, f"warning: {line}")
    plain = {name: value for name, value in record.items() if name not in ("figures", "warnings", "skipped")}
    lines = _lines({"network": command.out, **plain})
    for name, found in record["figures"].items():
        figures = ", ".join(f"{title} {value}" for title, value in found.items() if title != "photographs")
        lines.append(f"{name}, on {found['photographs']} photographs kept out: {figures}")
    answer(console, {"network": command.out, **record}, lines=lines)


def init(command: options.OwnerInit, console: CommandConsole) -> None:
    begin = time.perf_counter()
    path = command.place.home
    check_vacant(path)
    _check_init(command)
    cloud_key, _ = read_public(command.cloud_identity, side="cloud")
    authority_key, sealing_key = read_public(command.authority_identity, side="authority")
    passphrase = read_passphrase(command.place.passphrase_file, purpose="the owner's keys", confirm=True)
    second = authority_passphrase(command.authority_passphrase_file)
    keep_programs()
    with TemporaryDirectory() as folder:
        network = command.network or Path(folder, NETWORK)
        if command.network is None:
            found_network(network, place=command.backbone, size=command.size, bits=command.bits)
        bits = output_width(load_network(network))
        secret = _make_key(command, bits, console)
        state = protocol.create(
            collection=command.collection,
            bits=bits,
            secret=secret,
            cloud_key=cloud_key,
            authority_key=authority_key,
            authority_sealing_key=sealing_key,
            draw=secrets.token_bytes,
        )
        settings = Settings(command.schemes, command.cipher, file_digest(network), command.longest_side)
        create_workspace(
            path, state, settings, network, passphrase=passphrase, authority_passphrase=second, work=keys.WORK
        )
    record = {
        **_describe(state),
        "home": path,
        "card": path / CARD,
        "delegation": path / DELEGATION,
        "network": path / NETWORK,
        "seconds": round(time.perf_counter() - begin, 1),
    }
    answer(console, record)


def publish(command: options.OwnerPublish, console: CommandConsole) -> None:
    _check_folder("folder", command.folder)
    check_addresses(cloud=command.links.cloud, authority=command.links.authority)
    if command.segment is not None and command.segment < 1:
        raise ValueError(f"segment: must be at least 1 photograph, got {command.segment}")
    keep_programs()
    with _opened(command.place) as workspace, carriers(command.links) as links:
        known: dict[str, Any] = {}
        if not (command.dry_run or command.keep_network):
            workspace, known = _fit(workspace, command.folder, console)
        network = load_network(workspace.path / NETWORK, sha256=workspace.settings.network)
        sent = 0

        def send(committed: Workspace) -> None:
            nonlocal sent
            if not command.dry_run:
                sent += deliver(committed, links)

        with progress(console, "publish") as advance:
            try:
                send(workspace)
                workspace, outcome = publish_folder(
                    workspace, command.folder, network=network, known=known, segment=command.segment,
                    dry_run=command.dry_run, send=send, advance=advance,
                )  # fmt: skip
                _note_skipped(outcome.skipped, console)
                missing = find_missing(workspace, command.folder, outcome) if command.withdraw_missing else {}
                if missing and not command.dry_run:
                    workspace = withdraw_entries(workspace, missing.values())
                    send(workspace)
            except ConnectionError as error:
                waiting = len(pending(workspace.path))
                raise ConnectionError(
                    f"{error}; what is committed waits in {waiting} orders, and the same command goes on"
                ) from None
        record = {
            "dry_run": command.dry_run,
            "published": outcome.published,
            "already": outcome.already,
            "copies": outcome.copies,
            "moved": len(outcome.moved),
            "withdrawn": len(missing),
            "missing": [{"image_id": image_id, **_place(entry)} for image_id, entry in missing.items()],
            "segments": outcome.segments,
            "in_collection": len(workspace.owner.image_ids),
            "skipped": outcome.skipped,
            "sent": sent,
            "waiting": len(pending(workspace.path)),
        }
    lines = _lines({**record, "missing": len(missing), "skipped": len(outcome.skipped)})
    answer(console, record, lines=lines + [f"withdrawn from {e['root']}: {e['path']}" for e in missing.values()])


def withdraw(command: options.OwnerWithdraw, console: CommandConsole) -> None:
    if not command.photographs:
        raise ValueError("photographs: must be at least one path or pseudonym, got none")
    with _opened(command.place) as workspace, carriers(command.links) as links:
        known = published_names(workspace)
        chosen = dict(pair for name in command.photographs for pair in _find_published(known, name).items())
        sent = 0
        if not command.dry_run:
            workspace = withdraw_entries(workspace, chosen.values())
            sent = _deliver(workspace, links, console)
        record = {
            "dry_run": command.dry_run,
            "withdrawn": [{"image_id": image_id, **_place(entry)} for image_id, entry in chosen.items()],
            "in_collection": len(workspace.owner.image_ids),
            "sent": sent,
            "waiting": len(pending(workspace.path)),
        }
    lines = [f"{row['image_id']}  {row['path']}" for row in record["withdrawn"]]
    answer(console, record, lines=lines + _lines({**record, "withdrawn": len(chosen)}))


def list_published(command: options.OwnerList, console: CommandConsole) -> None:
    with _opened(command.place) as workspace:
        known = published_names(workspace)
    rows = [
        {"image_id": image_id, **_place(entry), "sha256": entry["sha256"]}
        for image_id, entry in sorted(known.items(), key=lambda pair: pair[1]["path"])
    ]
    lines = [f"{row['image_id']}  {row['path']}" for row in rows]
    answer(console, {"photographs": rows}, lines=lines or ["nothing is published"])


def send(command: options.OwnerSend, console: CommandConsole) -> None:
    with _opened(command.place) as workspace, carriers(command.links) as links:
        sent = _deliver(workspace, links, console)
        answer(console, {"sent": sent, "waiting": len(pending(workspace.path))})


def status(command: options.OwnerStatus, console: CommandConsole) -> None:
    links = command.links
    check_addresses(cloud=links.cloud, authority=links.authority)
    with _opened(command.place) as workspace:
        card, waiting = workspace.owner.card, [file.name for file in pending(workspace.path)]
    services = {}
    for name, url in (("cloud", links.cloud), ("authority", links.authority)):
        if url is not None:
            try:
                health = ask_health(url, links)
                in_step = health.get("service", name) == name and health.get("epoch") == card.epoch
                services[name] = {"reachable": True, "in_step": in_step, **health}
            except (ConnectionError, ValueError) as error:
                services[name] = {"reachable": False, "in_step": False, "reason": str(error)}
    record = {"collection": card.collection, "epoch": card.epoch, "waiting": waiting, **services}
    lines = [f"{card.collection}, epoch {card.epoch}; {len(waiting)} orders wait"]
    for name, found in services.items():
        reason = "in step" if found["in_step"] else f"another service, or in epoch {found.get('epoch')}"
        lines.append(f"{name}: {reason if found['reachable'] else found['reason']}")
    answer(console, record, lines=lines + waiting)


def grant(command: options.OwnerGrant, console: CommandConsole) -> None:
    if command.out.exists():
        _check_folder("out", command.out)
        if any(command.out.iterdir()):
            raise FileExistsError(f"out: must be a new or empty folder, got {str(command.out)!r}")
    if not 0 < command.days <= MOST_DAYS:
        raise ValueError(f"days: must be above 0 and at most {MOST_DAYS}, got {command.days:g}")
    for name in ("max_results", "queries_per_day", "images_per_day", "cover"):
        if getattr(command, name) < 1:
            raise ValueError(f"{name}: must be at least 1, got {getattr(command, name)}")
    check_addresses(cloud=command.cloud)
    if command.enrollment.stat().st_size > ENROLLMENT_BYTES:
        raise FormatError(f"enrollment: must be the `enrollment.jcbir` of a user, got {str(command.enrollment)!r}")
    enrollment = wire.from_bytes(command.enrollment.read_bytes(), expect=Enrollment)
    with _opened(command.place) as workspace:
        known = [_with_status(line, workspace) for line in _read_grants(workspace)]
        if command.label and any(g["status"] == IN_FORCE and g["label"] == command.label for g in known):
            raise ValueError(f"label: must be one that no grant in force has, got {command.label!r}")
        state, admission = protocol.admit(
            workspace.owner,
            enrollment,
            now=int(time.time()),
            draw=secrets.token_bytes,
            lifetime=round(command.days * 86400),
            rights=command.rights,
            max_results=command.max_results,
            queries_per_day=command.queries_per_day,
            images_per_day=command.images_per_day,
            cover=command.cover,
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
        _write_grants(workspace, [*_read_grants(workspace), line])
        command.out.mkdir(parents=True, exist_ok=True)
        write_file(command.out / NETWORK, (workspace.path / NETWORK).read_bytes())
        voucher = vouch(state.card, command.out / NETWORK, secret=state.signing_secret)
        write_file(command.out / VOUCHER, voucher.encode())
        write_card(command.out / CARD, state.card)
        if command.cloud is not None:
            write_file(command.out / SERVICE, json.dumps({"cloud": command.cloud}).encode() + b"\n")
        write_file(command.out / ADMISSION, wire.to_bytes(admission))
    answer(console, {**line, "folder": command.out, "fingerprint": card_fingerprint(state.card)})


def list_grants(command: options.OwnerGrants, console: CommandConsole) -> None:
    with _opened(command.place) as workspace:
        rows = [_with_status(line, workspace) for line in _read_grants(workspace)]
    answer(console, {"grants": rows}, lines=[_grant_line(row) for row in rows] or ["no grant"])


def revoke(command: options.OwnerRevoke, console: CommandConsole) -> None:
    if command.all == bool(command.grants):
        raise ValueError("grants: must be named, or --all given, and not both")
    with _opened(command.place) as workspace, carriers(command.links) as links:
        known = [_with_status(line, workspace) for line in _read_grants(workspace)]
        standing = [line for line in known if line["status"] == IN_FORCE]
        chosen = standing if command.all else [_find_grant(known, name) for name in command.grants]
        if not chosen:
            raise ValueError("grants: must be in force to be revoked, got none")
        state, revocation = protocol.revoke(workspace.owner, [bytes.fromhex(line["grant"]) for line in chosen])
        workspace = commit(workspace, state, post(workspace, [revocation]))
        sent = _deliver(workspace, links, console)
        record = {
            "revoked": [line["grant"] for line in chosen],
            "serial": state.revocation_serial,
            "sent": sent,
            "waiting": len(pending(workspace.path)),
        }
    answer(console, record)


def rekey(command: options.OwnerRekey, console: CommandConsole) -> None:
    links = command.links
    if not command.fresh and (links.cloud is None or links.authority is None):
        raise ValueError("cloud and authority: rekey needs both addresses, unless --fresh leaves the two to you")
    check_addresses(cloud=links.cloud, authority=links.authority)
    services: dict[str, bytes] = {}
    if command.cloud_identity is not None:
        services["cloud_key"], _ = read_public(command.cloud_identity, side="cloud")
    if command.authority_identity is not None:
        keys_of = read_public(command.authority_identity, side="authority")
        services["authority_key"], services["authority_sealing_key"] = keys_of
    second = authority_passphrase(command.authority_passphrase_file)
    with _opened(command.place) as workspace:
        kind = workspace.owner.card.public.kind
        if command.modulus_bits is not None and SECRET_KEY_KINDS[kind].renew is not None:
            raise ValueError(f"modulus_bits: must be left out for {kind} keys, got {command.modulus_bits}")

        def make() -> protocol.Owner:
            secret = None
            if command.modulus_bits is not None:
                note(console, f"making a {command.modulus_bits}-bit Paillier key")
                secret = generate_keys(bits=command.modulus_bits, draw=secrets.token_bytes)
            return protocol.rekey(workspace.owner, draw=secrets.token_bytes, secret=secret, **services)

        if command.fresh:
            discard_epoch(workspace.path)
            rekeyed, sent = _begin_afresh(workspace, make(), second), 0
            note(console, "serve the new files with an empty store and journal; publish and grant again")
        else:
            _check_going_on(workspace, command.modulus_bits)
            with carriers(links) as opened, fetcher(links) as fetch, progress(console, "rekey") as advance:
                rekeyed, sent = rekey_collection(
                    workspace, make, carriers=opened, fetch=fetch, authority_passphrase=second, advance=advance
                )
        record = {
            **_describe(rekeyed.owner),
            "in_collection": len(rekeyed.owner.image_ids),
            "segments": rekeyed.owner.segments,
            "sent": sent,
            "waiting": len(pending(workspace.path)),
        }
    answer(console, record)


def info(command: options.OwnerInfo, console: CommandConsole) -> None:
    with _opened(command.place) as workspace:
        record = {
            **_describe(workspace.owner),
            "schemes": list(workspace.settings.schemes),
            "cipher": workspace.settings.cipher,
            "published": len(workspace.owner.image_ids),
            "segments": workspace.owner.segments,
            "waiting": len(pending(workspace.path)),
            "grants": [_with_status(line, workspace) for line in _read_grants(workspace)],
        }
        known = published_names(workspace) if command.names else {}
        names = {image_id: {"sha256": entry["sha256"], "path": entry["path"]} for image_id, entry in known.items()}
    if command.names:
        record["names"] = names
    lines = _lines({name: value for name, value in record.items() if name not in ("grants", "names")})
    lines += [f"grant {_grant_line(row)}" for row in record["grants"]]
    lines += [f"{image_id}  {entry['path']}" for image_id, entry in names.items()]
    answer(console, record, lines=lines)


def _opened(place: options.Place) -> Any:
    passphrase = read_passphrase(place.passphrase_file, purpose="the owner's keys")
    return open_workspace(place.home, passphrase=passphrase, work=keys.WORK)


def _fit(workspace: Workspace, folder: Path, console: CommandConsole) -> tuple[Workspace, dict[str, Any]]:
    """Fit a general hash head to the first photographs, while nobody hashes by it yet; their codes."""
    if workspace.owner.image_ids or _read_grants(workspace):
        return workspace, {}
    features = load_unfitted(workspace.path / NETWORK, sha256=workspace.settings.network)
    if features is None:
        return workspace, {}
    with progress(console, "look at photographs") as advance:
        workspace, known = fit_network(workspace, folder, features, advance=advance)
    if known:
        note(
            console,
            f"hash head fitted to {len(known)} of your photographs, without labels (--keep-network leaves it as it is)",
        )
    return workspace, known


def _deliver(workspace: Workspace, links: dict[str, Carrier], console: CommandConsole) -> int:
    with progress(console, "send") as advance:
        return deliver(workspace, links, advance=advance)


def _note_skipped(skipped: Sequence[Mapping[str, str]], console: CommandConsole) -> None:
    for file in skipped:
        note(console, f"skipped {file['path']}: {file['reason']}")


def _check_folder(name: str, path: Path) -> None:
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise NotADirectoryError(f"{name}: must be a folder, got {found} at {str(path)!r}")


def _place(entry: Mapping[str, str]) -> dict[str, str | None]:
    return {"path": entry["path"], "root": entry.get("root")}


def _find_published(known: Mapping[str, Mapping[str, str]], name: str) -> dict[str, Mapping[str, str]]:
    """The published photograph of a pseudonym, or of a path: below its folder, or as the shell completes it."""
    whole = str(Path(name).absolute())
    found = {
        image_id: entry
        for image_id, entry in known.items()
        if name in (image_id, entry["path"], entry.get("file"), printable(entry["path"]))
        or whole == str(Path(entry.get("root", ""), entry.get("file", entry["path"])))
    }
    if len(found) != 1:
        raise ValueError(f"photographs: must each be one that is published, got {len(found)} called {name!r}")
    return found


def _begin_afresh(workspace: Workspace, state: protocol.Owner, passphrase: str) -> Workspace:
    delegation = protocol.delegate(state)
    writers = {
        CARD: partial(write_card, card=state.card),
        DELEGATION: partial(
            keys.write_secret, secret=delegation, passphrase=passphrase, draw=secrets.token_bytes, work=workspace.work
        ),
    }
    return commit(workspace, state, writers)


def _check_going_on(workspace: Workspace, modulus_bits: int | None) -> None:
    prepared = prepared_card(workspace.path)
    if modulus_bits is None or prepared is None or prepared.epoch <= workspace.owner.card.epoch:
        return
    if prepared.public.key.bits != modulus_bits:
        raise ValueError(
            f"modulus_bits: an interrupted rekey has a key of {prepared.public.key.bits} bits; go on without the option"
        )


def _check_init(command: options.OwnerInit) -> None:
    if not command.schemes or len(set(command.schemes)) != len(command.schemes):
        raise ValueError(f"schemes: must be different ones, at least one, got {command.schemes}")
    if len(_key_kinds(command.schemes)) > 1:
        raise ValueError(f"schemes: must be for keys of one kind, and lattice stands alone, got {command.schemes}")
    if command.longest_side is not None and command.longest_side < 1:
        raise ValueError(f"longest_side: must be at least 1 pixel, got {command.longest_side}")
    if not 1 <= len(command.collection) <= 100:
        raise ValueError(f"collection: must be a name of 1 to 100 characters, got {len(command.collection)}")
    if command.network is not None and not command.network.is_file():
        raise FileNotFoundError(f"network: must be a file of `jcbir owner train`, got {str(command.network)!r}")


def _make_key(command: options.OwnerInit, bits: int, console: CommandConsole) -> Any:
    """A key of the kind that the schemes need; one of the codes' length leaves nothing to choose."""
    (kind,) = _key_kinds(command.schemes)
    if SECRET_KEY_KINDS[kind].renew is not None:
        note(console, f"making a {kind} key")
        return SECRET_KEY_KINDS[kind].generate(code_bits=bits, draw=secrets.token_bytes)
    note(console, f"making a {command.modulus_bits}-bit Paillier key")
    return generate_keys(bits=command.modulus_bits, draw=secrets.token_bytes)


def _key_kinds(schemes: Sequence[str]) -> set[str]:
    return {SCHEMES[name].key_kind for name in schemes}


def _describe(state: protocol.Owner) -> dict[str, Any]:
    card = state.card
    return {
        "collection": card.collection,
        "epoch": card.epoch,
        "bits": card.bits,
        "modulus_bits": modulus_length(card.public, bits=card.bits),
        "fingerprint": card_fingerprint(card),
    }


def _lines(record: dict[str, Any]) -> list[str]:
    return [f"{name.replace('_', ' ')}: {value}" for name, value in record.items()]


def _read_grants(workspace: Workspace) -> list[dict[str, Any]]:
    file = workspace.path / GRANTS
    return json.loads(file.read_text()) if file.exists() else []


def _write_grants(workspace: Workspace, lines: Sequence[dict[str, Any]]) -> None:
    write_file(workspace.path / GRANTS, json.dumps(list(lines), indent=1).encode(), mode=PRIVATE)


def _find_grant(known: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """The grant in force of an identifier or a label."""
    found = [g for g in known if g["status"] == IN_FORCE and name in (g["grant"], g["label"]) and name]
    if len(found) != 1:
        raise ValueError(
            f"grants: must each be one in force, got {len(found)} called {name!r}; `jcbir owner grants` lists them"
        )
    return found[0]


def _with_status(line: dict[str, Any], workspace: Workspace) -> dict[str, Any]:
    if line["epoch"] != workspace.owner.card.epoch:
        state = "ended by rekey"
    elif bytes.fromhex(line["grant"]) in workspace.owner.revoked:
        state = "revoked"
    else:
        state = IN_FORCE if time.time() < line["expires"] else "expired"
    return {**line, "status": state}


def _grant_line(row: Mapping[str, Any]) -> str:
    until = datetime.fromtimestamp(row["expires"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{row['grant']} {row['label']!r} {row['status']}, until {until}"
