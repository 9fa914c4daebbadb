"""The options of every command: frozen records, nothing else, so that `jcbir --help` is quick.

`tyro` makes the parser of them; a docstring below a field is its help.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal, Optional

from tyro.conf import Positional, arg, subcommand

# Spelled `Optional`: for any other spelling of a union tyro loads typeguard, a third of the time of `--help`.
SomePath = Annotated[Optional[Path], arg(metavar="PATH", help_behavior_hint="(optional)")]
SomeText = Annotated[Optional[str], arg(metavar="TEXT", help_behavior_hint="(optional)")]
SomeNumber = Annotated[Optional[int], arg(metavar="INT", help_behavior_hint="(optional)")]
Url = Annotated[str, arg(metavar="URL")]
SomeUrl = Annotated[Optional[str], arg(metavar="URL", help_behavior_hint="(optional)")]
SchemeName = Literal["packed", "bitsliced", "integer", "lattice"]
AskedScheme = Annotated[
    Optional[SchemeName], arg(metavar="{packed,bitsliced,integer,lattice}", help_behavior_hint="(optional)")
]


@dataclasses.dataclass(frozen=True)
class Output:
    """How to answer."""

    json: bool = False
    """Print one JSON object on standard output, and nothing else there."""


@dataclasses.dataclass(frozen=True)
class Place:
    """The owner's folder and how to open it."""

    home: Path = Path("jcbir-owner")
    """Folder of the owner's files; secrets in it are under the passphrase."""

    passphrase_file: SomePath = None
    """First line is the passphrase; without it `JCBIR_PASSPHRASE`, or a prompt."""


@dataclasses.dataclass(frozen=True)
class Links:
    """Where orders go; what has no address waits in the outbox."""

    cloud: SomeUrl = None
    """Address of the cloud."""

    authority: SomeUrl = None
    """Address of the authority."""

    certificate: SomePath = None
    """PEM file of the authority to trust for https instead of the system's."""

    insecure_http: bool = False
    """Allow plain `http://` beyond this machine: whoever is on the way reads and changes what travels."""

    timeout: float = 60.0
    """Seconds to wait for an answer."""


@dataclasses.dataclass(frozen=True)
class OwnerTrain:
    """Learn to hash from labelled photographs, by central similarity quantization, and write the network as one file.

    A part of the photographs is kept out of training; what the network finds among these is printed, beside what
    it finds without labels.
    """

    folder: Positional[Path]
    """Folder of class folders to learn from."""

    out: Path
    """File to write, safetensors."""

    labels: SomePath = None
    """File with a line for each photograph: `path label` by name (several as `path a;b`), the same as a CSV table with
    or without header, or `path 0 1 0 ...`, a 0 or 1 a class; paths from the folder on. Without it the class folders are
    the labels."""

    label_free: bool = False
    """Learn from the photographs alone, without labels."""

    tune: Literal["none", "last", "all"] = "none"
    """Fine-tune the network below the hash head too: its last stage, or all of it. Minutes to hours; the file then
    holds the whole network."""

    epochs: int = 4
    """With `tune`: passes over the photographs."""

    bits: int = 64
    """Length of the hash codes."""

    backbone: SomeText = None
    """Network below the hash head: a name of `jcbir weights list` or a file; without it the ImageNet ResNet50 inside
    the package."""

    size: int = 160
    """Photographs are seen as squares of so many pixels."""

    seed: int = 0
    """Of head, order, augmentation, and of which photographs are kept out."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class OwnerInit:
    """Found a collection: make every key, and settle network, schemes and cipher."""

    collection: Positional[str]
    """Name of the collection."""

    cloud_identity: Path
    """`identity.public` of `jcbir cloud init`: only what this cloud signs is opened."""

    authority_identity: Path
    """`identity.public` of `jcbir authority init`: only this authority ranks."""

    network: SomePath = None
    """Hashing network of `jcbir owner train`; without it the ImageNet ResNet50 with a general hash head, which
    the first `jcbir owner publish` fits to the photographs."""

    bits: Literal[16, 32, 48, 64, 128] = 64
    """Length of the hash codes; a given network settles it."""

    backbone: SomeText = None
    """Network below the hash head: a name of `jcbir weights list` or a file; without it the ImageNet ResNet50 inside
    the package."""

    size: int = 160
    """Photographs are seen as squares of so many pixels; a given network settles it."""

    modulus_bits: Literal[2048, 3072, 4096] = 3072
    """Size of the Paillier modulus; keys of `lattice` have one of their own."""

    schemes: Annotated[tuple[SchemeName, ...], arg(aliases=["--scheme"])] = (
        "packed",
        "bitsliced",
    )
    """Ranking schemes to offer. `lattice` is another kind of collection and stands alone: it hides queries from the
    cloud, and codes and queries from the authority, one query at a time. It is experimental: nobody outside has
    reviewed it."""

    cipher: Literal["lorenz", "aes-gcm"] = "lorenz"
    """Image cipher inside the AES-GCM envelope; `aes-gcm` adds nothing and is many times faster."""

    longest_side: SomeNumber = None
    """Reduce photographs to so many pixels before sealing; without it they are kept as they are."""

    authority_passphrase_file: SomePath = None
    """First line is the passphrase of `authority.secret`; without it `JCBIR_AUTHORITY_PASSPHRASE`, or a prompt."""

    place: Place = Place()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class OwnerPublish:
    """Publish the new photographs of a folder, segment by segment; an interrupted run is gone on with by the next."""

    folder: Positional[Path]
    """Folder with photographs, at any depth."""

    withdraw_missing: bool = False
    """Withdraw what was published from this folder and is deleted; refused while anything in it cannot be read."""

    dry_run: bool = False
    """Change nothing; say what would be published and withdrawn."""

    keep_network: bool = False
    """Leave the general hash head as it is. Otherwise the first photographs, 24 or more, teach it what sets them apart,
    while nothing is published and nobody has a grant."""

    captions: SomePath = None
    """CSV file with a row `path,caption` for each photograph that has one; paths are those below the folder. What is
    published with another caption gets this one."""

    no_names: bool = False
    """Do not tell users the names of the files."""

    no_dates: bool = False
    """Do not tell users when the photographs were taken."""

    keep_metadata: bool = False
    """Publish each file byte for byte, with place, camera and whatever else is noted in it."""

    segment: SomeNumber = None
    """Photographs in a segment; without it as many as one bit-sliced ciphertext holds."""

    place: Place = Place()
    links: Links = Links()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class OwnerWithdraw:
    """Withdraw photographs: they leave index and store, and no query finds them."""

    photographs: Positional[tuple[str, ...]]
    """Paths or pseudonyms, as `jcbir owner list` has them; a copy of a photograph in another place stands for it."""

    dry_run: bool = False
    """Change nothing; say what would be withdrawn."""

    place: Place = Place()
    links: Links = Links()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class OwnerCaption:
    """Give published photographs other captions: each is taken back from the cloud and sealed anew, as it was but for
    the caption. The cloud sees which."""

    captions: Positional[Annotated[tuple[tuple[str, str], ...], arg(metavar="PHOTOGRAPH CAPTION [...]")]]
    """A path or pseudonym, as `jcbir owner list` has it, and the caption, for each photograph; an empty one takes the
    caption away."""

    dry_run: bool = False
    """Change nothing; say which captions would change."""

    place: Place = Place()
    links: Links = Links()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class OwnerList:
    """List what is published: pseudonym, path and caption of the photograph."""

    place: Place = Place()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class OwnerStatus:
    """Say whether cloud and authority can be reached and are in the owner's epoch, and which orders wait."""

    place: Place = Place()
    links: Links = Links()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class OwnerGrants:
    """List the grants: whose, for how long, whether in force; of an authority that is named, what each took today."""

    place: Place = Place()
    links: Links = Links()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class OwnerSend:
    """Send what waits in the outbox."""

    place: Place = Place()
    links: Links = Links()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class OwnerGrant:
    """Admit a user: write a folder with grant, sealed masking key and network for the user to `join`."""

    enrollment: Positional[Path]
    """`enrollment.jcbir` of the user."""

    out: Path
    """Folder to write; to be handed to the user, over any channel."""

    label: str = ""
    """Your own name for this user, to revoke by; no two grants in force share one."""

    days: float = 30.0
    """How long the grant is good for."""

    max_results: int = 100
    """Most results of one query."""

    queries_per_day: int = 200
    """Most query photographs in a day."""

    images_per_day: int = 500
    """Most different pictures received in a day."""

    cover: int = 1
    """For each result the cloud hands over a fixed random bucket of so many images and cannot tell which of them it
    was; answers are so many times longer."""

    rights: tuple[Literal["rank", "open"], ...] = ("rank", "open")
    """`rank`: learn pseudonyms and distances; `open`: receive the image keys as well."""

    with_network: bool = False
    """Put the network into the folder even if it has more than 4 MB; without this it is handed over once, apart."""

    cloud: SomeUrl = None
    """Address of the cloud, for the user's convenience."""

    place: Place = Place()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class OwnerRevoke:
    """Take grants back: they get no answer from now on. What a user has already, only `rekey` makes worthless."""

    grants: Positional[tuple[str, ...]] = ()
    """Identifiers or labels of grants, as `jcbir owner grants` lists them; a label that several share means all."""

    all: bool = False
    """Revoke every grant in force."""

    dry_run: bool = False
    """Change nothing; say what would be revoked."""

    place: Place = Place()
    links: Links = Links()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class OwnerRekey:
    """Move the collection to a new epoch with new keys: all grants end; an interrupted run is gone on with by the next.

    The sealed images are taken back from the cloud, so the photographs need not be at hand.
    """

    modulus_bits: Annotated[
        Optional[Literal[2048, 3072, 4096]], arg(metavar="{2048,3072,4096}", help_behavior_hint="(optional)")
    ] = None
    """Make a new Paillier key of this size too; without it the old one stays. A lattice key is made anew each time."""

    cloud_identity: SomePath = None
    """`identity.public` of another cloud; without it the old one stays."""

    authority_identity: SomePath = None
    """`identity.public` of another authority; without it the old one stays."""

    refit: bool = False
    """Fit a label-free hash head to the photographs that are published now, and hash them all anew by it. Without this
    codes stay as they are."""

    network: SomePath = None
    """Hash all photographs anew by this network of `jcbir owner train`: another head on the same network below it."""

    fresh: bool = False
    """Publish and send nothing: the new files go to a cloud and an authority begun anew by hand. For when the
    authority's old key may be in other hands: by it the new one would travel."""

    dry_run: bool = False
    """Change nothing; say what would be moved, and which grants would end."""

    authority_passphrase_file: SomePath = None
    """First line is the passphrase of `authority.secret`; without it `JCBIR_AUTHORITY_PASSPHRASE`, or a prompt."""

    place: Place = Place()
    links: Links = Links()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class OwnerInfo:
    """Say what is published, what waits in the outbox, who has grants, and the fingerprint to tell users."""

    names: bool = False
    """List pseudonym and photograph of all that is published."""

    place: Place = Place()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class PageServer:
    """Where the page is: on this machine alone, behind a link that is good once."""

    port: int = 0
    """Port to listen on; 0 takes a free one."""

    browser: bool = False
    """Open the link in the browser. For a moment it then shows in this machine's list of processes."""


@dataclasses.dataclass(frozen=True)
class OwnerOpen:
    """Look after the collection on a local page in the browser: publish, admit, revoke, re-key. Ctrl-C ends it."""

    album: Path = Path("jcbir-album")
    """Folder that photographs dropped onto the page are copied to, and published from."""

    admissions: Path = Path("jcbir-admissions")
    """Folder that admissions of users are written to, each in a folder of its own."""

    page: PageServer = PageServer()
    place: Place = Place()
    links: Links = Links()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class UserPlace:
    """The user's folder and how to open it."""

    home: Path = Path("jcbir-user")
    """Folder of the user's files; secrets in it are under the passphrase."""

    passphrase_file: SomePath = None
    """First line is the passphrase; without it `JCBIR_PASSPHRASE`, or a prompt."""


@dataclasses.dataclass(frozen=True)
class UserInit:
    """Make a user's keys, and the enrollment to send to the owner."""

    hybrid: bool = False
    """Have results sealed to ML-KEM-768 + X25519: a quantum computer later does not open recorded results. It does
    open a recorded index and recorded queries: Paillier is not post-quantum."""

    place: UserPlace = UserPlace()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class UserJoin:
    """Take the owner's admission folder: check who made it, unseal the masking key, keep network and addresses."""

    folder: Positional[Path]
    """What `jcbir owner grant` wrote."""

    fingerprint: SomeText = None
    """The collection's fingerprint as its owner told you (`jcbir owner info`); without it you are asked to compare."""

    network: SomePath = None
    """The owner's network, where it is not in the folder; one that this machine has had before is found by itself."""

    place: UserPlace = UserPlace()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class UserQuery:
    """Search with photographs: hash, encrypt, ask, open what comes back, save it with a page to look at."""

    images: Positional[tuple[Path, ...]]
    """Query photographs, or folders of them; all travel in one message."""

    out: Path = Path("results")
    """Folder for the results: a new folder inside it for each query photograph, under its name, with the photographs
    that were found, `index.html` and `results.json`."""

    top: int = 10
    """Results for each photograph."""

    scheme: AskedScheme = None
    """Ranking scheme; the collection must offer it. Without it `packed`, or `lattice` in a collection of that kind."""

    cloud: SomeUrl = None
    """Address of the cloud; without it the one that came with the admission."""

    certificate: SomePath = None
    """PEM file of the authority to trust for https instead of the system's."""

    insecure_http: bool = False
    """Allow plain `http://` beyond this machine: whoever is on the way reads and changes what travels."""

    timeout: float = 60.0
    """Seconds to wait for the cloud."""

    audit: int = 0
    """Blocks of the scores, drawn at random, that the cloud must open and that are computed again here: if c of B were
    computed wrongly, this many m notice it with probability 1 - (1 - c/B)^m."""

    place: UserPlace = UserPlace()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class UserOpen:
    """Search on a local page in the browser: drop or paste photographs, compare, save. Ctrl-C ends it."""

    scheme: AskedScheme = None
    """Ranking scheme; the collection must offer it. Without it `packed`, or `lattice` in a collection of that kind."""

    cloud: SomeUrl = None
    """Address of the cloud; without it the one that came with the admission."""

    certificate: SomePath = None
    """PEM file of the authority to trust for https instead of the system's."""

    insecure_http: bool = False
    """Allow plain `http://` beyond this machine: whoever is on the way reads and changes what travels."""

    timeout: float = 60.0
    """Seconds to wait for the cloud."""

    page: PageServer = PageServer()
    place: UserPlace = UserPlace()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class UserInfo:
    """Say which collection this user may search, until when, and under which fingerprint."""

    place: UserPlace = UserPlace()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class CloudInit:
    """Make the identity by which a cloud signs what it reports; its public half goes to the owner."""

    folder: Path = Path("jcbir-cloud")
    """Folder to write `identity.secret` and `identity.public` into."""

    passphrase_file: SomePath = None
    """First line is the cloud's passphrase; without it `JCBIR_CLOUD_PASSPHRASE`, or a prompt."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class CloudInfo:
    """Say the fingerprint of a cloud's identity, to compare with its owner."""

    folder: Path = Path("jcbir-cloud")
    """Folder of `jcbir cloud init`."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class AuthorityInit:
    """Make the identity by which an authority signs and receives keys; its public half goes to the owner."""

    folder: Path = Path("jcbir-authority")
    """Folder to write `identity.secret` and `identity.public` into."""

    passphrase_file: SomePath = None
    """First line is the authority's passphrase; without it `JCBIR_AUTHORITY_PASSPHRASE`, or a prompt."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class AuthorityInfo:
    """Say the fingerprint of an authority's identity, to compare with its owner."""

    folder: Path = Path("jcbir-authority")
    """Folder of `jcbir authority init`."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class Listen:
    """Where a service listens."""

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: int = 8470
    """Port to listen on."""

    certificate: SomePath = None
    """PEM file with the certificate chain; without one there is no TLS."""

    private_key: SomePath = None
    """PEM file with the certificate's private key."""


@dataclasses.dataclass(frozen=True)
class Connections:
    """Limits on connections, whatever is asked."""

    header_seconds: float = 15.0
    """Most seconds to the end of a request's headers."""

    idle_seconds: int = 10
    """Seconds an idle connection is kept."""

    drain_seconds: int = 30
    """Most seconds that ending waits for requests at hand."""

    most_connections: int = 1024
    """Connections beyond are answered 503."""


@dataclasses.dataclass(frozen=True)
class CloudLimits:
    """What the cloud takes on; the fields of `jcbir.service.cloud.CloudSettings`, with its defaults."""

    most_pending: int = 256
    """Queries at hand; one more waits outside (429)."""

    work_seconds: float = 60.0
    """Most seconds of scoring at hand, predicted."""

    query_bytes: int = 8 << 20
    """Longest query."""

    publication_bytes: int = 256 << 20
    """Longest publication."""

    order_bytes: int = 16 << 20
    """Longest order but a publication."""

    recalled_bytes: int = 64 << 20
    """Sealed images in one answer to the owner's recall."""

    body_budget: int = 1 << 30
    """Bytes of memory that bodies, and what is read of them, take at once."""

    client_rate: tuple[float, float] = (50.0, 200.0)
    """Requests a second of one address, and at once; 0 0 behind a proxy, which has one address."""

    grant_rate: tuple[float, float] = (5.0, 50.0)
    """Queries a second of one grant, and at once."""

    pace: tuple[float, float] = (10.0, 16384.0)
    """Seconds to wait for each piece of a body, and bytes a second on average."""

    send_seconds: float = 30.0
    """Most seconds that one piece of an answer may take to leave."""

    job_seconds: float = 120.0
    """Most seconds that a worker may take for a job."""

    authority_seconds: float = 120.0
    """Most seconds to wait for the authority."""

    blinder_pool: int = 4096
    """Blinders to keep made ahead."""

    audit_seconds: float = 300.0
    """How long after an answer its user may audit it."""

    audit_bytes: int = 256 << 20
    """Most bytes kept for audits; the oldest go first."""


@dataclasses.dataclass(frozen=True)
class AuthorityLimits:
    """What the authority takes on; the fields of `jcbir.service.authority.AuthoritySettings`, with its defaults."""

    workers: int = 2
    """Decrypting processes."""

    most_pending: int = 128
    """Reports at hand; one more waits outside (429)."""

    work_seconds: float = 60.0
    """Most seconds of decryption at hand, predicted."""

    report_bytes: int = 256 << 20
    """Longest report."""

    order_bytes: int = 16 << 20
    """Longest order."""

    body_budget: int = 1 << 30
    """Bytes of memory that bodies, and what is read of them, take at once."""

    client_rate: tuple[float, float] = (500.0, 1000.0)
    """Requests a second of one address, and at once; the cloud is one address."""

    grant_rate: tuple[float, float] = (5.0, 50.0)
    """Reports a second of one grant, and at once."""

    pace: tuple[float, float] = (10.0, 16384.0)
    """Seconds to wait for each piece of a body, and bytes a second on average."""

    send_seconds: float = 30.0
    """Most seconds that one piece of an answer may take to leave."""

    job_seconds: float = 120.0
    """Most seconds that a worker may take for a job."""

    lag_seconds: float = 120.0
    """How long after a catalog a report may still lack its segment."""


@dataclasses.dataclass(frozen=True)
class ServeCloud:
    """Serve a collection: takes the owner's orders and users' queries; holds none of their secrets. Ctrl-C ends it."""

    card: Path
    """The collection's public file, `collection.public` of the owner's folder."""

    store: Path
    """Folder of the store; made where there is none."""

    authority: Url
    """Address of the authority."""

    identity: Path = Path("jcbir-cloud/identity.secret")
    """`identity.secret` of `jcbir cloud init`."""

    passphrase_file: SomePath = None
    """First line is the cloud's passphrase; without it `JCBIR_CLOUD_PASSPHRASE`, or a prompt."""

    insecure_http: bool = False
    """Allow plain `http://` to an authority beyond this machine: who is on the way reads and changes what travels."""

    authority_certificate: SomePath = None
    """PEM file of the authority to trust for https to the authority instead of the system's."""

    workers: SomeNumber = None
    """Scoring processes; without it one for each core but one."""

    config: SomePath = None
    """TOML file with options of this command, `most-pending = 64` say; what is typed wins."""

    listen: Listen = Listen()
    limits: CloudLimits = CloudLimits()
    connections: Connections = Connections()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class ServeAuthority:
    """Serve as the owner's key holder: decrypts scores, ranks, releases keys. Ends on Ctrl-C or SIGTERM."""

    delegation: Path
    """`authority.secret` of the owner's folder."""

    journal: Path
    """SQLite file of orders and answered requests; made where there is none."""

    identity: Path = Path("jcbir-authority/identity.secret")
    """`identity.secret` of `jcbir authority init`."""

    passphrase_file: SomePath = None
    """First line is the passphrase of the delegation; without it `JCBIR_AUTHORITY_PASSPHRASE`, or a prompt."""

    identity_passphrase_file: SomePath = None
    """First line is the passphrase of the identity; without it the delegation's is tried."""

    config: SomePath = None
    """TOML file with options of this command, `most-pending = 64` say; what is typed wins."""

    listen: Listen = Listen(port=8471)
    limits: AuthorityLimits = AuthorityLimits()
    connections: Connections = Connections()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class StoreInfo:
    """Say what a store holds."""

    store: Positional[Path]
    """Folder of the store."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class StoreVerify:
    """Check every byte of a store: the database's structure, each segment's SHA-256, each place."""

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

    picture_bytes: int = 2_000_000
    """Bytes of a photograph's file as it is published, on average."""

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

    sha256: SomeText = None
    """Hash the file must have; needed for a source without a pinned one."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class Foreign:
    """What a foreign checkpoint does not say of itself."""

    layout: Annotated[
        Literal["torch", "keras", "keras2019"] | None,
        arg(metavar="{torch,keras,keras2019}", help_behavior_hint="(optional)"),
    ] = None
    """Names of its tensors."""

    depth: Annotated[
        Optional[Literal[18, 34, 50, 101]], arg(metavar="{18,34,50,101}", help_behavior_hint="(optional)")
    ] = None
    """Its depth."""

    sha256: SomeText = None
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


@dataclasses.dataclass(frozen=True)
class Version:
    """Print the version."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class Demo:
    """Photographs to a private search in one process: learn, hash, encrypt, seal, score, rank, open, draw."""

    bits: Literal[16, 32, 64] = 64
    """Length of the hash codes."""

    scheme: Literal["bitsliced", "packed", "lattice"] = "bitsliced"
    """The ranking scheme whose opened results are drawn; Paillier's three are measured. `lattice`, which is
    experimental and not reviewed, is measured beside them when it is asked for."""

    modulus_bits: Literal[2048, 3072, 4096] = 2048
    """Size of the Paillier modulus. The library's default is 3072; the demo takes 2048 to be quick."""

    images: SomePath = None
    """A folder of class folders with your own photographs; without it, the sample of Caltech-101 inside the package."""

    per_class: int = 75
    """With `images`: use at most so many photographs of each class."""

    backbone: SomeText = None
    """Network below the hash head: a name of `jcbir weights list` or a file; without it the ImageNet ResNet50 inside
    the package."""

    size: int = 160
    """The network sees squares of so many pixels."""

    top: int = 8
    """Results opened for each query."""

    seed: int = 0
    """Of the hash heads and the network not pretrained. Keys, nonces and blinders come from the system."""

    report: SomePath = None
    """Write the figures here as JSON."""

    out: Path = Path("jcbir-demo.png")
    """Write the picture here."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class Owner:
    """Found a collection, publish photographs, admit and revoke users."""

    command: (
        Annotated[OwnerInit, subcommand("init")]
        | Annotated[OwnerTrain, subcommand("train")]
        | Annotated[OwnerPublish, subcommand("publish")]
        | Annotated[OwnerWithdraw, subcommand("withdraw")]
        | Annotated[OwnerCaption, subcommand("caption")]
        | Annotated[OwnerList, subcommand("list")]
        | Annotated[OwnerSend, subcommand("send")]
        | Annotated[OwnerStatus, subcommand("status")]
        | Annotated[OwnerGrant, subcommand("grant")]
        | Annotated[OwnerGrants, subcommand("grants")]
        | Annotated[OwnerRevoke, subcommand("revoke")]
        | Annotated[OwnerRekey, subcommand("rekey")]
        | Annotated[OwnerInfo, subcommand("info")]
        | Annotated[OwnerOpen, subcommand("open")]
    )


@dataclasses.dataclass(frozen=True)
class User:
    """Make keys, join a collection, search it."""

    command: (
        Annotated[UserInit, subcommand("init")]
        | Annotated[UserJoin, subcommand("join")]
        | Annotated[UserQuery, subcommand("query")]
        | Annotated[UserInfo, subcommand("info")]
        | Annotated[UserOpen, subcommand("open")]
    )


@dataclasses.dataclass(frozen=True)
class Cloud:
    """A cloud's identity."""

    command: Annotated[CloudInit, subcommand("init")] | Annotated[CloudInfo, subcommand("info")]


@dataclasses.dataclass(frozen=True)
class Authority:
    """An authority's identity."""

    command: Annotated[AuthorityInit, subcommand("init")] | Annotated[AuthorityInfo, subcommand("info")]


@dataclasses.dataclass(frozen=True)
class Serve:
    """Run a service until Ctrl-C or SIGTERM; logs go to standard error."""

    command: Annotated[ServeCloud, subcommand("cloud")] | Annotated[ServeAuthority, subcommand("authority")]


@dataclasses.dataclass(frozen=True)
class Store:
    """Look after the cloud's store."""

    command: (
        Annotated[StoreInfo, subcommand("info")]
        | Annotated[StoreVerify, subcommand("verify")]
        | Annotated[StoreCompact, subcommand("compact")]
        | Annotated[StoreBackup, subcommand("backup")]
    )


@dataclasses.dataclass(frozen=True)
class Weights:
    """Pretrained networks: list, fetch, convert, check."""

    command: (
        Annotated[WeightsList, subcommand("list")]
        | Annotated[WeightsFetch, subcommand("fetch")]
        | Annotated[WeightsConvert, subcommand("convert")]
        | Annotated[WeightsCheck, subcommand("check")]
    )


Command = (
    Annotated[Owner, subcommand("owner")]
    | Annotated[User, subcommand("user")]
    | Annotated[Cloud, subcommand("cloud")]
    | Annotated[Authority, subcommand("authority")]
    | Annotated[Serve, subcommand("serve")]
    | Annotated[Store, subcommand("store")]
    | Annotated[Cost, subcommand("cost")]
    | Annotated[Weights, subcommand("weights")]
    | Annotated[Demo, subcommand("demo")]
    | Annotated[Version, subcommand("version")]
)

FUNCTIONS = {
    OwnerInit: "owner:init",
    OwnerTrain: "owner:train",
    OwnerPublish: "owner:publish",
    OwnerWithdraw: "owner:withdraw",
    OwnerCaption: "owner:caption",
    OwnerList: "owner:list_published",
    OwnerSend: "owner:send",
    OwnerStatus: "owner:status",
    OwnerGrant: "owner:grant",
    OwnerGrants: "owner:list_grants",
    OwnerRevoke: "owner:revoke",
    OwnerRekey: "owner:rekey",
    OwnerInfo: "owner:info",
    OwnerOpen: "page.owner:open_page",
    UserInit: "user:init",
    UserJoin: "user:join",
    UserQuery: "user:query",
    UserInfo: "user:info",
    UserOpen: "page.user:open_page",
    CloudInit: "identity:init_cloud",
    CloudInfo: "identity:info_cloud",
    AuthorityInit: "identity:init_authority",
    AuthorityInfo: "identity:info_authority",
    ServeCloud: "serve_cloud:cloud",
    ServeAuthority: "serve_authority:authority",
    StoreInfo: "store:info",
    StoreVerify: "store:verify",
    StoreCompact: "store:compact",
    StoreBackup: "store:backup",
    Cost: "cost:predict",
    WeightsList: "weights:show",
    WeightsFetch: "weights:fetch",
    WeightsConvert: "weights:convert",
    WeightsCheck: "weights:check",
    Demo: "demo.run:demo",
    Version: "main:version",
}
"""Options to the module of `jcbir.cli` and the function in it that does the work."""
