"""A collection for the attacks: four parties, random codes, the smallest pictures; and how attacks are played."""

import json
import secrets
import time
from collections.abc import Callable, Mapping

from jaxtyping import Bool

from jcbir.paillier import generate_keys
from jcbir.protocol import session
from jcbir.protocol.session import NOW, Session
from jcbir.sealing import Photograph
from jcbir.typing import Array

UNLIMITED = {"max_results": 1 << 30, "queries_per_day": 1 << 30, "images_per_day": 1 << 30}
"""A grant as it was before there were budgets."""


def collection(
    codes: Bool[Array, "n k"], *, scheme: str, key_bits: int, users: int = 1, sentinels: bool = False, **limits: int
) -> Session:
    """Publish codes, each with a photograph that holds its number, and admit users with grants of these limits."""
    draw = secrets.token_bytes
    key = generate_keys(bits=key_bits, draw=draw, unsafe_small=key_bits < 2048)
    found = session.found(collection="attacked", bits=codes.shape[1], secret=key, draw=draw)
    names = [f"{number}.png" for number in range(len(codes))]
    pictures = [Photograph(name.encode(), "image/png", name) for name in names]
    options = {"schemes": (scheme,), "cipher": "aes-gcm", "sentinels": sentinels}
    found = session.publish(found, codes, pictures, names, draw=draw, **options)
    for _ in range(users):
        found = session.admit(found, now=NOW, draw=draw, **limits)
    return found


def refuses(action: Callable[[], object], error: type[Exception]) -> bool:
    """Whether an action ends in this error; any other passes through."""
    try:
        action()
    except error:
        return True
    return False


def played(attacks: Mapping[str, Callable[[], dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The figures of each attack, rounded, and the seconds that it took."""
    found = {}
    for name, attack in attacks.items():
        start = time.monotonic()
        figures = {key: round(value, 4) for key, value in attack().items()}
        found[name] = figures | {"seconds": round(time.monotonic() - start, 1)}
        print(json.dumps({name: found[name]}), flush=True)
    return found
