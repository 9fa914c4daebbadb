"""Make cipher_golden.json with the big-integer implementation of tests/cipher/cipher_oracle.py, which imports no jcbir.

    python tests/vectors/cipher_golden_make.py

Cipher version 1, envelope version 2. What answers otherwise is another version.
"""

import hashlib
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "cipher"))
import cipher_oracle as oracle  # noqa: E402

SHAPES = [(1, 1, 1), (5, 7, 3), (1, 300, 4), (300, 1, 2), (64, 65, 1), (96, 80, 3), (300, 257, 1)]


def photo(shape: tuple[int, int, int]) -> list:
    """Pixels of the test images: SHAKE-256 of the shape's text, row by row."""
    h, w, c = shape
    octets = hashlib.shake_256(f"jcbir golden {h}x{w}x{c}".encode()).digest(h * w * c)
    return [[list(octets[(r * w + i) * c : (r * w + i + 1) * c]) for i in range(w)] for r in range(h)]


def sealed(shape: tuple[int, int, int], key: bytes, nonce: bytes, image_id: str, cipher: str) -> bytes:
    """The envelope from the text of docs/cipher.md."""
    algorithm = {"lorenz": 1, "aes-gcm": 2, "lorenz-reference50": 3}[cipher]
    extents = b"".join(extent.to_bytes(4, "big") for extent in shape)
    head = b"JCBI" + bytes([2, algorithm]) + nonce + len(image_id).to_bytes(2, "big") + image_id.encode()
    keys = oracle.hkdf(key, nonce, b"jcbir seal" + bytes([2, algorithm]), 64)
    order = {"lorenz": "paper", "lorenz-reference50": "reference50"}.get(cipher)
    image = photo(shape)
    plain = bytes(v for row in image for pixel in row for v in pixel)
    body = oracle.encrypt(image, keys[:32], bytes(16), order) if order else plain
    content = extents + body
    # The shortest length whose ones are all among the first floor(log2(floor(log2 l))) + 1 bits.
    length = len(content)
    while len(bin(length)[2:].rstrip("0")) > (length.bit_length() - 1).bit_length() + 1:
        length += 1
    return head + AESGCM(keys[32:]).encrypt(bytes(12), content.ljust(length, b"\0"), head + bytes(4))


def main() -> None:
    """Write the file."""
    cases = []
    for i, shape in enumerate(SHAPES):
        key, nonce = bytes([i] * 32), bytes(range(i, i + 16))
        for order in ("paper", "reference50"):
            cipher = oracle.encrypt(photo(shape), key, nonce, order)
            cases.append(
                {
                    "shape": shape,
                    "key": key.hex(),
                    "nonce": nonce.hex(),
                    "order": order,
                    "first": cipher[:16].hex(),
                    "sha256": hashlib.sha256(cipher).hexdigest(),
                }
            )
    envelopes = [
        {
            "shape": (5, 7, 3),
            "key": bytes(range(32)).hex(),
            "nonce": bytes(range(16)).hex(),
            "image_id": "photo-1",
            "cipher": cipher,
            "sha256": hashlib.sha256(
                sealed((5, 7, 3), bytes(range(32)), bytes(range(16)), "photo-1", cipher)
            ).hexdigest(),
        }
        for cipher in ("lorenz", "aes-gcm", "lorenz-reference50")
    ]
    content = {
        "provenance": "Made by tests/vectors/cipher_golden_make.py, Python integers (tests/cipher/cipher_oracle.py), "
        "independently of jcbir; envelope version 2. Images: SHAKE-256 of 'jcbir golden HxWxC'.",
        "images": cases,
        "envelopes": envelopes,
    }
    (HERE / "cipher_golden.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
