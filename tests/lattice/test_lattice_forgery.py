"""A forging server recovers a block where zeros are not checked, and ends at the first alarm where they are."""

import jax
import numpy as np
import pytest

from experiments.attacks import lattice_forgery as forgery
from jcbir.lattice._parameters import PRIMES
from jcbir.lattice._ring import centered, transform

DEGREE = forgery.SCALES["smoke"].degree


@pytest.fixture(scope="module")
def collection():
    return forgery.found(degree=DEGREE, blocks=2, generator=np.random.default_rng(2))


def test_a_known_secret_opens_its_block_and_a_wrong_one_does_not(collection):
    """The attack's last step, and its map from z[i, r] to s."""
    v = collection.key.public.parameters
    s = _secret_of(collection).copy()
    assert set(s) == {-1, 0, 1}
    exponents = np.arange(v.width)[None] * v.kappa - np.arange(v.kappa)[:, None]
    z = np.where(exponents < 0, -s[exponents % v.degree], s[exponents % v.degree])
    assert (forgery._coefficients(z, v) == s).all()
    places = collection.places[: v.images]
    codes = forgery._decoded(collection.key.public, collection.index.rows[:1], s)
    assert (codes[places] == collection.codes[: v.images]).all()
    s[7] = (s[7] + 2) % 3 - 1
    assert forgery._decoded(collection.key.public, collection.index.rows[:1], s) is None


def test_a_forged_reply_that_adds_nothing_is_the_honest_one(collection):
    v, code = collection.key.public.parameters, collection.codes[3]
    nothing = np.zeros((2, v.width, v.lanes), int)
    found = forgery._opened(
        collection, collection.opener, code, lambda it: forgery._forged(it, v, at=5, amount=0, digits=nothing)
    )
    assert (found == (collection.codes != code).sum(1)).all()


def test_digits_move_one_image_alone(collection):
    """What leaves the zeros alone passes them: docs/lattice.md says so."""
    v, code = collection.key.public.parameters, collection.codes[3]
    slot = int(np.flatnonzero(~collection.opener.sentinels[1])[0])
    digits = np.zeros((2, v.width, v.lanes), int)
    digits[1, slot, 2] = 1
    found = forgery._opened(
        collection, collection.opener, code, lambda it: forgery._forged(it, v, at=0, amount=0, digits=digits)
    )
    moved = np.flatnonzero(found != (collection.codes != code).sum(1))
    assert collection.places[moved].tolist() == [(v.width + slot) * v.lanes + 2]


@pytest.mark.slow
def test_it_recovers_the_block_without_zeros_and_nothing_with_them(collection):
    figures = forgery.recover(collection, top=6, queries=2000, generator=np.random.default_rng(3))
    assert figures["block_secret_before"] == figures["block_codes_before"] == 1
    assert 100 < figures["forged_replies_told_before"] < 2000
    assert figures["forged_replies_told_after"] == figures["block_codes_after"] == 0


def test_serving_stops_at_the_first_alarm(collection):
    """As above, without the recovery that takes hundreds of replies."""
    figures = forgery.recover(collection, top=6, queries=3, generator=_generator())
    assert (figures["forged_replies_answered_before"], figures["forged_replies_told_before"]) == (1, 3)
    assert (figures["forged_replies_answered_after"], figures["forged_replies_told_after"]) == (0, 0)


def test_the_smallest_forgery_passes_as_often_as_the_formula_says():
    one = forgery.found(degree=DEGREE, blocks=1, generator=_generator())
    figures = forgery.smallest(one, trials=400, generator=_generator())
    expected = figures["smallest_forgery_answered_expected_remaining"]
    assert expected == 3**-4
    # Five standard deviations.
    assert abs(figures["smallest_forgery_answered_after"] - expected) < 5 * (expected / 400) ** 0.5
    assert figures["honest_replies_refused_after"] == 0


def _generator():
    return np.random.default_rng(4)


def _secret_of(collection) -> np.ndarray:
    """Block 0's, from the values that the authority holds."""
    p = PRIMES[0]
    with jax.enable_x64(True):
        values = np.asarray(collection.opener.chunks[0])[0, 0].reshape(2, DEGREE)[:1]
        return np.asarray(centered(transform(values[None], (p,), degree=DEGREE, inverse=True), p))[0, 0]
