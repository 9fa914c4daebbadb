"""The table of ranking schemes, and what plans and checks a layout by it: a new scheme is one module and one line."""

from typing import Any

from jcbir.errors import KeyMismatchError
from jcbir.ranking._bitsliced import BITSLICED
from jcbir.ranking._integer import INTEGER
from jcbir.ranking._keys import KEY_KINDS, TaggedKey
from jcbir.ranking._lattice import LATTICE
from jcbir.ranking._packed import PACKED
from jcbir.ranking._scheme import MAX_BITS, MIN_BITS, Layout, Scheme, check_whole

SCHEMES: dict[str, Scheme] = {scheme.name: scheme for scheme in (INTEGER, PACKED, BITSLICED, LATTICE)}
"""Every ranking scheme, by name."""


DEFAULT_SCHEME = PACKED.name
"""What is offered and asked where nobody says which, if the keys are for it."""


def schemes_for(kind: str) -> tuple[str, ...]:
    """Every ranking scheme for keys of a kind, the one that is the default first."""
    fitting = [name for name, scheme in SCHEMES.items() if scheme.key_kind == kind]
    return tuple(sorted(fitting, key=lambda name: name != DEFAULT_SCHEME))


def find_scheme(name: str) -> Scheme:
    """The scheme of a name, or ValueError."""
    if name not in SCHEMES:
        raise ValueError(f"scheme: must be one of {', '.join(SCHEMES)}, got {name!r}")
    return SCHEMES[name]


def plan(public: Any, *, scheme: str, count: int, bits: int, base: int | None = None) -> Layout:
    """Plan the layout of an index: as many lanes per plaintext as n holds, exactly.

    Args:
        public: the key the codes will be encrypted under, of the scheme's kind.
        scheme: `integer` (the paper's Eq. 8), `packed`, `bitsliced` or `lattice`.
        count: images N, at least 1.
        bits: code length k, 8..512.
        base: base of the digits. `packed`: 3 (default) or 4. `bitsliced`: `bits + 1` (default: the most lanes) up to
            65536; 256 gives byte lanes. `integer`: 2. `lattice`: `bits + 1`.

    Returns:
        The layout; `blocks = ceil(count / lanes)`.

    Raises:
        ValueError: an argument outside its range, or a key of another kind.
        CapacityError: not one code fits below n.

    Example:
        >>> from jcbir.paillier.public import PublicKey
        >>> toy = PublicKey(n=3**16, g=3**16 + 1)  # not a key anyone holds: only its size matters here
        >>> plan(toy, scheme=PACKED.name, count=5, bits=8).blocks
        3

    References:
        Wang, Zhang, Meng and Liu, 2023, Eq. 8 (`integer`). Sadeghi, Schneider and Wehrenberg, 2009 (packing).

    """
    found = find_scheme(scheme)
    if found.key_kind not in KEY_KINDS:
        raise ValueError(f"key_kind: must be one of {', '.join(KEY_KINDS)} for {scheme}, got {found.key_kind!r}")
    kind = KEY_KINDS[found.key_kind]
    if not isinstance(public, kind.key_type):
        raise ValueError(f"public: must be a {kind.name} key for {scheme}, got {type(public).__name__}")
    bits = check_whole(bits, name="bits", low=MIN_BITS, high=MAX_BITS)
    count = check_whole(count, name="count", low=1)
    return found.plan(public, count=count, bits=bits, base=base)


def modulus_length(public: TaggedKey, *, bits: int) -> int:
    """Bits of a key's modulus, as the layouts of codes of k bits have it."""
    return plan(public.key, scheme=schemes_for(public.kind)[0], count=1, bits=bits).modulus_bits


def check_layout(public: Any, layout: Layout) -> None:
    """Refuse a layout that `plan` would not make under this key (one that came over a wire, say)."""
    expected = plan(public, scheme=layout.scheme, count=layout.count, bits=layout.bits, base=layout.base)
    if layout != expected:
        raise ValueError(f"layout: must be {expected} under this key, got {layout}")


def check_fingerprint(public: Any, fingerprint: str, *, name: str) -> None:
    """Refuse a record made under another key."""
    if fingerprint != public.fingerprint:
        raise KeyMismatchError(f"{name}: must be of key {public.fingerprint[:16]}, got one of key {fingerprint[:16]}")
