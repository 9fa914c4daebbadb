"""Polynomials from 32-byte seeds: HMAC-SHA256 separates purposes, AES-256-CTR expands."""

import hmac

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

SEED_BYTES = 32
# Centered binomial of 2 * 21 bits: variance 10.5, sigma 3.24 (the guidelines ask for 3.19), |e| <= 21.
ETA = 21


def derive(seed: bytes, purpose: str, number: int = 0) -> bytes:
    """32 bytes that tell nothing of one another for different purposes or numbers."""
    return hmac.digest(seed, f"jcbir lattice 1 {purpose} {number}".encode(), "sha256")


def words(seed: bytes, count: int) -> np.ndarray:
    """uint64[count] from one seed, which is used for nothing else."""
    stream = Cipher(algorithms.AES256(seed), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(stream.update(bytes(8 * count)), "<u8")


def residues(seed: bytes, p: int, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform residues, to within 2^-35 each: uint32. For public polynomials, where a bias costs nothing."""
    return (words(seed, int(np.prod(shape))) % np.uint64(p)).astype(np.uint32).reshape(shape)


def ternary(seed: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform in {-1, 0, 1}, to within 2^-62: int8."""
    return (words(seed, int(np.prod(shape))) % np.uint64(3)).astype(np.int8).reshape(shape) - np.int8(1)


def binomial(seed: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Centered binomial, the difference of two sums of ETA bits: int8."""
    bits, mask = words(seed, int(np.prod(shape))), np.uint64((1 << ETA) - 1)
    ones, others = (np.bitwise_count(part & mask).astype(np.int8) for part in (bits, bits >> np.uint64(ETA)))
    return (ones - others).reshape(shape)
