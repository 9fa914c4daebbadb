"""The options of `jcbir owner`: frozen records, nothing else."""

import dataclasses
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from jcbir.cli.options import Output


@dataclasses.dataclass(frozen=True)
class Place:
    """The owner's folder and how to open it."""

    home: Path = Path("jcbir-owner")
    """Folder of the owner's files; secrets in it are under the passphrase."""

    passphrase_file: Path | None = None
    """First line is the passphrase; without it `JCBIR_PASSPHRASE`, or a prompt."""


@dataclasses.dataclass(frozen=True)
class Links:
    """Where orders go; what has no address waits in the outbox."""

    cloud: str | None = None
    """Address of the cloud."""

    authority: str | None = None
    """Address of the authority."""

    certificate: Path | None = None
    """PEM file of the authority to trust for https instead of the system's."""

    timeout: float = 60.0
    """Seconds to wait for an answer."""


@dataclasses.dataclass(frozen=True)
class OwnerTrain:
    """Fine-tune the bundled network to hash, by central similarity quantization, and write it as one file."""

    out: Path
    """File to write, safetensors."""

    folder: Positional[Path | None] = None
    """Folder of class folders to learn from; without it the CIFAR-10 sample inside the package."""

    bits: int = 64
    """Length of the hash codes."""

    epochs: int = 4
    """Passes over the photographs."""

    seed: int = 0
    """Of initial head, order and augmentation."""

    output: Output = dataclasses.field(default_factory=Output)


@dataclasses.dataclass(frozen=True)
class OwnerInit:
    """Found a collection: make every key, and settle network, schemes and cipher."""

    collection: Positional[str]
    """Name of the collection."""

    network: Path | None = None
    """Hashing network of `jcbir owner train`; without it the bundled one is fine-tuned on the bundled sample."""

    bits: int = 64
    """Length of the hash codes; a given network settles it."""

    modulus_bits: Literal[2048, 3072, 4096] = 3072
    """Size of the Paillier modulus."""

    schemes: tuple[Literal["packed", "bitsliced", "integer"], ...] = ("packed", "bitsliced")
    """Ranking schemes to offer."""

    cipher: Literal["lorenz", "aes-gcm"] = "lorenz"
    """Image cipher inside the AES-GCM envelope; `aes-gcm` adds nothing and is many times faster."""

    longest_side: int | None = None
    """Reduce photographs to so many pixels before sealing; without it they are kept as they are."""

    authority_passphrase_file: Path | None = None
    """Passphrase of `authority.secret`; without it `JCBIR_AUTHORITY_PASSPHRASE`, or the owner's."""

    place: Place = Place()
    output: Output = dataclasses.field(default_factory=Output)


@dataclasses.dataclass(frozen=True)
class OwnerPublish:
    """Publish the new photographs of a folder, segment by segment; an interrupted run is gone on with by the next."""

    folder: Positional[Path]
    """Folder with photographs, at any depth."""

    withdraw_missing: bool = False
    """Withdraw what is published and not in the folder any more."""

    segment: int | None = None
    """Photographs in a segment; without it as many as one bit-sliced ciphertext holds."""

    place: Place = Place()
    links: Links = Links()
    output: Output = dataclasses.field(default_factory=Output)


@dataclasses.dataclass(frozen=True)
class OwnerSend:
    """Send what waits in the outbox."""

    place: Place = Place()
    links: Links = Links()
    output: Output = dataclasses.field(default_factory=Output)


@dataclasses.dataclass(frozen=True)
class OwnerGrant:
    """Admit a user: write a folder with grant, sealed masking key and network for the user to `join`."""

    enrollment: Positional[Path]
    """`enrollment.jcbir` of the user."""

    out: Path
    """Folder to write; to be handed to the user, over any channel."""

    label: str = ""
    """Your own name for this user, to revoke by."""

    days: float = 30.0
    """How long the grant is good for."""

    max_results: int = 100
    """Most results of one query."""

    rights: tuple[Literal["rank", "open"], ...] = ("rank", "open")
    """`rank`: learn pseudonyms and distances; `open`: receive the image keys as well."""

    cloud: str | None = None
    """Address of the cloud, for the user's convenience."""

    place: Place = Place()
    output: Output = dataclasses.field(default_factory=Output)


@dataclasses.dataclass(frozen=True)
class OwnerRevoke:
    """Take grants back: they get no answer from now on. What a user has already, only `rekey` makes worthless."""

    grants: Positional[tuple[str, ...]]
    """Identifiers or labels of grants, as `jcbir owner info` lists them."""

    place: Place = Place()
    links: Links = Links()
    output: Output = dataclasses.field(default_factory=Output)


@dataclasses.dataclass(frozen=True)
class OwnerRekey:
    """Move the collection to a new epoch with new keys: all grants end; an interrupted run is gone on with by the next.

    The sealed images are taken back from the cloud, so the photographs need not be at hand.
    """

    modulus_bits: Literal[2048, 3072, 4096] | None = None
    """Make a new Paillier key of this size too; without it the old one stays."""

    fresh: bool = False
    """Publish and send nothing: the new files go to a cloud and an authority begun anew by hand. For when the
    authority's old key may be in other hands: by it the new one would travel."""

    authority_passphrase_file: Path | None = None
    """Passphrase of `authority.secret`; without it `JCBIR_AUTHORITY_PASSPHRASE`, or the owner's."""

    place: Place = Place()
    links: Links = Links()
    output: Output = dataclasses.field(default_factory=Output)


@dataclasses.dataclass(frozen=True)
class OwnerInfo:
    """Say what is published, what waits in the outbox, who has grants, and the fingerprint to tell users."""

    names: bool = False
    """List pseudonym and photograph of all that is published."""

    place: Place = Place()
    output: Output = dataclasses.field(default_factory=Output)
