"""Wrong input never becomes a plausible result: every function of these packages with every wrong type and rank."""

import functools
import inspect
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from jcbir import cipher, codes, hashing, metrics
from jcbir.cipher import analysis
from jcbir.hashing import centers, heads, losses, shallow
from jcbir.typing import check_finite

BOOLEANS = np.array([[True, False, True, True], [False, False, True, False]])
WORDS = np.array([[7, 1], [5, 0]], np.uint32)
DISTANCES = np.array([[0, 1, 1, 3], [2, 0, 1, 3]])
CLASSES = np.array([2, 3])
COUNTS = metrics.tally(DISTANCES, BOOLEANS, bits=4)

PHOTO = np.random.default_rng(0).integers(0, 256, (8, 9, 1), np.uint8)
OTHER = PHOTO[::-1].copy()
NAMES = {"key": bytes(32), "nonce": bytes(16)}
BATCH = {"keys": [bytes(32)], "nonces": [bytes(16)]}

LOGITS = np.array([[0.5, -1.5, 2.0, -0.25], [1.0, 0.75, -0.5, 0.25], [-1.0, 0.5, 0.25, 3.0]], np.float32)
KINDS = np.array([2, 0, 2])
ROWS = np.eye(3, dtype=bool)[KINDS]
TABLE = np.array([[True, True, False, True], [True, False, True, True], [False, False, True, False]])
SIGNS = np.where(TABLE, 1.0, -1.0).astype(np.float32)
PLACES = np.array([1, 0, 2])
LOSSES = {
    **{name: ((LOGITS, KINDS), {}) for name in ("dhn", "dpsh", "hashnet", "dch", "dsh", "dbdh", "dnnh", "dtsh")},
    "idhn": ((LOGITS, ROWS), {}),
    "half_pairs": ((LOGITS, KINDS), {}),
    "csq": ((LOGITS, TABLE), {}),
    "central_similarity": ((LOGITS, TABLE), {}),
    "quantization_official": ((LOGITS,), {}),
    "quantization_paper": ((LOGITS,), {}),
    "shortfall": ((LOGITS,), {}),
    "straight_through": ((LOGITS,), {}),
    "half_signs": ((LOGITS,), {}),
    "bihalf": ((LOGITS, SIGNS), {}),
    "cnnh": ((LOGITS, TABLE), {}),
    "greedyhash": ((LOGITS, LOGITS[:, :3].copy(), KINDS), {}),
    "orthohash": ((LOGITS, KINDS, TABLE), {}),
    "adsh": ((LOGITS, KINDS, SIGNS, ROWS, PLACES), {}),
    "adsh_codes": ((SIGNS, SIGNS, KINDS, ROWS, PLACES), {}),
    "dfh": ((LOGITS, KINDS, TABLE), {}),
    "dfh_codes": ((LOGITS, KINDS, SIGNS), {}),
    "dfh_centers": ((SIGNS, KINDS, TABLE), {"steps": 3}),
    "remember": ((losses.empty_bank(3, bits=4, classes=3), PLACES, LOGITS, KINDS), {}),
    "similar_pairs": ((KINDS,), {}),
    "semantic": ((ROWS, TABLE), {}),
    "one_hot": ((KINDS,), {"classes": 3}),
    "separation": ((TABLE,), {}),
    "distinct": ((TABLE,), {}),
}
"""A call of each loss and of each function of labels and centers that is right."""

SEED = jax.random.key(0)
DRAWN = {
    "hash_centers": ((SEED, 5), {"bits": 4}),
    "bernoulli": ((SEED, 5), {"bits": 4}),
    "drawn_centers": ((SEED, 3), {"bits": 4}),
    "separated_centers": ((SEED, 5), {"bits": 6}),
    "hadamard": ((3, 4), {}),
    "label_codes": ((SEED, ROWS), {"bits": 2}),
    "similarity_codes": ((SEED, ROWS[:, KINDS]), {"bits": 4, "rounds": 2}),
    "empty_bank": ((3,), {"bits": 4, "classes": 3}),
    "continuation": ((3,), {}),
}
"""Tables and codes that a key decides, and what takes no array."""

ITEMS = np.random.default_rng(1).normal(size=(24, 6)).astype(np.float32)
MEMBERS = np.arange(24) % 3
MEMBER_ROWS = np.eye(3, dtype=bool)[MEMBERS]
FITS = {
    "project": ((shallow.LinearHash(ITEMS.mean(0), ITEMS[:6]), ITEMS), {}),
    "lsh": ((SEED, ITEMS), {"bits": 2}),
    "itq": ((SEED, ITEMS), {"bits": 2, "iterations": 1}),
    "itq_cca": ((SEED, ITEMS, MEMBER_ROWS), {"bits": 2, "iterations": 1}),
    "ksh": ((SEED, ITEMS, MEMBER_ROWS), {"bits": 2, "anchors": 3, "samples": 6, "iterations": 1}),
    "sdh": ((SEED, ITEMS, MEMBER_ROWS), {"bits": 2, "anchors": 3, "iterations": 1, "sweeps": 1}),
    "fsdh": ((SEED, ITEMS, MEMBER_ROWS), {"bits": 2, "anchors": 3, "iterations": 1}),
    "bre": ((SEED, ITEMS), {"bits": 2, "anchors": 3, "terms": 2, "samples": 6, "sweeps": 1}),
    "fit_whitening": ((ITEMS, MEMBERS), {"directions": 2}),
    "fit_label_free": ((SEED, ITEMS), {"bits": 2, "steps": 1}),
    "fit_csq_head": ((SEED, ITEMS, MEMBERS), {"bits": 4, "label_free_bits": 2, "steps": 1}),
    "general_head": ((), {"bits": 16}),
    "research_whitening": ((), {}),
    "principal_axes": ((ITEMS.astype(np.float64),), {"components": 2}),
    "itq_rotations": ((SEED, ITEMS.astype(np.float64)), {"bits": 2}),
}
"""Shallow hashes and heads."""

RECIPES = {
    "step_decay": ((0.1,), {"factor": 0.5, "every": 3}),
    "two_rates": ((), {"steps_per_epoch": 3, "decay_epochs": 2}),
    "paper_adam": ((), {"steps_per_epoch": 3}),
    "random_resized_crop": ((SEED, PHOTO[None]), {"size": 4}),
    "resized_crop_and_flip": ((SEED, PHOTO[None]), {"size": 4}),
    "random_crop": ((SEED, PHOTO[None]), {"padding": 2}),
    "crop_and_flip": ((SEED, PHOTO[None]), {"padding": 2}),
    "fine_tune": (
        (SEED, PHOTO[None], TABLE[:1]),
        {"apply": lambda *_: (LOGITS[:1], {}), "variables": {"params": {}}, "epochs": 1, "batch": 1},
    ),
}
"""How a network is trained: what these take besides numbers has tests of its own."""

GOOD = {
    "encrypt": ((PHOTO,), NAMES),
    "decrypt": ((PHOTO,), NAMES),
    "encrypt_batch": ((PHOTO[None],), BATCH),
    "decrypt_batch": ((PHOTO[None],), BATCH),
    "mse": ((PHOTO, OTHER), {}),
    "psnr": ((PHOTO, OTHER), {}),
    "ideal_psnr": ((PHOTO,), {}),
    "ssim": ((PHOTO[..., 0], OTHER[..., 0]), {}),
    "entropy": ((PHOTO,), {}),
    "chi_square": ((PHOTO,), {}),
    "adjacent_correlation": ((PHOTO[..., 0],), {}),
    "npcr": ((PHOTO, OTHER), {}),
    "uaci": ((PHOTO, OTHER), {}),
    "flipped_bits": ((PHOTO, OTHER), {}),
    "expected_npcr": ((100,), {}),
    "expected_uaci": ((100,), {}),
    "binarize": ((BOOLEANS - 0.5,), {}),
    "from_signs": ((BOOLEANS * 2 - 1,), {}),
    "from_bits": ((BOOLEANS * 1,), {}),
    "pack": ((BOOLEANS,), {}),
    "unpack": ((WORDS,), {"bits": 64}),
    "to_bytes": ((WORDS,), {"bits": 64}),
    "from_bytes": ((np.zeros((2, 8), np.uint8),), {"bits": 64}),
    "hamming": ((WORDS, WORDS), {}),
    "pairwise": ((WORDS, WORDS), {}),
    "nearest": ((WORDS, WORDS), {"top": 1}),
    "word_count": ((64,), {}),
    "average_precision": ((DISTANCES, BOOLEANS), {"top": 2, "bits": 4}),
    "mean_average_precision": ((DISTANCES, BOOLEANS), {"top": 2, "bits": 4}),
    "mean_over_queries": ((np.array([0.5, 0.25]), np.array([1, 2])), {}),
    "convention": ((), {"top": 2}),
    "tied_average_precision": ((COUNTS,), {"top": 2}),
    "hits_at": ((COUNTS,), {"top": 2}),
    "precision_at": ((COUNTS,), {"top": 2}),
    "recall_at": ((COUNTS,), {"top": 2}),
    "precision_recall": ((COUNTS,), {}),
    "precision_within": ((COUNTS,), {"radius": 1}),
    "recall_within": ((COUNTS,), {"radius": 1}),
    "tally": ((DISTANCES, BOOLEANS), {"bits": 4}),
    "tally_blocks": (([(DISTANCES, BOOLEANS)],), {"bits": 4}),
    "tally_codes": ((BOOLEANS, BOOLEANS, CLASSES, CLASSES), {}),
    "evaluate": ((BOOLEANS, BOOLEANS, CLASSES, CLASSES), {"top": 2}),
    "curve": ((COUNTS,), {"tops": (1, 2)}),
    "grade_tally": ((DISTANCES, DISTANCES), {"bits": 4, "highest": 3}),
    "tallied_ndcg": ((metrics.grade_tally(DISTANCES, DISTANCES),), {"top": 2, "items": 4}),
    "ndcg": ((DISTANCES, DISTANCES), {"top": 2, "bits": 4, "highest": 3}),
}
"""A call of each function that is right."""
GOOD |= LOSSES | DRAWN | FITS

CIPHER = ("encrypt", "decrypt", "encrypt_batch", "decrypt_batch")
FUNCTIONS = {
    name: getattr(module, name)
    for module, names in (
        (codes, vars(codes)),
        (metrics, metrics.__all__),
        (analysis, vars(analysis)),
        (cipher, CIPHER),
        (losses, losses.__all__),
        (centers, vars(centers)),
        (shallow, vars(shallow)),
        (heads, vars(heads)),
    )
    for name in names
    if inspect.isfunction(getattr(module, name))
    and getattr(module, name).__module__.startswith(module.__name__)
    and not name.startswith("_")
}
ON_HOST = {"convention", "word_count", "to_bytes", "from_bytes", "evaluate", "tally_codes"} | {
    name for name, function in FUNCTIONS.items() if function.__module__.startswith("jcbir.cipher")
}
VALUES_ON_HOST = {"mean_average_precision"}
"""Takes JAX arrays, and gives Python numbers: not under `jit`."""
SHALLOW = {name for name, function in FUNCTIONS.items() if function.__module__ == shallow.__name__}
PROGRAMS = LOSSES.keys() | SHALLOW | {"label_codes", "similarity_codes"}
"""Swept as programs that know their arrays: such a one looks at what comes, and is compiled once, not step by step."""
# Losses are jitted, and differentiated, by the battery of tests/hashing/test_baselines.py.
NARROWLY = LOSSES.keys() | DRAWN.keys() | FITS.keys()
SWEPT_FURTHER = [name for name in GOOD if name not in ON_HOST | NARROWLY]
DTYPES = ("bool", "uint8", "int8", "int32", "int64", "uint32", "float16", "float32", "float64", "complex64", "O", "U1")
NUMBERS = (True, 2.0, 2.7, -3, 10**9, "2", None, np.float64(2), np.array([2]))
NONE_ALLOWED = {"top", "bits", "highest", "items", "size", "label_free_bits"}
NARROW = {"i": np.int32, "f": np.float32}


def same(a, b) -> bool:
    return all(
        x == y if isinstance(x, str) else np.allclose(np.asarray(x), np.asarray(y), rtol=1e-5, equal_nan=True)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_the_sweep_knows_every_function():
    assert set(FUNCTIONS) - {"chi_square_limit"} == set(GOOD)


@pytest.mark.parametrize("name", GOOD)
def test_every_wrong_type_and_rank(unchecked, name):
    """A typed error, or the value of the right call: a cast that changes nothing is no fault."""
    function, (arrays, options) = FUNCTIONS[name], GOOD[name]

    def call(*given):
        run = functools.partial(function, *given, **options)
        return jax.jit(run)() if name in PROGRAMS else run()

    right, reasons = call(*arrays), []
    for place, value in enumerate(arrays):
        if not isinstance(value, np.ndarray):
            continue
        wrong = [value.astype(dtype) for dtype in DTYPES if value.dtype != dtype]
        if name in NARROWLY:
            # Each width of a type that is taken would be another program to compile.
            wrong = [made for made in wrong if made.dtype.kind != value.dtype.kind]
        wrong += [
            value[..., :0],
            np.asarray(value.flat[0]),
            value.tolist(),
            None,
            "codes",
            value[..., None][..., [0, 0, 0]],
        ]
        wrong += [value[..., None, :, :, None]] if value.ndim > 1 else []

        def instead(made, place=place):
            return call(*arrays[:place], made, *arrays[place + 1 :])

        # Of arrays that JAX holds only types and ranks are in question: one program, again.
        calls = [(np, instead)]
        if name not in NARROWLY:
            calls.append((jnp, instead if name in ON_HOST | VALUES_ON_HOST else jax.jit(instead)))
        # Of a narrower array every row still means what it did; of another shape it cannot be what was asked.
        for made in wrong:
            for module, run in calls:
                if module is jnp:
                    if not isinstance(made, np.ndarray) or made.dtype.kind in "OU":
                        continue
                    made = jnp.asarray(made)
                try:
                    found = run(made)
                except ValueError as error:
                    reasons.append(str(error))
                    continue
                kept = np.asarray(made).shape != value.shape or same(found, right)
                assert kept, f"{name} took {getattr(made, 'dtype', type(made))} for {value.dtype}: {found}"
    assert [reason for reason in reasons if ": must" not in reason] == []


CALLS = GOOD | RECIPES
CALLED = FUNCTIONS | {name: getattr(hashing, name) for name in RECIPES}
NO_NUMBERS = {"key", "nonce", "keys", "nonces", "tops", "rounds", "factor", "apply", "variables"}


@pytest.mark.parametrize("name", CALLS)
def test_every_wrong_number(unchecked, name):
    function, (arrays, options) = CALLED[name], CALLS[name]
    for option in options.keys() - NO_NUMBERS:
        for value in NUMBERS:
            if value is None and option in NONE_ALLOWED:
                continue
            if option == "radius" and value == 10**9:
                continue  # A radius beyond the longest distance holds everything.
            if (name, option, value) == ("convention", "top", 10**9) or (
                value == 10**9 and (option in ("bits", "highest", "classes", "steps") or name in FITS | RECIPES)
            ):
                continue  # A name has no database; bounds may be wide, at a price.
            with pytest.raises(ValueError, match=f"{option}: must|{option}, "):
                function(*arrays, **{**options, option: value})


def reals() -> list[tuple[str, str]]:
    """Every function of `jcbir.hashing` with every argument that is a float."""
    names = [name for name, function in CALLED.items() if function.__module__.startswith("jcbir.hashing")]
    found = [(name, p) for name in names for p in inspect.signature(CALLED[name]).parameters.values()]
    return [(name, p.name) for name, p in found if float in (p.annotation, *typing.get_args(p.annotation))]


@pytest.mark.parametrize(("name", "option"), reals())
def test_every_wrong_real(unchecked, name, option):
    (arrays, options), signature = CALLS[name], inspect.signature(CALLED[name])
    right = signature.bind(*arrays, **options).arguments
    nothing = [] if signature.parameters[option].default is None else [None]
    for value in (float("nan"), float("inf"), -float("inf"), -1.0, "1", True, np.array([1.0]), 1j, *nothing):
        with pytest.raises(ValueError, match=f"^{option}: must"):
            CALLED[name](**{**right, option: value})


def test_every_package_of_floats_is_swept():
    assert len(reals()) > 50 and {"fsdh", "fit_csq_head", "dch", "two_rates"} <= {name for name, _ in reals()}
    rest = (getattr(hashing, name) for name in hashing.__all__ if name not in RECIPES)
    for function in filter(inspect.isfunction, rest):
        assert float not in {p.annotation for p in inspect.signature(function).parameters.values()}


def test_a_weight_may_be_part_of_a_program(unchecked):
    program = jax.jit(lambda weight: losses.dhn(LOGITS, KINDS, quantization_weight=weight))
    np.testing.assert_allclose(program(0.3), losses.dhn(LOGITS, KINDS, quantization_weight=0.3), rtol=1e-6)
    with pytest.raises(ValueError, match="quantization_weight: must be finite and at least 0, got "):
        jax.jit(lambda weight: losses.dhn(LOGITS, KINDS, quantization_weight=weight))(np.ones(2))


@pytest.mark.parametrize("name", FITS)
def test_no_fit_to_what_is_not_finite(name):
    arrays, options = FITS[name]
    for place, value in enumerate(arrays):
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            continue
        for wrong in (np.nan, np.inf):
            broken = value.copy()
            broken[1, 2] = wrong
            with pytest.raises(ValueError, match="must be finite, got 1 of 144 values that are NaN or infinite"):
                FUNCTIONS[name](*arrays[:place], broken, *arrays[place + 1 :], **options)


@pytest.mark.parametrize(
    ("name", "place"),
    [("dfh_codes", 0), ("dfh_codes", 2), ("adsh_codes", 0), ("adsh_codes", 1), ("half_signs", 0), ("bihalf", 0)],
)
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_no_code_of_what_is_not_finite(name, place, wrong):
    """NaN compared with 0 would be a bit like any other. Also where a compiled program knows the array."""
    arrays, options = LOSSES[name]
    broken = arrays[place].copy()
    broken[1, 2] = wrong
    given = [*arrays[:place], broken, *arrays[place + 1 :]]
    for values in (given, jax.tree.map(jnp.asarray, given)):
        for call in (
            lambda v: FUNCTIONS[name](*v, **options),
            lambda v: jax.jit(lambda: FUNCTIONS[name](*v, **options))(),
        ):
            with pytest.raises(ValueError, match=r"must be (finite, got 1 of 12|-1 or 1, or 0 at the start, got)"):
                call(values)


@pytest.mark.parametrize(
    ("name", "place"), [("half_signs", 0), ("bihalf", 0), ("adsh_codes", 1), ("straight_through", 0)]
)
def test_inside_a_program_nan_stays_nan(name, place):
    arrays, options = LOSSES[name]
    broken = arrays[place].copy()
    broken[1, 2] = np.nan
    given = [*arrays[:place], broken, *arrays[place + 1 :]]
    assert np.isnan(jax.jit(lambda *a: FUNCTIONS[name](*a, **options))(*given)).any()


def test_codes_and_rows_of_a_database_are_looked_at():
    """Other signs would be taken for codes; a row beyond the last for the last one, or for none."""
    for name, rows in (("adsh", 4), ("adsh_codes", 4)):
        arrays = LOSSES[name][0]
        place = next(i for i, value in enumerate(arrays) if value is SIGNS)
        for wrong in (0.5, 2.0):
            broken = SIGNS.copy()
            broken[1, 2] = wrong
            with pytest.raises(ValueError, match=f"^signs: must be -1 or 1, or 0 at the start, got {wrong}"):
                FUNCTIONS[name](*arrays[:place], broken, *arrays[place + 1 :])
        for wrong in ([0, 1, 3], [0, 1, -1]):
            with pytest.raises(
                ValueError, match=f"^rows: must be positions from 0 to 2, got {min(wrong)} to {max(wrong)}"
            ):
                FUNCTIONS[name](*arrays[:rows], np.array(wrong))
    beyond = jax.jit(losses.adsh)(*LOSSES["adsh"][0][:4], np.array([0, 1, 3]))
    assert np.isfinite(beyond[:2]).all() and np.isnan(beyond[2])


@given(st.lists(st.one_of(st.integers(-9, 9), st.booleans(), st.floats(), st.complex_numbers()), max_size=4), st.data())
def test_numbers_are_leaves_as_arrays_are(leaves, data):
    wrap = data.draw(st.sampled_from([lambda x: x, np.asarray, np.atleast_1d, lambda x: np.asarray(x)[()]]))
    tree = {"a": [wrap(leaf) for leaf in leaves], "b": "no number"}
    if np.isfinite(np.array(leaves, complex)).all():
        return check_finite("tree", tree)
    first = next(place for place, leaf in enumerate(leaves) if not np.isfinite(leaf))
    with pytest.raises(ValueError, match=rf"tree\['a'\]\[{first}\]: must be finite, got 1 of 1 values"):
        check_finite("tree", tree)


@pytest.mark.parametrize("name", SWEPT_FURTHER)
def test_the_same_results_with_and_without_x64(name):
    """JAX arrays in: the same values and types whether 64-bit types are allowed or not."""
    function, (arrays, options) = FUNCTIONS[name], GOOD[name]
    found = []
    for x64 in (False, True):
        with jax.enable_x64(x64):
            inside = jax.tree.map(lambda a: jnp.asarray(a.astype(NARROW.get(a.dtype.kind, a.dtype))), arrays)
            call = functools.partial(function, **options)
            result = (call if name in VALUES_ON_HOST else jax.jit(call))(*inside)
            found.append(jax.tree.map(lambda leaf: (np.asarray(leaf), np.asarray(leaf).dtype), result))
    assert jax.tree.structure(found[0]) == jax.tree.structure(found[1])
    for a, b in zip(jax.tree.leaves(found[0]), jax.tree.leaves(found[1]), strict=True):
        if isinstance(a, np.dtype):
            assert a == b
        else:
            assert np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f")


@pytest.mark.parametrize(
    "draw",
    [
        lambda: centers.hash_centers(SEED, 20, bits=8),
        lambda: losses.similarity_codes(SEED, ROWS[:, KINDS], bits=4, rounds=2),
        lambda: jax.jit(hashing.crop_and_flip)(SEED, np.tile(PHOTO, (4, 1, 1, 3))),
        lambda: jax.jit(functools.partial(hashing.resized_crop_and_flip, size=6))(SEED, np.tile(PHOTO, (4, 1, 1, 3))),
    ],
    ids=["hash_centers", "similarity_codes", "crop_and_flip", "resized_crop_and_flip"],
)
def test_a_key_draws_the_same_with_and_without_x64(draw):
    plain = draw()
    with jax.enable_x64(True):
        assert np.array_equal(draw(), plain)


@pytest.mark.parametrize("name", [name for name in SWEPT_FURTHER if name not in VALUES_ON_HOST])
def test_the_same_results_under_jit(name):
    """The list of what can be part of a program: all of these packages but what is named above."""
    function, (arrays, options) = FUNCTIONS[name], GOOD[name]
    inside = jax.tree.map(jnp.asarray, arrays)
    assert same(jax.jit(lambda *a: function(*a, **options))(*inside), function(*inside, **options))


@pytest.mark.parametrize("name", ["to_bytes", "from_bytes", "evaluate", "tally_codes", "mean_average_precision"])
def test_what_runs_on_the_host_says_so(name):
    assert "on the host" in inspect.getdoc(FUNCTIONS[name])


@pytest.mark.parametrize("name", SWEPT_FURTHER)
def test_nothing_raises_under_debug_nans(name):
    function, (arrays, options) = FUNCTIONS[name], GOOD[name]
    if name == "precision_recall":
        far = metrics.tally(DISTANCES + 1, BOOLEANS, bits=4)
        arrays = (far,)
    plain = function(*jax.tree.map(jnp.asarray, arrays), **options)
    jax.config.update("jax_debug_nans", True)
    try:
        assert same(function(*jax.tree.map(jnp.asarray, arrays), **options), plain)
    finally:
        jax.config.update("jax_debug_nans", False)
