"""`experiments.attacks.distances`: distances give all codes, unless queries are unknown and codes alike."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.attacks import distances


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """The smoke scale, and codes in a few classes in the place of those of photographs."""
    place = tmp_path_factory.mktemp("distances")
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 5, 300)
    codes = (generator.random((5, 16)) < 0.5)[labels] ^ (generator.random((300, 16)) < 0.05)
    signs = np.where(codes, 0.9, -0.9)
    for name, array in (("database_hash", signs), ("test_hash", signs[::2]), ("database_label", labels)):
        np.save(place / f"{name}.npy", array)
    config = distances.SCALES["smoke"]
    where = replace(config.where, runs=place / "runs")
    found = distances.main(replace(config, where=where, source=place))["attacks"]
    return {key: value for attack in found.values() for key, value in attack.items() if key != "seconds"}


def test_known_queries_give_all_codes(figures):
    assert figures["authority_codes_independent_remaining"] == figures["user_codes_before"] == 1
    for name in ("independent", "classes", "real"):
        assert 16 <= figures[f"queries_for_all_codes_{name}_remaining"] < 40


def test_unknown_queries_give_independent_codes_and_the_neighbors_of_others(figures):
    assert figures["authority_bits_independent_remaining"] == 1
    assert figures["authority_bits_classes_remaining"] < 0.8
    assert 0.9 < figures["neighbors_by_distances_remaining"] <= figures["neighbors_by_codes_remaining"] + 0.05


def test_a_smaller_budget_lasts_longer(figures):
    assert figures["user_codes_after"] < figures["user_codes_in_a_week_remaining"]
    days = [
        figures[f"days_to_half_with_{queries}_queries_{top}_results_remaining"] for queries, top in distances.BUDGETS
    ]
    assert 0 < days[0] < days[1] and days[0] < days[2] < days[3]


def test_an_undetermined_code_is_not_counted():
    generator = np.random.default_rng(0)
    codes = generator.random((50, 16)) < 0.5
    asked = generator.random((15, 16)) < 0.5
    assert distances._determined(asked, codes) == 0
    assert distances._determined(np.concatenate([asked, codes[:10]]), codes) == 1
