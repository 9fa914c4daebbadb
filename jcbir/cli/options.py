"""The options of every command but the owner's: frozen records, nothing else, so that `jcbir --help` is quick.

`tyro` makes the parser of them; a docstring below a field is its help.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from jcbir.cli.demo.options import DemoOptions


@dataclasses.dataclass(frozen=True)
class Output:
    """How to answer."""

    json: bool = False
    """Print one JSON object on standard output, and nothing else there."""


@dataclasses.dataclass(frozen=True)
class Version:
    """Print the version."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class Demo:
    """Photographs to a private search in one process: fine-tune, hash, encrypt, seal, score, rank, open, draw."""

    options: DemoOptions = dataclasses.field(default_factory=DemoOptions)
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class UserInit:
    """Make a user's keys, and the enrollment to send to the owner."""

    home: Path = Path("jcbir-user")
    """Folder of the user's files; secrets in it are under the passphrase."""

    hybrid: bool = False
    """Have results sealed to ML-KEM-768 + X25519: what is recorded today stays closed to a quantum computer later."""

    passphrase_file: Path | None = None
    """First line is the passphrase; without it `JCBIR_PASSPHRASE`, or a prompt."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class UserJoin:
    """Take the owner's admission folder: check who made it, unseal the masking key, keep network and addresses."""

    folder: Positional[Path]
    """What `jcbir owner grant` wrote."""

    fingerprint: str | None = None
    """The collection's fingerprint as its owner told you (`jcbir owner info`); without it you are asked to compare."""

    home: Path = Path("jcbir-user")
    """Folder of the user's files."""

    passphrase_file: Path | None = None
    """First line is the passphrase; without it `JCBIR_PASSPHRASE`, or a prompt."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class UserQuery:
    """Search with photographs: hash, encrypt, ask, open what comes back, write it as PNG with a `results.json`."""

    images: Positional[tuple[Path, ...]]
    """Query photographs; all travel in one message."""

    out: Path
    """Folder for the results: a folder inside it for each query photograph."""

    top: int = 10
    """Results for each photograph."""

    scheme: Literal["packed", "bitsliced", "integer"] = "packed"
    """Ranking scheme; the collection must offer it."""

    cloud: str | None = None
    """Address of the cloud; without it the one that came with the admission."""

    certificate: Path | None = None
    """PEM file of the authority to trust for https instead of the system's."""

    timeout: float = 60.0
    """Seconds to wait for the cloud."""

    home: Path = Path("jcbir-user")
    """Folder of the user's files."""

    passphrase_file: Path | None = None
    """First line is the passphrase; without it `JCBIR_PASSPHRASE`, or a prompt."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class UserInfo:
    """Say which collection this user may search, until when, and under which fingerprint."""

    home: Path = Path("jcbir-user")
    """Folder of the user's files."""

    passphrase_file: Path | None = None
    """First line is the passphrase; without it `JCBIR_PASSPHRASE`, or a prompt."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class Listen:
    """Where a service listens."""

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: int = 8470
    """Port to listen on."""

    certificate: Path | None = None
    """PEM file with the certificate chain; without one there is no TLS."""

    private_key: Path | None = None
    """PEM file with the certificate's private key."""


@dataclasses.dataclass(frozen=True)
class ServeCloud:
    """Serve a collection: takes the owner's orders and users' queries; holds no secret. Ends on Ctrl-C or SIGTERM."""

    card: Path
    """The collection's public file, `collection.public` of the owner's folder."""

    store: Path
    """Folder of the store; made where there is none."""

    authority: str
    """Address of the authority."""

    authority_certificate: Path | None = None
    """PEM file of the authority to trust for https to the authority instead of the system's."""

    workers: int | None = None
    """Scoring processes; without it one for each core but one."""

    listen: Listen = Listen()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class ServeAuthority:
    """Serve as the owner's key holder: decrypts scores, ranks, releases keys. Ends on Ctrl-C or SIGTERM."""

    delegation: Path
    """`authority.secret` of the owner's folder."""

    journal: Path
    """SQLite file of orders and answered requests; made where there is none."""

    passphrase_file: Path | None = None
    """First line is the passphrase; without it `JCBIR_PASSPHRASE`, or a prompt."""

    listen: Listen = Listen(port=8471)
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class StoreInfo:
    """Say what a store holds."""

    store: Positional[Path]
    """Folder of the store."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class StoreVerify:
    """Check every byte of a store: the catalogue's structure, each segment's SHA-256, each place."""

    store: Positional[Path]
    """Folder of the store."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class StoreCompact:
    """Write segments anew without withdrawn images. The store's service must be stopped."""

    store: Positional[Path]
    """Folder of the store."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class StoreBackup:
    """Copy a store as it is at one moment, while others read and write it."""

    store: Positional[Path]
    """Folder of the store."""

    target: Positional[Path]
    """A folder that is empty or not there."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class Cost:
    """Predict bytes, operations and (with `--calibrate`) seconds of an index and of one query, for each scheme."""

    images: int = 100_000
    """Images in the collection."""

    bits: int = 64
    """Length of the hash codes."""

    modulus_bits: Literal[2048, 3072, 4096] = 3072
    """Size of the Paillier modulus."""

    calibrate: bool = False
    """Time this machine first: makes a key and spends some seconds."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class WeightsList:
    """List the pretrained networks that have a name, and whether their file is in the cache."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class WeightsFetch:
    """Fetch a named network into the cache, going on where an earlier call stopped, and check its SHA-256."""

    name: Positional[str]
    """One of `jcbir weights list`."""

    sha256: str | None = None
    """Hash the file must have; needed for a source without a pinned one."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class Foreign:
    """What a foreign checkpoint does not say of itself."""

    layout: Literal["torch", "keras", "keras2019"] | None = None
    """Names of its tensors."""

    depth: Literal[18, 34, 50, 101] | None = None
    """Its depth."""

    sha256: str | None = None
    """Hash the file must have."""


@dataclasses.dataclass(frozen=True)
class WeightsConvert:
    """Write any network that can be read as one safetensors file, with its description and preprocessing inside."""

    place: Positional[str]
    """A name of `jcbir weights list` or a file."""

    out: Positional[Path]
    """File to write."""

    half: bool = False
    """Kernels in float16: half the size."""

    foreign: Foreign = Foreign()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class WeightsCheck:
    """Read a network, run a test picture through it in float32 and with float16 kernels, and report."""

    place: Positional[str]
    """A name of `jcbir weights list` or a file."""

    foreign: Foreign = Foreign()
    output: Output = Output()
