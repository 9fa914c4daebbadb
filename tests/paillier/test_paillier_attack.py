"""The weak setting falls to a committed attack; the library refuses to build it, and a full-size subgroup stands."""

import secrets

import pytest
from paillier_vectors import stored_key

from experiments.attacks import small_subgroup
from jcbir.paillier import public, secret


@pytest.mark.parametrize("subgroup_bits", [8, 12, 20])
def test_small_subgroups_fall(subgroup_bits):
    key = small_subgroup.weak_key(512, subgroup_bits)
    divisor = small_subgroup.factor(key, subgroup_bits)
    assert divisor is not None
    assert 1 < divisor < key.n
    assert key.n % divisor == 0


def test_a_larger_subgroup_outlasts_the_same_effort():
    assert small_subgroup.factor(stored_key("small-subgroup").public, 16) is None


def test_block_products_are_what_they_say():
    n, q, size = 1009 * 1013, 11, 5
    direct = []
    for i in range(1, size + 2):
        value = 1
        for j in range(size):
            value = value * (pow(q, i * size, n) - pow(q, j, n)) % n
        direct.append(value)
    w = pow(q, size, n)
    fast = small_subgroup._block_products(n, q, size)
    units = [pow(w, -(i * (i - 1) // 2), n) for i in range(1, size + 2)]
    assert [int(v) * u % n for v, u in zip(fast, units, strict=True)] == direct


def test_the_library_refuses_to_build_it():
    with pytest.raises(ValueError, match="at least 224"):
        secret.generate_keys(bits=2048, subgroup_bits=20, draw=secrets.token_bytes)
    weak = small_subgroup.weak_key(512, 20)
    with pytest.raises(ValueError, match="h_bits"):
        public.check_public(weak, minimum_bits=512)
