"""Audits: a user lets the server show some blocks of an answer, computes them again and compares.

A server that computed c of B blocks wrongly is caught by m blocks drawn at random with probability `1 - (1 - c/B)^m`.
Whoever has query, ranking, head and opening comes to the same verdict: they convince the owner. The user sees blocks of
the encrypted index, of which nobody but the key holder can read anything.
"""

from collections.abc import Callable

from jcbir.protocol._digests import scores_digest
from jcbir.protocol._merkle import climb, leaf_hashes
from jcbir.protocol._signatures import check_signature, sign
from jcbir.protocol.messages import Audit, Block, Card, Head, Opened, Place, Query, Ranking
from jcbir.protocol.refusals import ForgedReplyError, ForgedScoresError
from jcbir.protocol.user import User
from jcbir.ranking._keys import KEY_KINDS
from jcbir.ranking._scheme import Index, Layout
from jcbir.ranking._score import score
from jcbir.ranking._table import find_scheme, plan


def ask_audit(
    user: User, query: Query, ranking: Ranking, head: Head, *, blocks: int, draw: Callable[[int], bytes]
) -> Audit:
    """Draw blocks of an answer, each independently and uniformly, and ask the server to show them.

    Args:
        user: who asked.
        query: what was asked.
        ranking: the answer.
        head: the owner's head, as delivered.
        blocks: how many to show.
        draw: source of random bytes, `secrets.token_bytes`.

    Returns:
        The message for the server.

    Raises:
        ValueError: not at least one block, or a key kind that has no audits.

    Example:
        >>> import secrets
        >>> from jcbir.protocol.session import audited_system
        >>> shown = audited_system()
        >>> asked = ask_audit(shown.user, shown.query, shown.ranking, shown.head, blocks=3, draw=secrets.token_bytes)
        >>> len(asked.places)
        3
    """
    if blocks < 1:
        raise ValueError(f"blocks: must be at least 1, got {blocks}")
    if KEY_KINDS[user.card.public.kind].blind is None:
        raise ValueError(f"card: must have a key of a kind with audits, got {user.card.public.kind}")
    counts = [_layout(user.card, query, head, number).blocks for number in ranking.segments]
    places = []
    for _ in range(blocks):
        number = int.from_bytes(draw(16)) % (len(query.trapdoors) * sum(counts))
        row, left = divmod(number, sum(counts))
        for segment, count in zip(ranking.segments, counts, strict=True):
            if left < count:
                places.append(Place(row, segment, left))
                break
            left -= count
    return sign(Audit(query.request.nonce, tuple(places)), secret=user.keys.signing_secret)


def check_opened(
    card: Card, query: Query, ranking: Ranking, head: Head, opened: Opened, *, audit: Audit, engine: str = "auto"
) -> None:
    """Compute the shown blocks again and compare them with what the authority signed. User or owner may do it.

    `score = index block * trapdoor * blinder`, exactly, for `blinder = r^n` or `h^x` of the randomness shown.

    Args:
        card: the collection.
        query: what was asked.
        ranking: the answer.
        head: the owner's head, as delivered.
        opened: from the server.
        audit: what it was asked to show.
        engine: arithmetic engine.

    Raises:
        ForgedReplyError: ranking, head or opening is not signed by authority, owner or server, or is of another query.
        ForgedScoresError: a block is not what the owner published, not what the authority ranked, or computed wrongly.

    Example:
        >>> from jcbir.protocol.session import audited_system
        >>> shown = audited_system()
        >>> check_opened(shown.user.card, shown.query, shown.ranking, shown.head, shown.opened, audit=shown.audit)
    """
    check_signature(ranking, public=card.authority_key, refusal=ForgedReplyError)
    check_signature(head, public=card.owner_key, refusal=ForgedReplyError)
    check_signature(opened, public=card.cloud_key, refusal=ForgedReplyError)
    if ranking.nonce != query.request.nonce or audit.nonce != ranking.nonce or opened.audit != audit:
        raise ForgedReplyError("opened: is of another audit, or the audit of another query")
    if (head.collection, head.epoch) != (card.collection, card.epoch) or head.counter < ranking.head:
        raise ForgedReplyError(f"head: must be head {ranking.head} or later of this epoch, got {head.counter}")
    if len(opened.blocks) != len(audit.places):
        raise ForgedScoresError(f"opened: shows {len(opened.blocks)} of {len(audit.places)} blocks")
    for place, block in zip(audit.places, opened.blocks, strict=True):
        _check_block(card, query, ranking, head, place, block, engine)


def _layout(card: Card, query: Query, head: Head, segment: int, *, scheme: str | None = None) -> Layout:
    if segment >= len(head.parts):
        raise ForgedReplyError(f"head: must know segment {segment}, got {len(head.parts)} segments")
    part = head.parts[segment]
    return plan(card.public.key, scheme=scheme or query.request.scheme, count=part.count, bits=card.bits)


def _check_block(
    card: Card, query: Query, ranking: Ranking, head: Head, place: Place, block: Block, engine: str
) -> None:
    public, kind, where = (
        card.public.key,
        KEY_KINDS[card.public.kind],
        f"block {place.block} of segment {place.segment}",
    )
    layout, part = _layout(card, query, head, place.segment), head.parts[place.segment]
    counts = [_layout(card, query, head, place.segment, scheme=scheme).blocks for scheme in part.schemes]
    offset = sum(counts[: part.schemes.index(layout.scheme)])
    (leaf,) = leaf_hashes(block.index, leaves=1)
    if climb(leaf, offset + place.block, sum(counts), block.index_path) != part.index_root:
        raise ForgedScoresError(f"opened: {where} is not what the owner published")
    (leaf,) = leaf_hashes(block.score, leaves=1)
    root = climb(leaf, place.block, layout.blocks, block.score_path)
    signed = ranking.blocks[place.query][ranking.segments.index(place.segment)]
    if scores_digest(layout, card.public.fingerprint, root) != signed:
        raise ForgedScoresError(f"opened: the scores of {where} are not those that were ranked")
    single = plan(public, scheme=layout.scheme, count=layout.lanes, bits=card.bits)
    if block.index.shape != find_scheme(single.scheme).shapes(single).index:
        raise ForgedScoresError(f"opened: {where} is not a block of an index")
    if kind.blind is None:
        raise ValueError(f"card: must have keys whose blinders can be opened, got {kind.name} keys")
    try:
        blinders = kind.blind(public, block.randomness, engine=engine)
        index = Index(single, card.public.fingerprint, block.index)
        again = score(public, index, query.trapdoors[place.query], blinders=blinders, engine=engine)
    except ValueError as error:
        raise ForgedScoresError(f"opened: {where} cannot be computed again: {error}") from None
    if again.ciphertexts.tobytes() != block.score.tobytes():
        raise ForgedScoresError(f"opened: the scores of {where} are not those of this query against this index")
