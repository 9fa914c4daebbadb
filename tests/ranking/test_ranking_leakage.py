"""What the parties can compute, computed: the server from trapdoors, the key holder from decrypted scores."""

import numpy as np
import pytest
from ranking_keys import fresh_blinders, make_key, owner_encrypt

from jcbir.ranking import SCHEMES, build_index, mask_index, mask_query, plan, score, trapdoors
from jcbir.ranking._open import decrypt_scores
from jcbir.ranking._packed import align_lanes
from jcbir.ranking.isometry import Isometry, derive_isometry, mask_codes, mask_lanes

MASKING_KEY = bytes(range(32))
PAILLIER = [name for name, scheme in SCHEMES.items() if scheme.key_kind == "paillier"]


def draw_codes(seed, count, bits=16):
    return np.random.default_rng(seed).random((count, bits)) < 0.5


def pairwise(codes):
    return np.count_nonzero(codes[:, None] != codes, axis=2)


def run(scheme, codes, queries, counts):
    """What the server receives and what the key holder decrypts, over segments of the given sizes."""
    key = make_key(256)
    layouts = [plan(key.public, scheme=scheme, count=count, bits=codes.shape[1]) for count in counts]
    parts = np.split(codes, np.cumsum(counts)[:-1])
    asked = mask_query(queries, layouts[0], masking_key=MASKING_KEY)
    doors = trapdoors(asked, layouts[0], encrypt=owner_encrypt(key), public=key.public)
    indexes = [
        build_index(
            mask_index(part, layout, masking_key=MASKING_KEY), layout, encrypt=owner_encrypt(key), public=key.public
        )
        for part, layout in zip(parts, layouts, strict=True)
    ]
    rows = [
        [
            (
                index.layout,
                decrypt_scores(
                    key,
                    score(key.public, index, door, blinders=fresh_blinders(key, index.layout.blocks)),
                    engine="python",
                ),
            )
            for index in indexes
        ]
        for door in doors
    ]
    return key, doors, rows


@pytest.mark.parametrize("scheme", PAILLIER)
def test_distances_compare_across_segments(scheme):
    codes, queries = draw_codes(1, 31), draw_codes(2, 2)
    key, _, rows = run(scheme, codes, queries, (13, 18))
    record = SCHEMES[scheme]
    for pieces, query in zip(rows, queries, strict=True):
        opened = record.decode(pieces, key.public)
        if scheme == "integer":
            masked = mask_lanes(np.concatenate([codes, query[None]]), MASKING_KEY, lanes=1)
            assert opened.tolist() == record.distances(masked[:-1], masked[-1]).tolist()
        else:
            assert opened.tolist() == record.distances(codes, query).tolist()


def test_the_server_sees_distances_between_bitsliced_queries_alone():
    queries = draw_codes(3, 4)
    queries[3] = queries[1]
    for scheme in PAILLIER:
        _, doors, _ = run(scheme, draw_codes(4, 5), queries, (5,))
        seen = SCHEMES[scheme].leakage.server(doors)
        if scheme == "bitsliced":
            assert np.array_equal(seen.values["query_distances"], pairwise(queries))
            assert "1 equal pairs" in seen.words
            assert SCHEMES[scheme].leakage.server(doors[:1]).words == "the masked query"
        else:
            assert seen.values == {}
            assert len({door.body.tobytes() for door in doors}) == 4


def test_the_key_holder_sees_distances_alone_in_bitsliced():
    codes, queries = draw_codes(5, 31), draw_codes(6, 2)
    key, _, rows = run("bitsliced", codes, queries, (13, 18))
    seen = SCHEMES["bitsliced"].leakage.authority(rows, key.public)
    assert list(seen.values) == ["distances"]
    assert np.array_equal(seen.values["distances"], np.count_nonzero(queries[:, None] != codes, axis=2))


def test_the_key_holder_sees_masked_differences_in_integer():
    codes, queries = draw_codes(7, 9), draw_codes(8, 2)
    key, _, rows = run("integer", codes, queries, (4, 5))
    weights = 1 << np.arange(16)[::-1]
    stored, asked = (mask_lanes(part, MASKING_KEY, lanes=1) @ weights for part in (codes, queries))
    seen = SCHEMES["integer"].leakage.authority(rows, key.public)
    assert np.array_equal(seen.values["differences"], stored - asked[:, None])


def test_one_packed_query_shows_the_pattern_of_each_lane_alone():
    codes, query = draw_codes(9, 31), draw_codes(10, 1)
    key, _, rows = run("packed", codes, query, (13, 18))
    lanes = np.concatenate([np.arange(13), np.arange(18)]) % rows[0][0][0].lanes
    seen = SCHEMES["packed"].leakage.authority(rows, key.public)
    for lane in np.unique(lanes):
        secret = derive_isometry(MASKING_KEY, bits=16, lane=int(lane))
        here = mask_codes(codes[lanes == lane], secret).astype(int) - mask_codes(query, secret).astype(int)
        assert np.array_equal(seen.values["patterns"][0, lanes == lane], here)
    assert np.array_equal(seen.values["distances"], np.count_nonzero(query[:, None] != codes, axis=2))
    assert np.array_equal(seen.values["groups"], lanes)
    # What remains: all distances within a lane, across segments too.
    same = lanes[:, None] == lanes
    found = pairwise(seen.values["differ"])
    assert np.array_equal(found[same], pairwise(codes)[same])
    # The rule of one isometry for all lanes gave all of them.
    assert not np.array_equal(found, pairwise(codes))
    assert f"{same.mean():.1%} of all pairs" in seen.words


def test_one_query_does_not_determine_distances_across_lanes():
    # Collections that differ in the distance between codes of two lanes, seen alike under keys that are equally likely.
    generator = np.random.default_rng(0)
    first, second, query = generator.random((3, 16)) < 0.5
    secret = derive_isometry(MASKING_KEY, bits=16, lane=1)
    reached = set()
    for _ in range(2000):
        # The second code differs from the query in as many bits as before, at other places.
        shuffle = generator.permutation(16)
        moved = (second ^ query)[shuffle] ^ query
        order = np.argsort(shuffle)[secret.permutation]
        other = Isometry(order, mask_codes(query, secret) ^ query[order])
        assert np.array_equal(mask_codes(query, other), mask_codes(query, secret))
        assert np.array_equal(mask_codes(moved, other), mask_codes(second, secret))
        reached.add(int((first ^ moved).sum()))
    a, b = int((first ^ query).sum()), int((second ^ query).sum())
    # Every distance that the two distances to the query permit.
    assert reached == set(range(abs(a - b), min(a + b, 32 - a - b) + 1, 2))
    assert len(reached) > 4


@pytest.mark.parametrize(("queries", "aligned"), [(1, False), (4, False), (40, True)])
def test_many_packed_queries_align_the_lanes(queries, aligned):
    # What an isometry for each lane does not hide: the queries' own bits name the places, lane by lane.
    codes, asked = draw_codes(11, 400), draw_codes(12, queries)
    lanes = (np.arange(400) % 10).astype(np.int32)
    stored = mask_lanes(codes, MASKING_KEY, lanes=10).astype(np.int8)
    under = np.stack([mask_lanes(np.repeat(q[None], 400, axis=0), MASKING_KEY, lanes=10) for q in asked])
    differ, groups = align_lanes(stored - under.astype(np.int8), lanes)
    assert (len(set(groups.tolist())) == 1) == aligned
    assert np.array_equal(pairwise(differ), pairwise(codes)) == aligned
