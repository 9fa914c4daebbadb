"""Known answers, made by the big-integer implementation; provenance in the file. They never change."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from jcbir import cipher as image, sealing

GOLDEN = json.loads((Path(__file__).parents[1] / "vectors" / "cipher_golden.json").read_text())


def photo(shape: list[int]) -> np.ndarray:
    h, w, c = shape
    octets = hashlib.shake_256(f"jcbir golden {h}x{w}x{c}".encode()).digest(h * w * c)
    return np.frombuffer(octets, np.uint8).reshape(shape)


@pytest.mark.parametrize("case", GOLDEN["images"], ids=lambda c: f"{c['shape']}-{c['order']}")
@pytest.mark.parametrize("engine", ["numpy", "jax"])
def test_cipher_images(case, engine):
    if engine == "jax" and case["shape"] not in ([5, 7, 3], [64, 65, 1]):
        pytest.skip("one compilation per shape: two are enough")
    names = {"key": bytes.fromhex(case["key"]), "nonce": bytes.fromhex(case["nonce"]), "order": case["order"]}
    noise = image.encrypt(photo(case["shape"]), **names, engine=engine)
    assert noise.tobytes()[:16].hex() == case["first"]
    assert hashlib.sha256(noise.tobytes()).hexdigest() == case["sha256"]
    assert np.array_equal(image.decrypt(noise, **names, engine=engine), photo(case["shape"]))


@pytest.mark.parametrize("case", GOLDEN["envelopes"], ids=lambda c: c["cipher"])
def test_envelopes(case):
    names = {"key": bytes.fromhex(case["key"]), "image_id": case["image_id"]}
    sealed = sealing.seal(photo(case["shape"]), **names, nonce=bytes.fromhex(case["nonce"]), cipher=case["cipher"])
    assert hashlib.sha256(sealed).hexdigest() == case["sha256"]
    assert np.array_equal(sealing.open_sealed(sealed, **names), photo(case["shape"]))
