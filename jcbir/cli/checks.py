"""Mistakes that need no key to be found: looked for before anything is loaded, so that each costs a moment."""

import importlib.util
import ipaddress
import json
import socket
import urllib.parse
from pathlib import Path

from jcbir.cli import options
from jcbir.cli.passphrase import AUTHORITY_VARIABLE, CLOUD_VARIABLE, VARIABLE, check_passphrase
from jcbir.errors import FormatError
from jcbir.protocol._envelope import ADMISSION_KIND, ENROLLMENT_KIND, MAGIC, VERSION

CARD, OWNER_KEYS, USER_KEYS, MEMBER = "collection.public", "owner.secret", "user.secret", "member.secret"
ADMISSION, SERVICE, IDENTITY, DATABASE = "admission.jcbir", "service.json", "identity.secret", "catalogue.sqlite"
MOST_DAYS = 36_500
MESSAGE_BYTES = 1 << 16
ENROLLMENT_START, ADMISSION_START = (MAGIC + bytes([VERSION, kind]) for kind in (ENROLLMENT_KIND, ADMISSION_KIND))
_STARTS = {
    ENROLLMENT_START: "the enrollment of a user",
    ADMISSION_START: "an admission, which a user joins with",
    **{MAGIC + bytes([version]): "a message that an earlier jcbir wrote" for version in range(1, VERSION)},
    MAGIC: "a message of jcbir",
    b"JCBS": "a secret file of jcbir",
    b"JCBP": "the public file of a collection",
    b"SQLite format 3": "a database",
    b"%PDF": "a PDF",
}
"""How files begin that are often taken for others."""


def check_command(command: object) -> None:
    """Refuse what can be seen to be wrong without opening a key."""
    match command:
        case options.OwnerTrain():
            _check_folder("folder", command.folder)
            _check_optional("labels", command.labels)
        case options.OwnerInit():
            _check_founding(command)
        case options.OwnerPublish():
            _check_folder("folder", command.folder)
            _check_optional("captions", command.captions)
            if command.segment is not None and command.segment < 1:
                raise ValueError(f"segment: must be at least 1 photograph, got {command.segment}")
        case options.OwnerWithdraw() if not command.photographs:
            raise ValueError("photographs: must be at least one path or pseudonym, got none")
        case options.OwnerCaption() if not command.captions:
            raise ValueError("captions: must be at least one photograph and its caption, got none")
        case options.OwnerCaption() if command.links.cloud is None:
            raise ValueError("cloud: must be an address, got none: sealed photographs are taken back from there")
        case options.OwnerGrant():
            _check_grant(command)
        case options.OwnerRevoke() if command.all == bool(command.grants):
            raise ValueError("grants: must be named, or --all given, and not both")
        case options.OwnerRekey():
            alone = command.fresh or command.dry_run
            if not alone and (command.links.cloud is None or command.links.authority is None):
                raise ValueError("cloud, authority: rekey needs both addresses, unless --fresh leaves the two to you")
            if sum([command.fresh, command.refit, command.network is not None]) > 1:
                raise ValueError("fresh, refit, network: must be given one at a time, got more")
            _check_optional("cloud-identity", command.cloud_identity)
            _check_optional("authority-identity", command.authority_identity)
            _check_optional("network", command.network)
        case options.UserInit() if (command.place.home / USER_KEYS).exists():
            home = str(command.place.home)
            raise FileExistsError(f"home: must be a folder without keys, got {home!r}, which has {USER_KEYS}")
        case options.UserJoin():
            _check_joining(command)
        case options.UserQuery():
            _check_query(command)
        case options.UserOpen():
            _check_asking(command)
        case options.CloudInit() | options.AuthorityInit() if (command.folder / IDENTITY).exists():
            folder = str(command.folder)
            raise FileExistsError(f"folder: must be one without an identity, got {folder!r}, which has {IDENTITY}")
        case options.ServeCloud():
            check_address("authority", command.authority, insecure_http=command.insecure_http)
            _check_optional("authority-certificate", command.authority_certificate)
            check_listening(command.listen)
            if not (command.store / DATABASE).exists() and (command.store.is_file() or _holds_something(command.store)):
                raise FileExistsError(f"store: must be a store, or an empty folder, got {_found(command.store)}")
            check_file("card", command.card, f"`{CARD}` of the owner's folder")
            check_file("identity", command.identity, "what `jcbir cloud init` makes")
        case options.ServeAuthority():
            check_listening(command.listen)
            if command.journal.is_dir():
                raise IsADirectoryError(f"journal: must be a file, got {_found(command.journal)}")
            check_file("delegation", command.delegation, "`authority.secret` of the owner's folder")
            check_file("identity", command.identity, "what `jcbir authority init` makes")
        case options.StoreInfo() | options.StoreVerify() | options.StoreCompact() | options.StoreBackup():
            if not (command.store / DATABASE).is_file():
                raise FileNotFoundError(f"store: must be a folder of `jcbir serve cloud`, got {_found(command.store)}")
            target = getattr(command, "target", None)
            if target is not None and (target.is_file() or _holds_something(target)):
                raise FileExistsError(f"target: must be a new or empty folder, got {_found(target)}")
        case options.Cost() if command.images < 1:
            raise ValueError(f"images: must be at least 1, got {command.images}")
        case options.Cost() if command.picture_bytes < 1:
            raise ValueError(f"picture_bytes: must be at least 1, got {command.picture_bytes}")
    links, place = getattr(command, "links", None), getattr(command, "place", None)
    if isinstance(links, options.Links):
        _check_links(links)
    founding = isinstance(command, options.OwnerInit)
    if isinstance(place, options.Place) and not founding and not (place.home / OWNER_KEYS).exists():
        raise FileNotFoundError(
            f"home: must be an owner's folder, which `jcbir owner init` makes, got {_found(place.home)}"
        )


def check_passphrases(command: object) -> None:
    """Refuse a passphrase that nobody will be able to give."""
    match command:
        case options.OwnerInit() | options.OwnerRekey() if not getattr(command, "dry_run", False):
            _check_passphrase(command.authority_passphrase_file, AUTHORITY_VARIABLE, "--authority-passphrase-file")
        case options.ServeCloud():
            _check_passphrase(command.passphrase_file, CLOUD_VARIABLE)
        case options.ServeAuthority():
            _check_passphrase(command.passphrase_file, AUTHORITY_VARIABLE)
    place = getattr(command, "place", None)
    if isinstance(place, options.Place | options.UserPlace):
        _check_passphrase(place.passphrase_file, VARIABLE)


def check_address(name: str, url: str, *, insecure_http: bool) -> None:
    """Refuse what is no address of a service, or one that anybody on the way could read along."""
    _check_extra("httpx")
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{name}: must be an address like https://host:port, got {url!r}") from None
    if parts.scheme not in ("http", "https") or not host:
        meant = f"; https://{url}, perhaps?" if url and "://" not in url else ""
        raise ValueError(f"{name}: must be an address like https://host:port, got {url!r}{meant}")
    if parts.scheme == "http" and not insecure_http and not is_loopback(host):
        raise ValueError(
            f"{name}: must be https, or http to this machine, got {url!r}; --insecure-http allows it, and whoever is "
            "on the way reads and changes what travels"
        )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def find_cloud(command: options.UserQuery | options.UserOpen) -> str:
    """The address given, or the one that came with the admission."""
    file = command.place.home / SERVICE
    if command.cloud is not None:
        return command.cloud
    if not file.exists():
        raise ValueError("cloud: must be given as --cloud, got none: the admission came without an address")
    try:
        return str(json.loads(file.read_text())["cloud"])
    except (ValueError, KeyError, TypeError):
        raise FormatError(f"{file}: holds no address") from None


def check_listening(place: options.Listen) -> None:
    """Refuse a place where no service can listen."""
    _check_extra("starlette")
    _check_extra("uvicorn")
    if place.certificate is not None or place.private_key is not None:
        from jcbir.service.serving import check_certificate

        check_certificate(place.certificate, place.private_key)
    if not 0 <= place.port <= 65535:
        raise ValueError(f"port: must be 0 to 65535, got {place.port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the service does: what an earlier one left in TIME_WAIT is no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise OSError(f"port: must be free, got {place.host}:{place.port}: {error.strerror}") from None


def check_file(name: str, path: Path, meaning: str) -> None:
    """Refuse what is no file."""
    if not path.is_file():
        raise FileNotFoundError(f"{name}: must be {meaning}, got {_found(path)}")


def _check_founding(command: options.OwnerInit) -> None:
    home = command.place.home
    if (home / OWNER_KEYS).exists():
        raise FileExistsError(f"home: must be a folder without an owner, got {str(home)!r}, which has {OWNER_KEYS}")
    if not command.schemes or len(set(command.schemes)) != len(command.schemes):
        raise ValueError(f"schemes: must be different ones, at least one, got {command.schemes}")
    if command.longest_side is not None and command.longest_side < 1:
        raise ValueError(f"longest_side: must be at least 1 pixel, got {command.longest_side}")
    if not 1 <= len(command.collection) <= 100:
        raise ValueError(f"collection: must be a name of 1 to 100 characters, got {len(command.collection)}")
    check_file("cloud-identity", command.cloud_identity, "`identity.public` of `jcbir cloud init`")
    check_file("authority-identity", command.authority_identity, "`identity.public` of `jcbir authority init`")
    if command.network is not None:
        check_file("network", command.network, "a file of `jcbir owner train`")


def _check_grant(command: options.OwnerGrant) -> None:
    if command.out.exists():
        _check_folder("out", command.out)
        if _holds_something(command.out):
            raise FileExistsError(f"out: must be a new or empty folder, got {str(command.out)!r}")
    if not 0 < command.days <= MOST_DAYS:
        raise ValueError(f"days: must be above 0 and at most {MOST_DAYS}, got {command.days:g}")
    for name in ("max_results", "queries_per_day", "images_per_day", "cover"):
        if getattr(command, name) < 1:
            raise ValueError(f"{name}: must be at least 1, got {getattr(command, name)}")
    if command.cloud is not None:
        # Whether the user takes plain http is the user's choice.
        check_address("cloud", command.cloud, insecure_http=True)
    _check_message("enrollment", command.enrollment, ENROLLMENT_START, "the `enrollment.jcbir` of a user")


def _check_joining(command: options.UserJoin) -> None:
    meaning = "the folder that `jcbir owner grant` wrote"
    if not command.folder.is_dir():
        raise NotADirectoryError(f"folder: must be {meaning}, got {_found(command.folder)}")
    if not (command.folder / ADMISSION).is_file():
        raise FileNotFoundError(f"folder: must be {meaning}, got {str(command.folder)!r}, which has no {ADMISSION}")
    _check_message("folder", command.folder / ADMISSION, ADMISSION_START, meaning)
    _check_optional("network", command.network)
    if not (command.place.home / USER_KEYS).exists():
        raise FileNotFoundError(
            f"home: must hold keys, which `jcbir user init` makes, got {_found(command.place.home)}"
        )


def _check_query(command: options.UserQuery) -> None:
    _check_extra("httpx")
    if not command.images:
        raise ValueError("images: must be at least one photograph, got none")
    if command.audit < 0:
        raise ValueError(f"audit: must be at least 0, got {command.audit}")
    if command.top < 1:
        raise ValueError(f"top: must be at least 1, got {command.top}")
    for path in command.images:
        if not path.exists():
            raise FileNotFoundError(f"images: must be photographs or folders of them, got {_found(path)}")
        kind = "" if path.is_dir() else _kind(path)
        if kind:
            raise ValueError(f"images: must be photographs, got {kind}, {str(path)!r}")
    if command.out.exists():
        _check_folder("out", command.out)
    _check_asking(command)


def _check_asking(command: options.UserQuery | options.UserOpen) -> None:
    home = command.place.home
    if command.cloud is not None:
        check_address("cloud", command.cloud, insecure_http=command.insecure_http)
    if not (home / MEMBER).exists():
        raise FileNotFoundError(f"home: must hold an admission, which `jcbir user join` takes, got {_found(home)}")
    if command.cloud is None:
        check_address("cloud", find_cloud(command), insecure_http=command.insecure_http)
    _check_optional("certificate", command.certificate)


def _check_links(links: options.Links) -> None:
    for name, url in (("cloud", links.cloud), ("authority", links.authority)):
        if url is not None:
            check_address(name, url, insecure_http=links.insecure_http)
    _check_optional("certificate", links.certificate)


def _check_message(name: str, path: Path, start: bytes, meaning: str) -> None:
    check_file(name, path, meaning)
    kind = _kind(path)
    if kind != _STARTS[start] or path.stat().st_size > MESSAGE_BYTES:
        raise ValueError(f"{name}: must be {meaning}, got {kind or 'something else'}, {str(path)!r}")


def _check_folder(name: str, path: Path) -> None:
    if not path.is_dir():
        raise NotADirectoryError(f"{name}: must be a folder, got {_found(path)}")


def _holds_something(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


def _check_optional(name: str, path: Path | None) -> None:
    if path is not None:
        check_file(name, path, "a file")


def _check_passphrase(file: Path | None, variable: str, option: str = "--passphrase-file") -> None:
    check_passphrase(file, variable=variable, option=option)


def _check_extra(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(f"{package}: must be installed", name=package)


def _found(path: Path) -> str:
    """What is at a path, for an error."""
    if path.is_dir():
        return f"the folder {str(path)!r}"
    return f"the file {str(path)!r}" if path.exists() else f"nothing at {str(path)!r}"


def _kind(path: Path) -> str:
    """What a file is that is often taken for another one; else nothing."""
    with open(path, "rb") as file:
        start = file.read(512)
    for magic, kind in _STARTS.items():
        if start.startswith(magic):
            return kind
    if not start:
        return "an empty file"
    try:
        # A letter may be cut in two at the end.
        return "" if "\0" in start[:-4].decode() or not start[:-4] else "a text"
    except UnicodeDecodeError:
        return ""
