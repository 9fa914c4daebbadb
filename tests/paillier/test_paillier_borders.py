"""No silence at the border: a public function refuses each wrong type and rank by name, and what it takes is right."""

import inspect
import math
import secrets

import jax.numpy as jnp
import numpy as np
import pytest
from paillier_vectors import stored_key

import jcbir.paillier as paillier
from jcbir.paillier import PublicKey, SecretKey, StructuredPrime, public, secret

pytestmark = pytest.mark.usefixtures("unchecked")

KEY = stored_key("small")
SECRET_ROWS = secret.encrypt(KEY, [5, 7], draw=secrets.token_bytes)
BLINDERS = secret.owner_blinders(KEY, 2, draw=secrets.token_bytes)
NAN = float("nan")


def rows_of(good):
    """What is no batch of this width."""
    return [
        None, 7, 1.5, NAN, True, "ab", b"ab", [1, 2], good.tolist(), list(good), good.astype(np.int32),
        good.astype(bool), good.astype(np.float32), good * NAN, good[0], good[None], good[:, :-1], good[:0, :0],
        good.astype(object), jnp.asarray(good, jnp.float32),
    ]  # fmt: skip


NO_INTEGERS = [
    None, 7, 1.5, NAN, True, "12", b"12", bytearray(2), {1: 2, 3: 4}, {1, 2}, [1.5, 2.5], [1.0, 2.0], [True, False],
    ["1", "2"], [None, 1], [NAN, 1], [[1], [2]], [1j, 2], [np.float64(1), 2], [np.bool_(True), 2], [np.array([1]), 2.0],
    np.array([1.0, 2.0]), np.array([True, False]), np.array(3), np.array([[1, 2]]), np.array([NAN, 1]),
    np.array(["1", "2"]), np.array([1, 2.5], object), np.array([1, True], object), jnp.array([1.0, 2.0]), jnp.array(2),
]  # fmt: skip
NO_COUNT = [None, 2.0, 2.5, NAN, True, "2", b"2", [2], np.array([1, 2]), np.float64(2), np.bool_(True), -1, 1j]
NO_ENGINE = [None, 3, True, "abacus", b"python", ["python"], ("jax",), NAN, ""]
NO_SOURCE = [
    None, 3, b"bytes", "text", lambda count: b"", lambda count: bytes(count + 1), lambda count: "x" * count,
    lambda count: [0] * count, lambda count: None, lambda count: np.zeros(count, np.uint8),
]  # fmt: skip
NO_FLAG = [None, 1, 0, "yes", 1.0, NAN, np.array([True])]
NO_PICKS = [
    None, 7, NAN, "ab", [[0, 1]], [[0, True]], [[0.0]], np.array([0, 1]), np.array([[0.0, 1.0]]), np.array([[NAN]]),
    np.array([[True, False]]), np.array([[[0]]]), np.array(0), np.array([["0"]]), np.array([[0, 2]]),
    np.array([[-1, 0]]), np.zeros((2, 0), int), np.array([[0]], object), jnp.array([[0.0]]),
]  # fmt: skip

NO_ROWS = [x for x in rows_of(SECRET_ROWS) if not (getattr(x, "ndim", 0) == 2 and x.dtype == np.uint8)]
ENGINE = {"engine": NO_ENGINE}
DRAW = {"draw": NO_SOURCE}
# Each function with arguments that are right, and what is wrong for each of them.
CALLS = {
    paillier.from_ints: ({"values": [1, 2], "width": 1}, {"values": NO_INTEGERS, "width": NO_COUNT}),
    paillier.to_ints: ({"rows": SECRET_ROWS}, {"rows": NO_ROWS}),
    paillier.to_signed_ints: (
        {"rows": np.array([[3]], np.uint8), "modulus": 20},
        {"rows": NO_ROWS, "modulus": [*NO_COUNT, 0]},
    ),
    paillier.choose_engine: ({"engine": "auto", "count": 3}, {**ENGINE, "count": NO_COUNT}),
    paillier.batch_slices: ({"count": 3}, {"count": NO_COUNT}),
    paillier.blinders: (
        {"public": KEY.public, "count": 2, "draw": secrets.token_bytes},
        {"count": NO_COUNT, **DRAW, **ENGINE},
    ),
    public.check_public: (
        {"public": KEY.public, "minimum_bits": 256},
        {"minimum_bits": NO_COUNT, "minimum_exponent_bits": NO_COUNT},
    ),
    public.check_ciphertexts: (
        {"public": KEY.public, "ciphertexts": SECRET_ROWS},
        {"ciphertexts": rows_of(SECRET_ROWS)},
    ),
    public.encrypt: (
        {"public": KEY.public, "messages": [1, 2], "blinders": BLINDERS},
        {"messages": NO_INTEGERS, "blinders": rows_of(BLINDERS), **ENGINE},
    ),
    public.add: (
        {"public": KEY.public, "a": SECRET_ROWS, "b": BLINDERS},
        {"a": rows_of(SECRET_ROWS), "b": rows_of(BLINDERS), **ENGINE},
    ),
    public.subtract: (
        {"public": KEY.public, "a": SECRET_ROWS, "b": BLINDERS},
        {"a": rows_of(SECRET_ROWS), "b": rows_of(BLINDERS), **ENGINE},
    ),
    public.multiply: (
        {"public": KEY.public, "a": SECRET_ROWS, "scalars": [3, -1]},
        {"a": rows_of(SECRET_ROWS), "scalars": [*NO_INTEGERS, [1], [1, 2, 3], []], **ENGINE},
    ),
    public.rerandomize: (
        {"public": KEY.public, "a": SECRET_ROWS, "blinders": BLINDERS},
        {"a": rows_of(SECRET_ROWS), "blinders": rows_of(BLINDERS), **ENGINE},
    ),
    public.product: (
        {"public": KEY.public, "table": SECRET_ROWS, "picks": np.array([[0, 1]])},
        {"table": rows_of(SECRET_ROWS), "picks": NO_PICKS, **ENGINE},
    ),
    secret.generate_keys: (
        {"draw": secrets.token_bytes, "bits": 64, "unsafe_small": True},
        {
            **DRAW,
            "bits": [*NO_COUNT, 65, 62],
            "subgroup_bits": [x for x in NO_COUNT if x is not None],
            "random_g": NO_FLAG,
            "unsafe_small": NO_FLAG,
        },
    ),
    secret.check_secret: ({"secret": KEY, "minimum_bits": 256}, {"minimum_bits": NO_COUNT}),
    secret.owner_blinders: (
        {"secret": KEY, "count": 2, "draw": secrets.token_bytes},
        {"count": NO_COUNT, **DRAW, **ENGINE},
    ),
    secret.encrypt: (
        {"secret": KEY, "messages": [1, 2], "draw": secrets.token_bytes},
        {"messages": NO_INTEGERS, **DRAW, **ENGINE},
    ),
    secret.decrypt: (
        {"secret": KEY, "ciphertexts": SECRET_ROWS},
        {"ciphertexts": rows_of(SECRET_ROWS), "method": [*NO_ENGINE, "CRT"], **ENGINE},
    ),
}


def called(function, arguments):
    result = function(**arguments)
    return list(result) if inspect.isgenerator(result) else result


def test_the_table_names_every_function_and_argument():
    offered = {getattr(paillier, name) for name in dir(paillier)}
    for module in (public, secret):
        offered |= {x for x in vars(module).values() if getattr(x, "__module__", None) == module.__name__}
    functions = {x for x in offered if inspect.isfunction(x) and not x.__name__.startswith("_")}
    assert functions == set(CALLS)
    for function, (_, wrong) in CALLS.items():
        parameters = set(inspect.signature(function).parameters) - {"public", "secret", "exponentiations"}
        assert parameters == set(wrong), function.__name__


@pytest.mark.parametrize("function", CALLS, ids=lambda function: function.__name__)
def test_refuses_every_wrong_type_and_rank_by_name(function):
    right, wrong = CALLS[function]
    called(function, right)
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(ValueError, match=rf"^{name}\b.*, got "):
                print(function.__name__, name, repr(value), called(function, {**right, name: value}))


@pytest.mark.parametrize("engine", ["python", "gmpy2", "jax"])
def test_every_kind_of_integer_is_right(engine):
    kinds = [
        [3, 2], (3, 2), range(3, 1, -1), [np.int8(3), np.uint64(2)], [np.array(3), jnp.array(2)], jnp.array([3, 2]),
        np.array([3, 2], object),
        *(np.array([3, 2], kind) for kind in (np.int8, np.uint8, np.int16, np.uint32, np.uint64)),
    ]  # fmt: skip
    for kind in kinds:
        product = public.multiply(KEY.public, SECRET_ROWS, kind, engine=engine)
        assert paillier.to_ints(secret.decrypt(KEY, product, engine=engine)) == [15, 14]
        body = secret.encrypt(KEY, kind, draw=secrets.token_bytes, engine=engine)
        assert paillier.to_ints(secret.decrypt(KEY, body, engine=engine)) == [3, 2]
        assert paillier.to_ints(paillier.from_ints(kind, width=1)) == [3, 2]
    for kind in (np.int8, np.uint8, np.int64, np.uint64):
        total = public.product(KEY.public, jnp.asarray(SECRET_ROWS), np.array([[0, 1, 1]], kind), engine=engine)
        assert paillier.to_ints(secret.decrypt(KEY, total, engine=engine)) == [19]


def test_refuses_wrong_key_fields_by_name():
    n = KEY.public.n
    for wrong in (float(35), "35", None, True, np.int64(35), [35], NAN):
        with pytest.raises(ValueError, match=r"^n: must"):
            PublicKey(wrong, 36)
        with pytest.raises(ValueError, match=r"^g: must"):
            PublicKey(n, wrong)
        with pytest.raises(ValueError, match=r"^h_bits: must"):
            PublicKey(n, n + 1, 2, wrong)
        if wrong is not None:
            with pytest.raises(ValueError, match=r"^h: must"):
                PublicKey(n, n + 1, wrong, 8)
    for wrong in (None, 7, tuple(KEY.p), KEY.p._replace(large=float(5)), StructuredPrime(7, 3, True)):
        with pytest.raises(ValueError, match=r"^p: must"):
            SecretKey(KEY.public, wrong, KEY.q)


def test_errors_show_no_plaintext():
    secret_number = 123456789
    for call in (
        lambda: secret.encrypt(KEY, [float(secret_number)], draw=secrets.token_bytes),
        lambda: secret.encrypt(KEY, [str(secret_number)], draw=secrets.token_bytes),
        lambda: secret.encrypt(KEY, [secret_number * KEY.public.n], draw=secrets.token_bytes),
        lambda: paillier.from_ints([secret_number], width=1),
        lambda: paillier.to_signed_ints(paillier.from_ints([secret_number], width=4), modulus=secret_number),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        assert str(secret_number) not in str(caught.value) and hex(secret_number)[2:] not in str(caught.value)


def test_the_readme_gives_the_numbers_it_names():
    a = secret.encrypt(KEY, [20, -3], draw=secrets.token_bytes)
    fresh = paillier.blinders(KEY.public, 2, draw=secrets.token_bytes)
    b = public.encrypt(KEY.public, np.array([1, 2]), blinders=fresh)
    total = secret.decrypt(KEY, public.add(KEY.public, a, b))
    assert paillier.to_signed_ints(total, modulus=KEY.public.n) == [21, -1]
    assert math.prod(total.shape) == 2 * KEY.public.plaintext_bytes
