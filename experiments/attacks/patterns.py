"""`packed`: what the digits of a score tell the authority, and what a cloud that lies reads off the results."""

import dataclasses
import secrets

import numpy as np
from jaxtyping import Bool

from experiments.attacks.parties import UNLIMITED, collection
from jcbir.codes import pack, pairwise
from jcbir.paillier import blinders, from_ints, generate_keys, public
from jcbir.paillier.secret import decrypt, encrypt
from jcbir.protocol import authority, server, session
from jcbir.protocol._digests import score_blocks
from jcbir.protocol._signatures import sign
from jcbir.protocol.messages import Query, ScoreReport
from jcbir.protocol.session import NOW, Session
from jcbir.protocol.user import scheme_masking_key
from jcbir.ranking import SCHEMES, Layout, Scores, build_index, mask_index, mask_query, plan, score, trapdoor
from jcbir.ranking.isometry import mask_lanes
from jcbir.typing import Array

LANE = 0
"""The lane whose masked bits the cloud reads."""


def one_query(*, count: int, bits: int, key_bits: int, queries: int, seed: int) -> dict[str, float]:
    """The authority decrypts one query, and from its digits computes the distances between all codes.

    Before: one isometry for all lanes. After: one for each lane; and what more queries give back.

    Returns:
        Share of pairs of codes whose distance it computes from one query, and from `queries`.
    """
    generator = np.random.default_rng(seed)
    codes, asked = generator.random((count, bits)) < 0.5, generator.random((queries, bits)) < 0.5
    key = generate_keys(bits=key_bits, draw=secrets.token_bytes, unsafe_small=key_bits < 2048)
    layout, masking_key = plan(key.public, scheme="packed", count=count, bits=bits), secrets.token_bytes(32)
    one = mask_lanes(codes, masking_key, lanes=1), mask_lanes(asked, masking_key, lanes=1)[:, None]
    each = (
        mask_index(codes, layout, masking_key=masking_key),
        mask_query(asked, layout, masking_key=masking_key),
    )
    pairs = {}
    for name, (stored, doors), number, lanes in (
        ("before", one, 1, 1),
        ("after", each, 1, layout.lanes),
        (f"after_{queries}_queries", each, queries, layout.lanes),
    ):
        rows = [_decrypted(key, layout, stored, door) for door in doors[:number]]
        seen = SCHEMES["packed"].leakage.authority(rows, key.public).values
        # With one isometry every lane has the same coordinates.
        groups = np.zeros(count, int) if lanes == 1 else seen["groups"]
        right = (groups[:, None] == groups) & (_distances(seen["differ"]) == _distances(codes))
        pairs[f"pairs_{name}"] = float(right[np.triu_indices(count, 1)].mean())
    remains = pairs.pop(f"pairs_after_{queries}_queries")
    return pairs | {"pairs_with_many_queries_remaining": remains}


def chosen_trapdoor(*, queries: int, bits: int, key_bits: int, top: int, seed: int) -> dict[str, float]:
    """A cloud scores the trapdoor against codes of its own, and which images come back tells bits of the query.

    In one lane, `top` images have the code c, and `top + 1` others c with one bit turned. An image is nearer than c
    exactly if the query has the bit that it was given, so it comes back, and c fills the rest of the results. The other
    lanes get digits that are far from every query; blocks that are not needed hold numbers without the query in them.
    This is the protocol as it is: the report is signed by the right cloud, and the authority answers it.

    Returns:
        Masked bits read from each query, and the share of them that is right.
    """
    generator, read = np.random.default_rng(seed), top + 1
    public_key = generate_keys(bits=key_bits, draw=secrets.token_bytes, unsafe_small=key_bits < 2048).public
    lanes = plan(public_key, scheme="packed", count=1, bits=bits).lanes
    codes = generator.random(((top + read) * lanes, bits)) < 0.5
    world = collection(codes, scheme="packed", key_bits=key_bits, **UNLIMITED)
    right = 0
    for _ in range(queries):
        chosen, asked = generator.choice(bits, read, replace=False), generator.random((1, bits)) < 0.5
        before, query = session.ask(world, asked, top=top, now=NOW, draw=secrets.token_bytes)
        cloud, report = _lying_report(before, query, chosen, top)
        world = dataclasses.replace(before, server=cloud)
        holder, ranking = authority.answer(world.authority, report, now=NOW)
        world = dataclasses.replace(world, authority=holder)
        returned = set(ranking.image_ids)
        probes = world.server.segments[0].image_ids[LANE::lanes][top : top + read]
        guessed = np.array([image_id in returned for image_id in probes])
        right += int((guessed == _masked(world, asked, lanes)[chosen]).sum())
    return {"masked_bits_per_query_before": float(read), "masked_bits_right_before": right / (queries * read)}


def _lying_report(world: Session, query: Query, chosen: np.ndarray, top: int) -> tuple[server.Server, ScoreReport]:
    """Scores of the trapdoor against the probes, signed by the cloud."""
    cloud = server.admit_query(world.server, query, now=NOW)
    index = cloud.segments[0].indexes["packed"]
    layout, public_key = index.layout, cloud.card.public.key
    # Digits 2, 0, 2, 0...: with the query's digit 0 or 1 on top every second one differs, half of the others too.
    digits = np.tile(np.array([2, 0]), (layout.blocks, layout.lanes, layout.bits // 2)).astype(int)
    digits[: top + len(chosen), LANE] = 0
    digits[top + np.arange(len(chosen)), LANE, chosen] = 1
    numbers = [
        sum(int(digit) * layout.base**place for place, digit in enumerate(row))
        for row in digits.reshape(layout.blocks, -1)
    ]
    fresh = blinders(public_key, layout.blocks, draw=secrets.token_bytes)
    rows = public.encrypt(public_key, from_ints(numbers, width=layout.plaintext_bytes), blinders=fresh)
    body = np.repeat(query.trapdoors[0].body, layout.blocks, axis=0)
    scores = ((Scores(layout, index.fingerprint, public.add(public_key, rows, body)),),)
    header = sign(ScoreReport(query.request, (0,), score_blocks(scores)), secret=world.cloud.secret)
    return cloud, dataclasses.replace(header, scores=scores)


def _masked(world: Session, asked: Bool[Array, "1 k"], lanes: int) -> Bool[np.ndarray, " k"]:
    """The truth, which only owner and users can compute: the query in the coordinates of the lane."""
    own = world.users[0]
    masking_key = scheme_masking_key(own.card, scheme="packed", masking_key=own.masking_key)
    return mask_lanes(np.repeat(asked, lanes, axis=0), masking_key, lanes=lanes)[LANE]


def _decrypted(key, layout: Layout, stored: np.ndarray, door: np.ndarray) -> list[tuple[Layout, np.ndarray]]:
    """One query as the authority sees it, through real ciphertexts."""

    def seal(rows: np.ndarray) -> np.ndarray:
        return encrypt(key, rows, draw=secrets.token_bytes)

    index = build_index(stored, layout, encrypt=seal, public=key.public)
    sent = trapdoor(door, layout, encrypt=seal, public=key.public)
    fresh = blinders(key.public, layout.blocks, draw=secrets.token_bytes)
    return [(layout, decrypt(key, score(key.public, index, sent, blinders=fresh).ciphertexts))]


def _distances(codes: Bool[Array, "n k"]) -> np.ndarray:
    return np.asarray(pairwise(pack(codes), pack(codes)))
