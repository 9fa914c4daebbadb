"""What breaks the published cipher breaks it here and does not break ours; the reference gives its known answers."""

import hashlib

import numpy as np
import pytest

from experiments import reference_cipher as reference
from experiments.attacks import chosen_plaintext, two_time_pad


def photograph(side: int) -> np.ndarray:
    row = np.linspace(0, 250, side)
    return (np.add.outer(row, row) / 2 + np.random.default_rng(0).integers(0, 5, (side, side))).astype(np.uint8)


def test_reference_known_answers():
    """Clean-room vectors of the published scheme: IEEE double, no fused multiply-add, its four-decimal key."""
    s = reference.streams(256)
    assert reference.trajectory(3).tolist() == [-9.67064616642066, -9.712973383763412, -9.753175920458974]
    assert s.forward[:16].tolist() == [80, 122, 47, 116, 78, 192, 208, 129, 216, 217, 136, 233, 0, 208, 92, 169]
    assert s.permutation[:16].tolist() == [31, 50, 155, 10, 153, 8, 232, 176, 198, 133, 60, 186, 75, 185, 131, 71]
    assert s.distinct == 155
    cipher = reference.encrypt(np.arange(256, dtype=np.uint8).reshape(16, 16))
    assert cipher[0].tolist() == [200, 86, 220, 10, 68, 68, 131, 197, 42, 55, 204, 14, 124, 240, 14, 237]
    by_rows = hashlib.sha256(cipher.tobytes()).hexdigest()
    by_columns = hashlib.sha256(cipher.tobytes(order="F")).hexdigest()
    assert by_rows == "ee705d3eab7f7ca7efb163cee11999f0ade21dc4fada406f29c25482cfa18cd9"
    assert by_columns == "296ca5a8042c0eaf79f6f47940806874e03a652f5c82961ea37a60b7cb54340a"
    zeros = reference.encrypt(np.zeros((16, 16), np.uint8))
    assert zeros[0].tolist() == [141, 219, 235, 42, 228, 208, 132, 179, 102, 141, 249, 13, 18, 8, 219, 75]


def test_reference_key_comes_from_its_rsa_example():
    values = reference.rsa_initial_values([178334, 38628, 92873897, 829809], exponent=1288367, modulus=12452639)
    assert values == pytest.approx([4.034932, 3.797926, 4.297973, 3.928181], abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (16, 16)])
def test_reference_inverts(shape):
    plane = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(reference.decrypt(reference.encrypt(plane)), plane)


def test_seven_chosen_images_break_the_published_cipher_and_not_ours():
    unseen = photograph(64)
    broken = chosen_plaintext.attack(reference.encrypt, unseen)
    assert broken["chosen_images"] == 7
    assert np.array_equal(broken["recovered"], unseen)
    ours = chosen_plaintext.attack(chosen_plaintext.fresh_nonce_oracle(bytes(32)), unseen)
    assert ours["chosen_images"] == 7
    assert ours["equal_pixels"] < 0.02  # 1 in 256 by chance


def test_a_repeated_nonce_loses_everything():
    unseen = photograph(64)
    broken = chosen_plaintext.attack(two_time_pad.repeated_nonce_oracle(bytes(32)), unseen)
    assert np.array_equal(broken["recovered"], unseen)
    a, b = photograph(32), photograph(32)[::-1].copy()
    repeated = two_time_pad.sealed_difference(a, b, nonces=(bytes(16), bytes(16)))
    assert np.array_equal(repeated, a ^ b)
    fresh = two_time_pad.sealed_difference(a, b, nonces=(bytes(16), bytes(15) + b"\1"))
    assert (fresh == a ^ b).mean() < 0.05


def _concentration(octets: np.ndarray, order: int) -> float:
    """Share of the most common value among the order-th differences of each lane; 1/256 for a random stream."""
    differences = np.diff(octets.astype(np.int64), n=order, axis=0) % 256
    counts = np.bincount(differences.ravel(), minlength=256)
    return float(counts.max() / counts.sum())


def test_finite_differences_predict_the_published_bytes_and_not_ours():
    from jcbir.cipher import keystream

    published = reference.published_bytes(1000, lanes=64, number=0)
    assert max(_concentration(published, k) for k in range(8)) > 0.08
    # The same lane's consecutive words, byte by byte: 1,024 lanes of one long stream.
    seeds = keystream.lane_seeds(bytes(32), stage=1, channel=0, streams=1, length=1 << 22)
    words = np.asarray(keystream.expand(seeds, length=1 << 22)).reshape(-1, 2, 1024, 8)
    for half in (0, 1):
        for place in range(8):
            assert max(_concentration(words[:, half, :, place], k) for k in range(11)) < 0.0045
