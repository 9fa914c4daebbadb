"""`jcbir owner`: what each command does."""

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax

from jcbir.cli import options
from jcbir.cli.checks import ADMISSION, SERVICE
from jcbir.cli.console import CommandConsole, answer, date, note, printable, progress
from jcbir.cli.network import (
    SMALL_NETWORK,
    VOUCHER,
    Parts,
    found_network,
    keep_programs,
    load_network,
    load_parts,
    pixels_seen,
    vouch,
)
from jcbir.cli.outbox import Carrier, ask_health, carriers, deliver, fetcher, pending, post
from jcbir.cli.passphrase import authority_passphrase, read_passphrase
from jcbir.cli.publish import (
    Terms,
    check_caption,
    compare_fit,
    find_missing,
    fit_network,
    hash_features,
    hash_whole,
    publish_folder,
    published_names,
    read_captions,
    recaption,
    withdraw as withdraw_entries,
)
from jcbir.cli.rekey import EPOCH, discard_epoch, interrupted_sending, prepared_card, refitted, rekey_collection
from jcbir.cli.training import train_network
from jcbir.cli.workspace import (
    CARD,
    DELEGATION,
    GRANTS,
    NETWORK,
    Settings,
    Workspace,
    commit,
    create_workspace,
    open_workspace,
)
from jcbir.models import output_width
from jcbir.paillier.secret import generate_keys
from jcbir.protocol import owner as protocol, wire
from jcbir.protocol.messages import Enrollment
from jcbir.ranking import SCHEMES, SECRET_KEY_KINDS
from jcbir.ranking._table import modulus_length
from jcbir.storage import _keys as keys, card_fingerprint, write_card, write_file
from jcbir.storage._files import PRIVATE, file_digest
from jcbir.storage._identities import read_public

IN_FORCE = "in force"
SIDES = ("cloud", "authority")
KEYS = "the owner's keys"


def train(command: options.OwnerTrain, console: CommandConsole) -> None:
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
    _key_kind(command.schemes)
    cloud_key, _ = read_public(command.cloud_identity, side="cloud")
    authority_key, sealing_key = read_public(command.authority_identity, side="authority")
    passphrase = read_passphrase(command.place.passphrase_file, purpose=KEYS, confirm=True)
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


def publish(command: options.OwnerPublish, console: CommandConsole, *, passphrase: str | None = None) -> None:
    captions = {} if command.captions is None else read_captions(command.captions)
    terms = Terms(not command.no_names, not command.no_dates, captions, command.keep_metadata)
    keep_programs()
    with _opened(command.place, passphrase) as workspace, carriers(command.links) as links:
        network, sha256 = workspace.path / NETWORK, workspace.settings.network
        parts = load_parts(network, sha256=sha256)
        if parts is None:
            whole = load_network(network, sha256=sha256)
            size, hash_squares = pixels_seen(whole), hash_whole(whole)
        else:
            if not (command.dry_run or command.keep_network):
                workspace, parts = _fit(workspace, command.folder, parts, terms, console)
            size, hash_squares = pixels_seen(parts.features), hash_features(workspace, parts)
        sent = 0

        def send(committed: Workspace) -> None:
            nonlocal sent, workspace
            workspace = committed
            if not command.dry_run:
                sent += deliver(committed, links)

        with progress(console, "publish") as advance:
            try:
                send(workspace)
                workspace, outcome = publish_folder(
                    workspace, command.folder, size=size, hash_squares=hash_squares, terms=terms,
                    segment=command.segment, dry_run=command.dry_run, send=send, advance=advance,
                )  # fmt: skip
                _note_skipped(outcome.skipped, console)
                for path in outcome.captioned:
                    note(console, f"captions: nothing at {path}")
                for file in outcome.reencoded:
                    note(console, f"encoded anew {file['path']}: {file['reason']}")
                if outcome.recaptioned and not command.dry_run:
                    with fetcher(command.links) as fetch:
                        workspace = recaption(workspace, outcome.recaptioned, fetch=fetch, send=send, advance=advance)
                missing = find_missing(workspace, command.folder, outcome) if command.withdraw_missing else {}
                if missing and not command.dry_run:
                    workspace = withdraw_entries(workspace, missing.values())
                    send(workspace)
            except ConnectionError as error:
                raise _interrupted(error, workspace, "the same command goes on") from None
        compared = {} if parts is None or command.dry_run else _compare(workspace, parts, outcome.published, console)
        record = {
            "dry_run": command.dry_run,
            "published": len(outcome.published),
            "already": outcome.already,
            "copies": outcome.copies,
            "moved": len(outcome.moved),
            "captions_changed": len(outcome.recaptioned),
            "withdrawn": len(missing),
            "missing": [{"image_id": image_id, **_place(entry)} for image_id, entry in missing.items()],
            "segments": outcome.segments,
            "in_collection": len(workspace.owner.image_ids),
            "skipped": outcome.skipped,
            "reencoded": outcome.reencoded,
            **compared,
            "sent": sent,
            "waiting": len(pending(workspace.path)),
        }
    told = {**record, "missing": 0, "skipped": len(outcome.skipped), "reencoded": len(outcome.reencoded)}
    answer(
        console, record, lines=_happened(told) + [f"withdrawn from {e['root']}: {e['path']}" for e in missing.values()]
    )


def withdraw(command: options.OwnerWithdraw, console: CommandConsole, *, passphrase: str | None = None) -> None:
    with _opened(command.place, passphrase) as workspace, carriers(command.links) as links:
        known = published_names(workspace)
        chosen = dict(pair for name in command.photographs for pair in _find_published(known, name, console).items())
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
    answer(console, record, lines=lines + _happened({**record, "withdrawn": len(chosen)}))


def caption(command: options.OwnerCaption, console: CommandConsole, *, passphrase: str | None = None) -> None:
    for _, text in command.captions:
        check_caption(text)
    sent = 0
    with _opened(command.place, passphrase) as workspace, carriers(command.links) as links:
        known = published_names(workspace)
        chosen = {
            image_id: text.strip()
            for name, text in command.captions
            for image_id in _find_published(known, name, console)
        }
        changed = {image_id: text for image_id, text in chosen.items() if known[image_id].get("caption") != text}

        def send(committed: Workspace) -> None:
            nonlocal sent, workspace
            workspace = committed
            sent += deliver(committed, links)

        if not command.dry_run:
            with fetcher(command.links) as fetch, progress(console, "seal anew") as advance:
                try:
                    workspace = recaption(workspace, changed, fetch=fetch, send=send, advance=advance)
                except ConnectionError as error:
                    raise _interrupted(error, workspace, "the same command goes on") from None
        record = {
            "dry_run": command.dry_run,
            "captions": [
                {"image_id": image_id, **_place(known[image_id]), "caption": text} for image_id, text in changed.items()
            ],
            "unchanged": len(chosen) - len(changed),
            "sent": sent,
            "waiting": len(pending(workspace.path)),
        }
    lines = [f"{row['image_id']}  {row['path']}: {row['caption']!r}" for row in record["captions"]]
    answer(console, record, lines=lines + _happened({**record, "captions": len(changed)}))


def list_published(command: options.OwnerList, console: CommandConsole) -> None:
    with _opened(command.place) as workspace:
        known = published_names(workspace)
    rows = [
        {"image_id": image_id, **_place(entry), "sha256": entry["sha256"], "caption": entry.get("caption")}
        for image_id, entry in sorted(known.items(), key=lambda pair: pair[1]["path"])
    ]
    lines = [f"{row['image_id']}  {row['path']}" + (f": {row['caption']!r}" if row["caption"] else "") for row in rows]
    answer(console, {"photographs": rows}, lines=lines or ["nothing is published"])


def send(command: options.OwnerSend, console: CommandConsole, *, passphrase: str | None = None) -> None:
    with _opened(command.place, passphrase) as workspace, carriers(command.links) as links:
        sent = _deliver(workspace, links, console)
        answer(console, {"sent": sent, "waiting": len(pending(workspace.path))})


def status(command: options.OwnerStatus, console: CommandConsole) -> None:
    links = command.links
    with _opened(command.place) as workspace:
        card, waiting = workspace.owner.card, [file.name for file in pending(workspace.path)]
    services = look_at_services(links, epoch=card.epoch)
    record = {"collection": card.collection, "epoch": card.epoch, "waiting": waiting, **services}
    lines = [f"{card.collection}, epoch {card.epoch}; {len(waiting)} orders wait"]
    for name, found in services.items():
        other = found.get("service", name) != name
        elsewhere = f"its address leads to the {found['service']}" if other else f"in epoch {found.get('epoch')}"
        reason = "in step" if found["in_step"] else elsewhere
        if found.get("status") == "degraded":
            reason += "; the authority does not answer it: queries are refused"
        if found.get("status") == "halted":
            reason += "; scores were forged too often: queries are refused until `jcbir owner rekey`"
        lines.append(f"{name}: {reason if found['reachable'] else found['reason']}")
    lines += [f"{name}: no address is given" for name in SIDES if name not in services]
    answer(console, record, lines=lines + waiting)


def look_at_services(links: options.Links, *, epoch: int) -> dict[str, dict[str, Any]]:
    """Ask those that have an address how they are: `reachable`, `in_step`, what they say or why they do not."""
    services = {}
    for name in SIDES:
        url = getattr(links, name)
        if url is not None:
            try:
                health = ask_health(url, links)
                in_step = health.get("service", name) == name and health.get("epoch") == epoch
                services[name] = {**health, "reachable": True, "in_step": in_step}
            except (ConnectionError, ValueError) as error:
                services[name] = {"reachable": False, "in_step": False, "reason": str(error)}
    return services


def with_use(rows: list[dict[str, Any]], state: protocol.Owner, links: options.Links) -> list[dict[str, Any]]:
    """Grants with what each took today, if the authority has an address to be asked at."""
    if links.authority is None:
        return rows
    from jcbir.service.client import connect, inquire

    inquiry = protocol.inquire(state, now=int(time.time()), draw=secrets.token_bytes)
    with connect(
        links.authority, certificate=links.certificate, insecure_http=links.insecure_http, timeout=links.timeout
    ) as link:
        usage = inquire(link, inquiry)
    uses = protocol.check_usage(state, inquiry, usage)
    alarmed = {grant_id.hex() for grant_id in usage.suspended}
    # An alarm ends the answers to a user, under whatever grant.
    suspended = {row.get("user", row["grant"]) for row in rows if row["grant"] in alarmed}
    found = {grant.hex(): {"queries_today": use.queries, "images_today": use.images} for grant, use in uses.items()}
    none = {"queries_today": 0, "images_today": 0}
    return [
        {**row, **found.get(row["grant"], none), "suspended": row.get("user", row["grant"]) in suspended}
        if row["status"] == IN_FORCE
        else row
        for row in rows
    ]


def grant(command: options.OwnerGrant, console: CommandConsole, *, passphrase: str | None = None) -> None:
    enrollment = wire.from_bytes(command.enrollment.read_bytes(), expect=Enrollment)
    with _opened(command.place, passphrase) as workspace:
        standing = [line for line in _read_grants(workspace) if _status(line, workspace) == IN_FORCE]
        if command.label and command.label in {name for line in standing for name in (line["label"], line["grant"])}:
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
            "user": given.signing_key.hex(),
            "label": command.label,
            "epoch": given.epoch,
            "expires": given.expires,
            "rights": list(given.rights),
            "max_results": given.max_results,
            "queries_per_day": given.queries_per_day,
            "images_per_day": given.images_per_day,
            "hybrid": len(given.sealing_key) > 32,
        }
        # Noted before it is handed out: what nobody noted nobody can revoke.
        _write_grants(workspace, [*_read_grants(workspace), line])
        command.out.mkdir(parents=True, exist_ok=True)
        network = workspace.path / NETWORK
        if command.with_network or network.stat().st_size <= SMALL_NETWORK:
            write_file(command.out / NETWORK, network.read_bytes())
            network = command.out / NETWORK
        voucher = vouch(state.card, network, secret=state.signing_secret)
        write_file(command.out / VOUCHER, voucher.encode())
        write_card(command.out / CARD, state.card)
        if command.cloud is not None:
            write_file(command.out / SERVICE, json.dumps({"cloud": command.cloud}).encode() + b"\n")
        write_file(command.out / ADMISSION, wire.to_bytes(admission))
    told = {"expires": date(line["expires"]), "folder": command.out, "network": network}
    record = {**line, **told, "fingerprint": card_fingerprint(state.card)}
    # The user's key says nothing to a reader.
    answer(console, record, lines=_lines({name: value for name, value in record.items() if name != "user"}))


def list_grants(command: options.OwnerGrants, console: CommandConsole) -> None:
    with _opened(command.place) as workspace:
        state, rows = workspace.owner, grants_of(workspace)
    try:
        rows = with_use(rows, state, command.links)
    except ConnectionError as error:
        note(console, f"not known what they took today: {error}")
    answer(console, {"grants": rows}, lines=[_grant_line(row) for row in rows] or ["no grant"])


def revoke(command: options.OwnerRevoke, console: CommandConsole, *, passphrase: str | None = None) -> None:
    with _opened(command.place, passphrase) as workspace, carriers(command.links) as links:
        standing = [line for line in _read_grants(workspace) if _status(line, workspace) == IN_FORCE]
        chosen = standing if command.all else _find_grants(standing, command.grants)
        if not chosen:
            raise ValueError("grants: must be in force to be revoked, got none")
        sent = 0
        if not command.dry_run:
            state, revocation = protocol.revoke(workspace.owner, [bytes.fromhex(line["grant"]) for line in chosen])
            workspace = commit(workspace, state, post(workspace, [revocation]))
            sent = _deliver(workspace, links, console)
        record = {
            "dry_run": command.dry_run,
            "revoked": [line["grant"] for line in chosen],
            "serial": workspace.owner.revocation_serial,
            "sent": sent,
            "waiting": len(pending(workspace.path)),
        }
        lines = [_grant_line(_with_status(line, workspace)) for line in chosen]
    answer(console, record, lines=lines + _happened({**record, "revoked": len(chosen)}))


def rekey(
    command: options.OwnerRekey,
    console: CommandConsole,
    *,
    passphrase: str | None = None,
    authority: str | None = None,
) -> None:
    links = command.links
    services: dict[str, bytes] = {}
    if command.cloud_identity is not None:
        services["cloud_key"], _ = read_public(command.cloud_identity, side="cloud")
    if command.authority_identity is not None:
        keys_of = read_public(command.authority_identity, side="authority")
        services["authority_key"], services["authority_sealing_key"] = keys_of
    if command.dry_run:
        with _opened(command.place, passphrase) as workspace:
            _check_modulus_bits(workspace, command.modulus_bits)
            return answer(console, _foresee_rekey(workspace, command))
    second = authority or authority_passphrase(command.authority_passphrase_file)
    with _opened(command.place, passphrase) as workspace:
        _check_modulus_bits(workspace, command.modulus_bits)

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
            _check_going_on(workspace, command)
            with carriers(links) as opened, fetcher(links) as fetch, progress(console, "rekey") as advance:
                try:
                    rekeyed, sent = rekey_collection(
                        workspace, make, carriers=opened, fetch=fetch, authority_passphrase=second,
                        write_other=_other_network(workspace, command, console), advance=advance,
                    )  # fmt: skip
                except ConnectionError as error:
                    raise _interrupted(error, workspace, "the same command goes on") from None
        record = {
            "dry_run": False,
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
            "grants": grants_of(workspace),
        }
        known = published_names(workspace) if command.names else {}
        names = {image_id: {"sha256": entry["sha256"], "path": entry["path"]} for image_id, entry in known.items()}
    if command.names:
        record["names"] = names
    lines = _lines({name: value for name, value in record.items() if name not in ("grants", "names")})
    lines += [f"grant {_grant_line(row)}" for row in record["grants"]]
    lines += [f"{image_id}  {entry['path']}" for image_id, entry in names.items()]
    answer(console, record, lines=lines)


def _opened(place: options.Place, passphrase: str | None = None) -> Any:
    found = passphrase or read_passphrase(place.passphrase_file, purpose=KEYS)
    return open_workspace(place.home, passphrase=found, work=keys.WORK)


def _fit(
    workspace: Workspace, folder: Path, parts: Parts, terms: Terms, console: CommandConsole
) -> tuple[Workspace, Parts]:
    """Fit a general hash head to the first photographs, while nobody hashes by it yet."""
    if parts.fitted or workspace.owner.image_ids or _read_grants(workspace):
        return workspace, parts
    with progress(console, "look at photographs") as advance:
        workspace, parts, count = fit_network(workspace, folder, parts, terms=terms, advance=advance)
    if count:
        note(
            console, f"hash head fitted to {count} of your photographs, without labels (--keep-network leaves it alone)"
        )
    return workspace, parts


def _compare(workspace: Workspace, parts: Parts, new: set[str], console: CommandConsole) -> dict[str, float]:
    """Whether the hash head fits what was published now; nothing where too few photographs could tell."""
    fit = compare_fit(workspace, parts, new)
    if fit is None:
        return {}
    if fit.lost:
        note(
            console,
            "warning: the hash head fits these photographs less well than earlier ones: what it finds for them is "
            f"{fit.new:.2f} as near as it could be, for earlier ones {fit.before:.2f}; `jcbir owner rekey --refit` "
            "fits it to all of them (a new epoch: grants end)",
        )
    return {"nearness": round(fit.new, 3), "nearness_before": round(fit.before, 3)}


def _deliver(workspace: Workspace, links: dict[str, Carrier], console: CommandConsole) -> int:
    with progress(console, "send") as advance:
        try:
            return deliver(workspace, links, advance=advance)
        except ConnectionError as error:
            raise _interrupted(error, workspace, "`jcbir owner send` goes on") from None


def _interrupted(error: ConnectionError, workspace: Workspace, going_on: str) -> ConnectionError:
    """What is safe although a service cannot be reached, and what to do when it can."""
    published, waiting = len(workspace.owner.image_ids), len(pending(workspace.path))
    return ConnectionError(
        f"{error}; what is committed, {published} photographs in all, waits in {waiting} orders of the outbox, and "
        f"{going_on}"
    )


def _note_skipped(skipped: Sequence[Mapping[str, str]], console: CommandConsole) -> None:
    for file in skipped:
        note(console, f"skipped {file['path']}: {file['reason']}")


def _place(entry: Mapping[str, str]) -> dict[str, str | None]:
    return {"path": entry["path"], "root": entry.get("root")}


def _find_published(
    known: Mapping[str, Mapping[str, str]], name: str, console: CommandConsole
) -> dict[str, Mapping[str, str]]:
    """The published photograph of a pseudonym, or of a path: below its folder, or as the shell completes it."""
    whole = str(Path(name).absolute())
    found = {
        image_id: entry
        for image_id, entry in known.items()
        if name in (image_id, entry["path"], entry.get("file"), printable(entry["path"]))
        or whole == str(Path(entry.get("root", ""), entry.get("file", entry["path"])))
    } or _find_copy(known, name, console)
    if len(found) != 1:
        raise ValueError(
            f"photographs: must each be one that is published, got {len(found) or 'none'} called {name!r}; "
            "`jcbir owner list` lists them"
        )
    return found


def _find_copy(
    known: Mapping[str, Mapping[str, str]], name: str, console: CommandConsole
) -> dict[str, Mapping[str, str]]:
    """The photograph that was published from another place, by the file in this one: both are of the same bytes."""
    places = [Path(root, name) for root in sorted({"", *(entry.get("root", "") for entry in known.values())})]
    copies = {file_digest(file) for file in places if file.is_file()}
    found = {image_id: entry for image_id, entry in known.items() if entry["sha256"] in copies}
    for entry in found.values():
        note(console, f"{name} shows the same photograph as {entry['path']}, published from {entry.get('root')}")
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


def _foresee_rekey(workspace: Workspace, command: options.OwnerRekey) -> dict[str, Any]:
    """What a rekey would do."""
    owner, prepared = workspace.owner, prepared_card(workspace.path)
    ended = [line["grant"] for line in _read_grants(workspace) if _status(line, workspace) == IN_FORCE]
    return {
        "dry_run": True,
        "collection": owner.card.collection,
        "epoch": owner.card.epoch + 1,
        "modulus_bits": command.modulus_bits or modulus_length(owner.card.public, bits=owner.card.bits),
        "going_on": not command.fresh and prepared is not None and prepared.epoch == owner.card.epoch + 1,
        "images_taken_back": 0 if command.fresh else len(owner.image_ids),
        "grants_ended": ended,
        "waiting": len(pending(workspace.path)),
    }


def _check_modulus_bits(workspace: Workspace, modulus_bits: int | None) -> None:
    kind = workspace.owner.card.public.kind
    if modulus_bits is not None and SECRET_KEY_KINDS[kind].renew is not None:
        raise ValueError(f"modulus_bits: must be left out for {kind} keys, got {modulus_bits}")


def _other_network(
    workspace: Workspace, command: options.OwnerRekey, console: CommandConsole
) -> Callable[[Path], None] | None:
    """What writes the network that the options ask for; None where the collection keeps its own."""
    given = command.network
    if given is not None:
        return lambda path: write_file(path, given.read_bytes())

    def write(path: Path) -> None:
        note(console, f"hash head fitted to {refitted(workspace, path)} of your photographs, without labels")

    return write if command.refit else None


def _check_going_on(workspace: Workspace, command: options.OwnerRekey) -> None:
    """Refuse what an interrupted rekey, which is gone on with, settled in another way."""
    prepared, sending = prepared_card(workspace.path), interrupted_sending(workspace.path)
    if prepared is None or not (sending or prepared.epoch > workspace.owner.card.epoch):
        return
    if command.modulus_bits is not None and prepared.public.key.bits != command.modulus_bits:
        raise ValueError(
            f"modulus_bits: an interrupted rekey has a key of {prepared.public.key.bits} bits; go on without the option"
        )
    network = file_digest(workspace.path / EPOCH / NETWORK)
    # Of one that is only being sent nobody can say any more whether its head was fitted.
    keeps = command.refit and not sending and network == workspace.settings.network
    if keeps or (command.network is not None and network != file_digest(command.network)):
        raise ValueError("refit, network: an interrupted rekey has another hash head; go on without the option")


def _make_key(command: options.OwnerInit, bits: int, console: CommandConsole) -> Any:
    """A key of the kind that the schemes need; one of the codes' length leaves nothing to choose."""
    kind = _key_kind(command.schemes)
    if SECRET_KEY_KINDS[kind].renew is not None:
        note(console, f"making a {kind} key")
        return SECRET_KEY_KINDS[kind].generate(code_bits=bits, draw=secrets.token_bytes)
    note(console, f"making a {command.modulus_bits}-bit Paillier key")
    return generate_keys(bits=command.modulus_bits, draw=secrets.token_bytes)


def _key_kind(schemes: Sequence[str]) -> str:
    """The one kind of key that all the schemes rank under."""
    kinds = {SCHEMES[name].key_kind for name in schemes}
    if len(kinds) > 1:
        raise ValueError(f"schemes: must be for keys of one kind, and lattice stands alone, got {schemes}")
    return kinds.pop()


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


def _happened(record: dict[str, Any]) -> list[str]:
    """A line for each field but those of what did not happen; how much there is in the end is told in any case."""
    return _lines({name: value for name, value in record.items() if value or name == "in_collection"})


def _read_grants(workspace: Workspace) -> list[dict[str, Any]]:
    file = workspace.path / GRANTS
    return json.loads(file.read_text()) if file.exists() else []


def _write_grants(workspace: Workspace, lines: Sequence[dict[str, Any]]) -> None:
    write_file(workspace.path / GRANTS, json.dumps(list(lines), indent=1).encode(), mode=PRIVATE)


def _find_grants(standing: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """The grants in force of identifiers and labels; of a label that several share, all."""
    for name in names:
        if not name or not any(name in (line["grant"], line["label"]) for line in standing):
            raise ValueError(
                f"grants: must each be one in force, got none called {name!r}; `jcbir owner grants` lists them"
            )
    return [line for line in standing if {line["grant"], line["label"]} & set(names)]


def grants_of(workspace: Workspace) -> list[dict[str, Any]]:
    """The grants that were given, with their status."""
    return [_with_status(line, workspace) for line in _read_grants(workspace)]


def _status(line: Mapping[str, Any], workspace: Workspace) -> str:
    if line["epoch"] != workspace.owner.card.epoch:
        return "ended by rekey"
    if bytes.fromhex(line["grant"]) in workspace.owner.revoked:
        return "revoked"
    return IN_FORCE if time.time() < line["expires"] else "expired"


def _with_status(line: Mapping[str, Any], workspace: Workspace) -> dict[str, Any]:
    return {**line, "expires": date(line["expires"]), "status": _status(line, workspace)}


def _grant_line(row: Mapping[str, Any]) -> str:
    today = f"; today {row['queries_today']} queries, {row['images_today']} pictures" if "queries_today" in row else ""
    stopped = "; suspended: scores of a query of its user were forged" if row.get("suspended") else ""
    return f"{row['grant']} {row['label']!r} {row['status']}, until {row['expires']}{today}{stopped}"
