"""Keys from elsewhere: each weakness a key may come with is refused, and a fault of the computer is noticed."""

import math
import secrets

import numpy as np
import pytest
from paillier_vectors import stored_key

from jcbir.errors import IntegrityError
from jcbir.paillier import PublicKey, SecretKey, StructuredPrime, check_public, check_secret, public, secret, to_ints
from jcbir.paillier._engines import secret_power
from jcbir.paillier._primes import is_power, is_prime, small_factor, small_primes
from jcbir.paillier._rows import from_ints

KEY, SUBGROUP = stored_key("small"), stored_key("small-subgroup")
P, Q, N = KEY.p.prime, KEY.q.prime, KEY.public.n


def next_prime(start: int) -> int:
    return next(x for x in range(start | 1, 2 * start, 2) if is_prime(x))


def joined(x: int, y: int, p: int, q: int) -> int:
    return x + p * ((y - x) * pow(p, -1, q) % q)


MODULI = {
    "short": (N >> 1 | 1, "256 to"),
    "endless": ((1 << 20_000) + 1, "16384"),
    "a prime": (next_prime(1 << 256), "a prime"),
    "a square": (P**2, "power"),
    "a cube": (next_prime(1 << 86) ** 3, "power"),
    "a fifth power": (next_prime(1 << 60) ** 5, "power"),
    "a factor of 11 bits": (2003 * N, "multiple of 2003"),
    "a factor of 17 bits": (65537 * N, "multiple of 65537"),
    "a factor just below 2^20": (1048573 * N, "multiple of 1048573"),
    "many factors of 16 bits": (math.prod(next_prime(40_000 + 100 * i) for i in range(9)) * P, "multiple of 40009"),
}


@pytest.mark.parametrize("name", MODULI)
def test_refuses_moduli(name):
    n, reason = MODULI[name]
    with pytest.raises(ValueError, match=rf"^n: must .*{reason}"):
        check_public(PublicKey(n, n + 1), minimum_bits=256)


@pytest.mark.parametrize("g", [N**2 - 1, 1 + N * P, 1 + N * Q * 5])
def test_refuses_bases_of_small_order(g):
    with pytest.raises(ValueError, match=r"^g: must"):
        check_public(PublicKey(N, g), minimum_bits=256)


def subgroup_key(h: int, **changed) -> PublicKey:
    n = SUBGROUP.public.n
    return PublicKey(**{"n": n, "g": n + 1, "h": h, "h_bits": SUBGROUP.public.h_bits} | changed)


def vet(key: PublicKey) -> None:
    check_public(key, minimum_bits=512, minimum_exponent_bits=128)


def test_accepts_sound_keys():
    for name in ("small", "small-random-g"):
        check_public(stored_key(name).public, minimum_bits=256)
    vet(SUBGROUP.public)
    for name in ("full-2048", "subgroup-2048", "full-3072"):
        check_public(stored_key(name).public)


def test_refuses_subgroup_bases_that_give_a_factor_away():
    n, h, p, q = SUBGROUP.public.n, SUBGROUP.public.h, SUBGROUP.p.prime, SUBGROUP.q.prime
    silent = {
        "1 modulo q^2": joined(h % p**2, 1, p**2, q**2),
        "1 modulo p": joined(1 + p, h % q**2, p**2, q**2),
        "-1 modulo q": joined(h % p**2, q**2 - 1, p**2, q**2),
        "in 1 + nZ": 1 + 12345 * n,
        "-1": n * n - 1,
    }
    for name, bad in silent.items():
        with pytest.raises(ValueError, match=r"^h: must"):
            vet(subgroup_key(bad))
        with pytest.raises(ValueError, match=r"^h: must"):
            check_secret(SecretKey(subgroup_key(bad), SUBGROUP.p, SUBGROUP.q), minimum_bits=512)
        assert pow(bad, 2, n) == 1 or math.gcd(bad - 1, n) > 1 or math.gcd(bad + 1, n) > 1, name
    for changed, reason in (({"h_bits": 127}, "h_bits"), ({"h_bits": 1025}, "h_bits"), ({"g": n + 2}, "g")):
        with pytest.raises(ValueError, match=f"^{reason}: must"):
            vet(subgroup_key(h, **changed))


def test_proves_the_order_of_h_modulo_each_prime():
    """Bases that pass every public test, and would decrypt wrongly or blind with less than they say."""
    h, p, q = SUBGROUP.public.h, SUBGROUP.p, SUBGROUP.q
    whole = {name: secret._generator(f, subgroup=False) for name, f in (("p", p), ("q", q))}
    for name, bad in (
        ("p", joined(whole["p"], h % q.prime**2, p.prime**2, q.prime**2)),
        ("q", joined(h % p.prime**2, whole["q"], p.prime**2, q.prime**2)),
        (
            "p",
            joined(h % p.prime**2 * (1 + p.prime), h % q.prime**2, p.prime**2, q.prime**2) % SUBGROUP.public.n_squared,
        ),
    ):
        vet(subgroup_key(bad))
        with pytest.raises(ValueError, match=rf"^h: must have order {name}\.small modulo {name}\^2"):
            check_secret(SecretKey(subgroup_key(bad), p, q), minimum_bits=512)
    short = subgroup_key(h, h_bits=SUBGROUP.public.h_bits - 1)
    with pytest.raises(ValueError, match=r"^h_bits: must be at least"):
        check_secret(SecretKey(short, p, q), minimum_bits=512)
    with pytest.raises(ValueError, match=r"^n: must have 2048"):
        check_secret(SUBGROUP)


def structured(bits: int, *, below: int, start: int = 0) -> StructuredPrime:
    """The greatest p = 2 s t + 1 of so many bits below a bound, s of 8 bits or more: another way than the library's."""
    for p in range(min(below, 1 << bits) - 1 - start, 0, -1):
        if p % 2 and is_prime(p):
            for s in small_primes():
                rest, remainder = divmod(p - 1, 2 * s)
                if s > 128 and not remainder and rest > 300 and is_prime(rest):
                    return StructuredPrime(p, s, rest)
    raise AssertionError("no such prime")


def test_primes_that_are_close_are_drawn_again(monkeypatch):
    """Fermat's method finds p and q where they differ in their last halves only."""
    first = structured(32, below=1 << 32)
    near, far = structured(32, below=first.prime), structured(32, below=(7 << 29) + (1 << 27))
    assert (first.prime - near.prime).bit_length() <= 16 < (first.prime - far.prime).bit_length()
    drawn = iter([first, near, first, far])
    monkeypatch.setattr(secret, "structured_prime", lambda *a, **k: next(drawn))
    key = secret.generate_keys(bits=64, draw=secrets.token_bytes, unsafe_small=True)
    assert (key.p, key.q) == (first, far)
    check_secret(key, minimum_bits=64)
    n = first.prime * near.prime
    with pytest.raises(ValueError, match="far apart"):
        check_secret(SecretKey(PublicKey(n, n + 1), first, near), minimum_bits=64)


def test_refuses_primes_of_unequal_length_in_every_engine():
    """gcd(n, phi) = p where p divides q - 1; and lengths alone: no TypeError, no number that is wrong."""
    p, q = structured(32, below=1 << 32), stored_key("tiny").p
    t = next(t for t in range(1 << 40, 1 << 41) if is_prime(t) and is_prime(2 * p.prime * t + 1))
    multiple = StructuredPrime(2 * p.prime * t + 1, p.prime, t)
    for x, y in ((p, q), (q, p), (p, multiple), (multiple, p)):
        n = x.prime * y.prime
        key = SecretKey(PublicKey(n, n + 1), x, y)
        with pytest.raises(ValueError, match="equal length"):
            check_secret(key, minimum_bits=64)
        body = from_ints([(1 + 42 * n) * pow(5, n, n * n) % (n * n)], width=key.public.ciphertext_bytes)
        for engine in ("python", "gmpy2", "jax"):
            for method in ("crt", "textbook"):
                with pytest.raises(ValueError, match="equal length"):
                    secret.decrypt(key, body, method=method, engine=engine)
            with pytest.raises(ValueError, match="equal length"):
                secret.encrypt(key, [1], draw=secrets.token_bytes, engine=engine)


def test_check_secret_refuses_composites_and_shared_factors():
    p, q = KEY.p, KEY.q
    composite = StructuredPrime(2 * 15 * 7 + 1, 15, 7)
    n = composite.prime * Q
    with pytest.raises(ValueError, match=r"^p: must be a prime|^n: must"):
        check_secret(SecretKey(PublicKey(n, n + 1), composite, q), minimum_bits=64)
    # A prime whose predecessor's factors are not all prime: a generator is then not proved.
    s, t = p.small, p.large
    odd = next(s for s in range(s + 2, 4 * s, 2) if not is_prime(s) and is_prime(2 * s * t + 1))
    n = (2 * odd * t + 1) * q.prime
    with pytest.raises(ValueError, match=r"^p: must be a prime with prime factors"):
        check_secret(SecretKey(PublicKey(n, n + 1), StructuredPrime(2 * odd * t + 1, odd, t), q), minimum_bits=128)
    t = next(t for t in range(p.large + 2, 2 * p.large, 2) if is_prime(t) and is_prime(2 * s * t + 1))
    twin = StructuredPrime(2 * s * t + 1, s, t)
    n = p.prime * twin.prime
    with pytest.raises(ValueError, match=r"^p and q: must"):
        check_secret(SecretKey(PublicKey(n, n + 1), p, twin), minimum_bits=128)


@pytest.mark.parametrize("engine", ["python", "gmpy2"])
def test_a_fault_in_the_combination_is_noticed(engine, monkeypatch):
    """Right modulo p and wrong modulo q, a plaintext gives p away: gcd(m' - m, n)."""
    body = secret.encrypt(KEY, [5, 7], draw=secrets.token_bytes, engine="python")
    sound = secret._join

    def faulty(x, y, p, q, *, engine):
        whole = sound(x, y, p, q, engine=engine)
        return [*whole[:-1], (whole[-1] + p) % (p * q)]

    monkeypatch.setattr(secret, "_join", faulty)
    with pytest.raises(IntegrityError, match="fault"):
        secret.decrypt(KEY, body, engine=engine)
    with pytest.raises(IntegrityError, match="fault"):
        secret.encrypt(KEY, [5, 7], draw=secrets.token_bytes, engine=engine)


def test_a_fault_in_the_combination_of_arrays_is_noticed(monkeypatch):
    body = secret.encrypt(KEY, [5, 7], draw=secrets.token_bytes, engine="python")
    for name in ("make_decryption", "make_encryption"):
        sound = getattr(secret.on_arrays, name)

        def faulty(*arguments, sound=sound, **options):
            key = sound(*arguments, **options)
            first, *others = key.join.matrices
            flipped = np.array(first)
            flipped[1, 0] += 1
            return key._replace(join=key.join._replace(matrices=(flipped, *others)))

        monkeypatch.setattr(secret.on_arrays, name, faulty)
    with pytest.raises(IntegrityError, match="fault"):
        secret.decrypt(KEY, body, engine="jax")
    with pytest.raises(IntegrityError, match="fault"):
        secret.encrypt(KEY, [5, 7], draw=secrets.token_bytes, engine="jax")


def test_no_representation_shows_a_secret():
    sides = secret._decryption_sides(KEY, "crt")
    made = secret.on_arrays.make_decryption(N, KEY.public.g, sides, ciphertext_bytes=KEY.public.ciphertext_bytes)
    numbers = [str(x) for x in (*KEY.p, *KEY.q)] + [hex(x)[2:] for x in (*KEY.p, *KEY.q)]
    for record in (KEY, KEY.p, KEY.q, {"key": KEY.p}, [KEY], made, made.join, made.sides, made.sides[0].modulus):
        for text in (repr(record), str(record), f"{record}"):
            assert not any(number in text for number in numbers)
            assert "array" not in text.lower()


def test_secret_power_is_a_power():
    for engine, number in (("python", int), ("gmpy2", pytest.importorskip("gmpy2").mpz)):
        power = secret_power(engine)
        for exponent in (0, 1, 2, P - 1):
            assert int(power(number(5), number(exponent), number(P**2))) == pow(5, exponent, P**2)


def test_small_factors_and_powers_against_trial():
    for value in (15, 9, 27, 2**61 - 1, 3**40, 5**7 * 7**7, 1048573 * (2**61 - 1), 1048583 * (2**61 - 1)):
        divisors = [p for p in small_primes(1 << 20) if value % p == 0]
        assert small_factor(value, bound=1 << 20) == (divisors[0] if divisors else None)
        roots = [round(value ** (1 / k)) + d for k in range(2, 64) for d in (-1, 0, 1)]
        exact = any(r > 1 and r**k == value for k in range(2, 64) for r in roots)
        assert is_power(value) == exact


def test_public_encryption_reads_what_a_vetted_key_decrypts():
    body = public.encrypt(SUBGROUP.public, [9], blinders=secret.owner_blinders(SUBGROUP, 1, draw=secrets.token_bytes))
    assert to_ints(secret.decrypt(SUBGROUP, body)) == [9]
