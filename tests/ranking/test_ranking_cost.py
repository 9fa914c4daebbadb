"""The predicted bytes and operations are those of what is really built and really computed."""

import contextlib
import dataclasses
import secrets
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, strategies as st
from ranking_keys import fresh_blinders, make_key, owner_encrypt

from jcbir.errors import CapacityError
from jcbir.paillier import public as paillier
from jcbir.ranking import Calibration, build_index, calibrate, cost, open_scores, prepare, score, trapdoor
from jcbir.ranking._batching import padded_rows
from jcbir.ranking._cost import Line, Powers

UNIT = Line(0.0, 1.0)
SECONDS = Calibration("python", 256, {"python": Powers(UNIT, UNIT, UNIT)}, UNIT, UNIT, UNIT, 0.0, 0.0, 0.0)


class Counter:
    """Counts rows that pass through the public operations, as products and inversions."""

    def __init__(self):
        self.products = self.inversions = 0
        self.patches = contextlib.ExitStack()

    def __enter__(self):
        real = {name: getattr(paillier, name) for name in ("add", "rerandomize", "subtract", "product")}

        def add(public, a, b, **options):
            self.products += len(a)
            return real["add"](public, a, b, **options)

        def rerandomize(public, a, *, blinders, **options):
            # The real one multiplies through `add`, which counts.
            return real["rerandomize"](public, a, blinders=blinders, **options)

        def subtract(public, a, b, **options):
            self.products, self.inversions = self.products + len(a), self.inversions + len(a)
            return real["subtract"](public, a, b, **options)

        def product(public, table, picks, **options):
            self.products += picks.shape[0] * (picks.shape[1] - 1)
            return real["product"](public, table, picks, **options)

        for replacement in (add, rerandomize, subtract, product):
            self.patches.enter_context(mock.patch.object(paillier, replacement.__name__, replacement))
        return self

    def __exit__(self, *error):
        self.patches.close()


@given(
    st.sampled_from([("integer", None), ("packed", 3), ("packed", 4), ("bitsliced", None), ("bitsliced", 256)]),
    st.sampled_from([8, 11, 16]),
    st.integers(1, 180),
    st.sampled_from([None, 1, 2, 4]),
)
def test_cost_is_what_is_built(scheme, bits, count, group):
    name, base = scheme
    group = group if name == "bitsliced" else None
    key = make_key(256)
    predicted = cost(key.public, scheme=name, count=count, bits=bits, base=base, group=group)
    operations, layout = predicted.operations, predicted.layout
    encrypted = []

    def encrypt(rows):
        encrypted.append(len(rows))
        return owner_encrypt(key)(rows)

    index = build_index(
        np.random.default_rng(count).random((count, bits)) < 0.5, layout, encrypt=encrypt, public=key.public
    )
    assert sum(encrypted) == operations.build_encryptions
    assert index.ciphertexts.nbytes == predicted.index_bytes
    encrypted.clear()
    question = trapdoor(np.arange(bits) < 3, layout, encrypt=encrypt, public=key.public)
    assert sum(encrypted) == operations.trapdoor_encryptions
    assert question.body.nbytes == predicted.trapdoor_bytes
    prepared_bytes = 0
    with Counter() as counter:
        if group is not None:
            index = prepare(key.public, index, group=group)
            prepared_bytes = index.table.nbytes
    assert (counter.products, counter.inversions) == (operations.prepare_products, operations.prepare_inversions)
    assert prepared_bytes == predicted.prepared_bytes
    blinders = fresh_blinders(key, operations.blinders)
    with Counter() as counter:
        scores = score(key.public, index, question, blinders=blinders)
    assert (counter.products, counter.inversions) == (operations.score_products, operations.score_inversions)
    assert scores.ciphertexts.nbytes == predicted.reply_bytes
    assert len(scores.ciphertexts) == operations.decryptions
    assert len(open_scores(key, scores, engine="python")) == count


def test_seconds_follow_the_operations():
    public = make_key(256).public
    predicted = cost(public, scheme="bitsliced", count=1000, bits=16, group=2, calibration=SECONDS)
    operations, seconds = predicted.operations, predicted.seconds
    assert seconds.build == operations.build_encryptions
    assert seconds.prepare == operations.prepare_products
    assert seconds.score == operations.score_products + operations.blinders
    assert seconds.open == operations.decryptions
    assert seconds.query == seconds.score + seconds.open
    packed = cost(public, scheme="packed", count=1000, bits=16, calibration=SECONDS)
    assert packed.seconds.score == packed.operations.score_products
    assert packed.seconds.trapdoor == 1


def test_reading_digits_costs_by_base():
    public = make_key(256).public
    free = {"python": Powers(UNIT, UNIT, Line(0.0, 0.0))}
    slow = dataclasses.replace(SECONDS, powers=free, split_row=1.0, split_digit=0.5)
    ternary = cost(public, scheme="packed", count=100, bits=16, base=3, calibration=slow)
    binary = cost(public, scheme="packed", count=100, bits=16, base=4, calibration=slow)
    assert ternary.seconds.open == ternary.layout.blocks * (1 + 0.5 * 16 * ternary.layout.lanes)
    assert binary.seconds.open == binary.layout.blocks * 0.5 * 16 * binary.layout.lanes


def test_calibration_reads_the_clock_it_is_given():
    # The n-th reading is n: every operation takes one tick whatever its size, so nothing costs per row.
    ticks = iter(range(10**6))
    measured = calibrate(
        make_key(256), draw=secrets.token_bytes, clock=lambda: float(next(ticks)), engine="python", budget=10.0
    )
    assert measured.powers["python"].decrypt == Line(1.0, 0.0)
    assert measured.modulus_bits == 256


def test_padded_batches_are_paid_for():
    public = make_key(256).public
    both = dataclasses.replace(
        SECONDS, engine="auto", powers=dict.fromkeys(("python", "gmpy2", "jax"), SECONDS.powers["python"])
    )
    few = cost(public, scheme="integer", count=63, bits=16, calibration=both)
    many = cost(public, scheme="integer", count=65, bits=16, calibration=both)
    assert few.seconds.open == 63
    assert many.seconds.open == many.seconds.build == padded_rows(65) > 65
    most = cost(public, scheme="integer", count=295, bits=16, calibration=both)
    assert 295 <= most.seconds.open <= most.seconds.build == padded_rows(295)


def test_bad_arguments():
    public = make_key(256).public
    with pytest.raises(ValueError, match="group: must be None for packed"):
        cost(public, scheme="packed", count=10, bits=16, group=2)
    with pytest.raises(CapacityError):
        cost(public, scheme="packed", count=10, bits=512)
    other = dataclasses.replace(SECONDS, modulus_bits=2048)
    with pytest.raises(ValueError, match="calibration: must be of a 256-bit key, got 2048"):
        cost(public, scheme="packed", count=10, bits=16, calibration=other)
    with pytest.raises(ValueError, match="budget: must be positive"):
        calibrate(make_key(256), draw=secrets.token_bytes, clock=float, budget=0.0)
