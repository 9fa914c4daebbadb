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
from jcbir.protocol.refusals import ForgedScoresError
from jcbir.protocol.session import NOW, Session
from jcbir.protocol.user import scheme_masking_key
from jcbir.ranking import SCHEMES, Layout, Scores, build_index, mask_index, mask_query, plan, score, trapdoor
from jcbir.ranking._sentinels import sentinel_codes
from jcbir.ranking.isometry import mask_lanes
from jcbir.typing import Array


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
    lanes get digits that are far from every query. Before: an authority that believes what the right cloud signed.
    After: sentinels, of which the cloud knows nothing. What remains: with a user it knows their codes and masks, and
    their places as well, for they are never found.

    Returns:
        Shares of reports answered; masked bits read from each query, and the share of the probed ones read right.
    """
    generator, probes = np.random.default_rng(seed), 2 * top + 1
    public_key = generate_keys(bits=key_bits, draw=secrets.token_bytes, unsafe_small=key_bits < 2048).public
    lanes = plan(public_key, scheme="packed", count=1, bits=bits).lanes
    codes, asked = generator.random((probes * lanes, bits)) < 0.5, generator.random((queries, bits)) < 0.5
    trusting, checking = (
        collection(codes, scheme="packed", key_bits=key_bits, users=2, sentinels=sentinels, **UNLIMITED)
        for sentinels in (False, True)
    )
    world, known = _find_sentinels(checking, asked[:1], len(codes))
    before, after = (_read_bits(each, asked, {}, top, generator) for each in (trusting, checking))
    helped = _read_bits(world, asked, known, top, generator)
    names = ("chosen_scores_answered", "masked_bits_per_query", "masked_bits_right")
    return {
        **{f"{name}_before": value for name, value in zip(names, before, strict=True)},
        **{f"{name}_after": value for name, value in zip(names, after, strict=True)},
        **{f"{name}_with_a_user_remaining": value for name, value in zip(names, helped, strict=True)},
    }


def _find_sentinels(world: Session, asked: Bool[Array, "1 k"], count: int) -> tuple[Session, dict[int, np.ndarray]]:
    """Place to masked code of each image that an accomplice, who asks for all, does not find."""
    world, found = session.search(world, asked, top=count, now=NOW, draw=secrets.token_bytes, asker=1)
    segment, own = world.server.segments[0], world.users[1]
    seen = {match.image_id for match in found.matches[0]}
    places = [place for place, image_id in enumerate(segment.image_ids) if image_id not in seen]
    layout = segment.indexes["packed"].layout
    masking_key = scheme_masking_key(own.card, scheme="packed", masking_key=own.masking_key)
    codes = sentinel_codes(layout, masking_key=masking_key)
    arranged = codes[np.arange(layout.count) % len(codes)]
    return world, {place: mask_index(arranged, layout, masking_key=masking_key)[place] for place in places}


def _read_bits(
    world: Session, asked: Bool[np.ndarray, "q k"], known: dict[int, np.ndarray], top: int,
    generator: np.random.Generator,
) -> tuple[float, float, float]:  # fmt: skip
    """Share of the reports answered, bits read of each query, share of the probed bits that is read and right."""
    read, right, answered = top + 1, 0, 0
    layout, names = world.server.segments[0].indexes["packed"].layout, world.server.segments[0].image_ids
    # The lane with the fewest sentinels: probes must be in one lane, for each has coordinates of its own.
    free = [[place for place in range(lane, layout.count, layout.lanes) if place not in known]
            for lane in range(layout.lanes)]  # fmt: skip
    places = np.array(max(free, key=len)[: top + read])
    for code in asked:
        chosen = generator.choice(len(code), read, replace=False)
        before, query = session.ask(world, code[None], top=top, now=NOW, draw=secrets.token_bytes)
        # Digits 2, 0, 2, 0...: with the query's 0 or 1 on top every second one differs, half of the others too.
        digits = np.tile(np.array([2, 0]), (layout.slots, layout.bits // 2)).astype(int)
        digits[places] = 0
        digits[places[top:], chosen] = 1
        for place, masked in known.items():
            digits[place] = masked
        cloud, report = _lying_report(before, query, digits)
        try:
            holder, ranking = authority.answer(world.authority, report, now=NOW)
        except ForgedScoresError:
            continue
        answered += 1
        world = dataclasses.replace(world, server=cloud, authority=holder)
        guessed = np.isin([names[place] for place in places[top:]], ranking.image_ids)
        right += int((guessed == _masked(world, code[None], layout.lanes)[places[0] % layout.lanes, chosen]).sum())
    return answered / len(asked), answered * read / len(asked), right / (len(asked) * read)


def _lying_report(world: Session, query: Query, digits: np.ndarray) -> tuple[server.Server, ScoreReport]:
    """Scores of the trapdoor against these digits, signed by the cloud."""
    cloud = server.admit_query(world.server, query, now=NOW)
    index = cloud.segments[0].indexes["packed"]
    layout, public_key = index.layout, cloud.card.public.key
    numbers = [
        sum(int(digit) * layout.base**place for place, digit in enumerate(row))
        for row in digits.reshape(layout.blocks, -1)
    ]
    fresh = blinders(public_key, layout.blocks, draw=secrets.token_bytes)
    rows = public.encrypt(public_key, from_ints(numbers, width=layout.plaintext_bytes), blinders=fresh)
    body = np.repeat(query.trapdoors[0].body, layout.blocks, axis=0)
    scores = ((Scores(layout, index.fingerprint, public.add(public_key, rows, body)),),)
    header = sign(ScoreReport(query.request, (0,), score_blocks(scores)), secret=world.cloud.secret)
    return cloud, dataclasses.replace(header, scores=scores, openings=query.openings)


def _masked(world: Session, asked: Bool[Array, "1 k"], lanes: int) -> Bool[np.ndarray, "l k"]:
    """The truth, which only owner and users can compute: the query in the coordinates of each lane."""
    own = world.users[0]
    masking_key = scheme_masking_key(own.card, scheme="packed", masking_key=own.masking_key)
    return mask_lanes(np.repeat(asked, lanes, axis=0), masking_key, lanes=lanes)


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
