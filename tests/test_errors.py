"""The errors that a caller tells apart: each is a ValueError, and none passes for another."""

import itertools

import pytest

from jcbir import errors
from jcbir.protocol import refusals

FOUR = (errors.CapacityError, errors.FormatError, errors.IntegrityError, errors.KeyMismatchError)
KINDS = {
    errors.IntegrityError: {"forged-grant", "tampered-query", "forged-reply", "rolled-back", "forged-scores"},
    errors.KeyMismatchError: {"foreign-collection"},
    errors.FormatError: set(),
    errors.CapacityError: set(),
}
"""Which refusals are of which kind, by their codes."""


def test_the_four_are_errors_of_values_and_apart():
    assert {value for value in vars(errors).values() if isinstance(value, type)} == set(FOUR)
    assert all(issubclass(error, ValueError) for error in FOUR)
    assert not any(issubclass(one, other) for one, other in itertools.permutations(FOUR, 2))


@pytest.mark.parametrize("kind", FOUR)
def test_a_refusal_is_of_the_kind_of_what_was_wrong(kind):
    assert {error.code for error in refusals.REFUSALS if issubclass(error, kind)} == KINDS[kind]


def test_refusals_differ_by_code_and_remember_when_to_come_back():
    every = refusals.REFUSALS
    assert len({error.code for error in every}) == len(every)
    for error in every:
        assert issubclass(error, ValueError) and error("x", retry_after=3.5).retry_after == 3.5
        assert error("x").retry_after == error.retry_after
