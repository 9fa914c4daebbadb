"""What two parties learn together that neither learns alone. No rule prevents any of it."""

import dataclasses
import secrets

import numpy as np
from jaxtyping import Bool

from experiments.attacks.parties import collection
from jcbir.paillier import blinders, public
from jcbir.paillier.secret import decrypt
from jcbir.protocol import authority, owner, server, session, user
from jcbir.protocol._digests import score_blocks
from jcbir.protocol._grants import commit
from jcbir.protocol._signatures import sign
from jcbir.protocol.leakage import authority_view
from jcbir.protocol.messages import Query, ScoreReport
from jcbir.protocol.refusals import ForgedScoresError
from jcbir.protocol.session import NOW, Session
from jcbir.protocol.user import User, scheme_masking_key
from jcbir.ranking import build_index, mask_index, score
from jcbir.ranking._radix import split
from jcbir.ranking.isometry import Isometry, isometry, mask_codes
from jcbir.sealing import image_key, open_sealed

DRAW = secrets.token_bytes


def cloud_and_user(*, count: int, bits: int, key_bits: int, seed: int) -> dict[str, float]:
    """The cloud passes another user's trapdoor on to its accomplice, who asks with it: so the distances are
    sealed to the accomplice.

    In `packed` the cloud scores it against codes of its own, and the accomplice, who has the masking key, solves for
    the query. Before: without sentinels. After: it must say how far the victim's query is from each sentinel's code,
    and guesses. In `bitsliced` the masking key opens the masked query.

    Returns:
        Shares of the bits of the victim's code that the two have.
    """
    generator = np.random.default_rng(seed)
    codes, asked = generator.random((count, bits)) < 0.5, generator.random((1, bits)) < 0.5
    solved = {}
    for rule, sentinels in (("before", False), ("after", True)):
        world = collection(codes, scheme="packed", key_bits=key_bits, users=2, sentinels=sentinels)
        try:
            solved[f"packed_query_bits_{rule}"] = float((_solve(world, asked, generator) == asked[0]).mean())
        except ForgedScoresError:
            solved[f"packed_query_bits_{rule}"] = 0.0
    masked = isometry(_mask_of(world.users[1], "bitsliced"), bits=bits)
    opened = _unmask(mask_codes(asked, masked), masked)
    return solved | {"bitsliced_query_bits_remaining": float((opened == asked).mean())}


def _solve(world: Session, asked: Bool[np.ndarray, "1 k"], generator: np.random.Generator) -> Bool[np.ndarray, " k"]:
    """The victim's code, from the distances that the authority seals to the accomplice."""
    bits, count = asked.shape[1], len(world.server.segments[0].image_ids)
    world, query = session.ask(world, asked, top=1, now=NOW, draw=DRAW)
    accomplice, taken = _take_over(world.users[1], query, generator.random((1, bits)) < 0.5)
    cloud = server.admit_query(world.server, taken, now=NOW)
    chosen = generator.random((count, bits)) < 0.5
    report = _score_chosen(world, accomplice, taken, chosen)
    _, ranking = authority.answer(world.authority, report, now=NOW)
    matches = user.receive(accomplice, server.deliver(cloud, ranking)[1])[1][0]
    place = {image_id: number for number, image_id in enumerate(cloud.segments[0].image_ids)}
    known = np.where(chosen[[place[match.image_id] for match in matches]], 1.0, -1.0)
    return np.linalg.lstsq(known, bits - 2.0 * np.array([match.distance for match in matches]), rcond=None)[0] > 0


def authority_and_user(*, count: int, bits: int, key_bits: int, seed: int) -> dict[str, float]:
    """The authority decrypts one `packed` query of its accomplice, who knows query and masking key.

    Returns:
        Share of all codes, unmasked, that the two have.
    """
    generator = np.random.default_rng(seed)
    codes, asked = generator.random((count, bits)) < 0.5, generator.random((1, bits)) < 0.5
    world = collection(codes, scheme="packed", key_bits=key_bits)
    world, _ = session.search(world, asked, top=1, now=NOW, draw=DRAW)
    pattern = authority_view(world.transcript, world.authority).seen["packed"].values["patterns"][0]
    lanes, key = world.server.segments[0].indexes["packed"].layout.lanes, _mask_of(world.users[0], "packed")
    found = np.empty((count, bits), bool)
    for lane in range(min(lanes, count)):
        secret = isometry(key, bits=bits, lane=lane)
        # The pattern is h - q.
        found[lane::lanes] = _unmask(pattern[lane::lanes] + mask_codes(asked, secret) == 1, secret)
    return {"codes_remaining": float((found == codes[_order(world)]).all(axis=1).mean())}


def authority_and_cloud(*, count: int, bits: int, key_bits: int, seed: int) -> dict[str, float]:
    """The authority decrypts the index that the cloud holds, and opens its images; nobody asks anything.

    Returns:
        Shares of the masked codes and of the pictures that the two have.
    """
    codes = np.random.default_rng(seed).random((count, bits)) < 0.5
    world = collection(codes, scheme="packed", key_bits=key_bits)
    segment, holder = world.server.segments[0], world.authority
    index = segment.indexes["packed"]
    digits = split(
        decrypt(holder.secret, index.ciphertexts), base=index.layout.base, count=index.layout.lanes * bits
    )  # fmt: skip
    found = digits.reshape(-1, bits)[:count] == 1
    masked = mask_index(codes[_order(world)], index.layout, masking_key=_mask_of(world.users[0], "packed"))
    keys = [image_key(holder.image_master, image_id=it, epoch=0, segment=0) for it in segment.image_ids]
    opened = [
        open_sealed(world.server.images[image_id], key=key, image_id=image_id)[0, 0, 0]
        for image_id, key in zip(segment.image_ids, keys, strict=True)
    ]
    return {
        "masked_codes_remaining": float((found == masked).all(axis=1).mean()),
        "pictures_remaining": float(np.mean(np.array(opened) == _order(world) % 256)),
    }


def _take_over(own: User, query: Query, guess: Bool[np.ndarray, "1 k"]) -> tuple[User, Query]:
    """The victim's trapdoor in a request of the accomplice's own, with the sentinels' distances of a guessed code."""
    own, mine = user.ask(own, guess, top=own.grant.max_results, now=NOW, draw=DRAW, scheme="packed")
    request = dataclasses.replace(mine.request, commitment=commit(mine.salt, query.trapdoors), signature=b"")
    request = sign(request, secret=own.keys.signing_secret)
    return (
        dataclasses.replace(own, pending={request.nonce: request}),
        dataclasses.replace(mine, request=request, trapdoors=query.trapdoors),
    )


def _score_chosen(world: Session, own: User, query: Query, chosen: Bool[np.ndarray, "n k"]) -> ScoreReport:
    """Honest scores of an index that cloud and accomplice made of codes of their own."""
    index, public_key = world.server.segments[0].indexes["packed"], own.card.public.key

    def encrypt(rows: np.ndarray) -> np.ndarray:
        return public.encrypt(public_key, rows, blinders=blinders(public_key, len(rows), draw=DRAW))

    masked = mask_index(chosen, index.layout, masking_key=_mask_of(own, "packed"))
    made = build_index(masked, index.layout, encrypt=encrypt, public=public_key)
    fresh = blinders(public_key, index.layout.blocks, draw=DRAW)
    scores = ((score(public_key, made, query.trapdoors[0], blinders=fresh),),)
    header = sign(ScoreReport(query.request, (0,), score_blocks(scores)), secret=world.cloud.secret)
    return dataclasses.replace(header, scores=scores, openings=query.openings)


def _mask_of(own: User, scheme: str) -> bytes:
    return scheme_masking_key(own.card, scheme=scheme, masking_key=own.masking_key)


def _unmask(masked: Bool[np.ndarray, "n k"], secret: Isometry) -> Bool[np.ndarray, "n k"]:
    plain = np.empty_like(masked)
    plain[:, secret.permutation] = masked ^ secret.mask
    return plain


def _order(world: Session) -> np.ndarray:
    """The truth: which code stands at each place of the segment."""
    image_ids = world.server.segments[0].image_ids
    numbers = {owner.pseudonym(world.owner, f"{number}.png"): number for number in range(len(image_ids))}
    return np.array([numbers[image_id] for image_id in image_ids])
