"""A cloud that alters a little: one lane, which sentinels see once in as many times as there are lanes; some blocks,
which an audit of a few sees as often as it draws one of them; or that shows the collection as it was."""

import dataclasses
import secrets

import numpy as np

from experiments.attacks.parties import UNLIMITED, collection, refuses
from jcbir.paillier import from_ints, public
from jcbir.protocol import audit, authority, owner, server, session, user
from jcbir.protocol._digests import score_blocks
from jcbir.protocol._signatures import sign
from jcbir.protocol.messages import Audit, Place, Publication, Query, Ranking, ScoreReport
from jcbir.protocol.refusals import ForgedScoresError, RolledBackError
from jcbir.protocol.session import NOW, Session
from jcbir.ranking import KEY_KINDS, Scores
from jcbir.typing import Rows

DRAW = secrets.token_bytes


def one_lane(*, count: int, bits: int, key_bits: int, seed: int) -> dict[str, float]:
    """Honest scores of `packed`, with one digit of one lane of the first block raised: each lane once.

    Returns:
        Share of the reports that an authority with sentinels answers.
    """
    world, query, scores, _ = _honest(count=count, bits=bits, key_bits=key_bits, seed=seed, sentinels=True)
    layout = scores.layout
    refused = [
        refuses(lambda lane=lane: _answer(world, query, _raised(world, scores, (0,), bits * lane)), ForgedScoresError)
        for lane in range(layout.lanes)
    ]
    return {"one_lane_answered_remaining": 1 - float(np.mean(refused))}


def some_blocks(*, count: int, bits: int, key_bits: int, drawn: int, audits: int, seed: int) -> dict[str, float]:
    """One block of B altered, or all: by the rule before nobody looks; now the user audits `drawn` blocks.

    Returns:
        Shares of altered answers that pass, of so many audits; and what the formula expects for one block.
    """
    world, query, scores, randomness = _honest(count=count, bits=bits, key_bits=key_bits, seed=seed, sentinels=False)
    blocks = scores.layout.blocks
    passed = {}
    for name, wrong in (("one_block", (blocks // 2,)), ("all_blocks", range(blocks))):
        altered = _raised(world, scores, wrong, 0)
        _, ranking = _answer(world, query, altered)
        honest = _verdicts(world, query, ranking, altered, randomness)
        draws = [
            audit.ask_audit(world.users[0], query, ranking, world.server.head, blocks=drawn, draw=DRAW)
            for _ in range(audits)
        ]
        unseen = float(np.mean([all(honest[place.block] for place in asked.places) for asked in draws]))
        passed |= {f"{name}_unnoticed_before": 1.0, f"{name}_unnoticed_after": unseen}
    return passed | {"one_block_unnoticed_expected_remaining": (1 - 1 / blocks) ** drawn}


def rolled_back(*, trials: int) -> dict[str, float]:
    """A cloud, and an authority that was set back with it, show the collection under an older head.

    Before: users do not remember the latest head.

    Returns:
        Share of the answers that the user takes.
    """
    shown = session.audited_system()
    delivery = server.deliver(shown.server, shown.ranking)[1]
    taken = {}
    for rule, known in (("before", 0), ("after", shown.head.counter + 1)):
        me = dataclasses.replace(shown.user, head=known)
        refused = [refuses(lambda me=me: user.receive(me, delivery), RolledBackError) for _ in range(trials)]
        taken[f"rolled_back_{rule}"] = 1 - float(np.mean(refused))
    return taken


def _honest(*, count: int, bits: int, key_bits: int, seed: int, sentinels: bool) -> tuple[Session, Query, Scores, Rows]:
    """A collection under a head, a query, its true scores, and what the blinders were made of."""
    generator = np.random.default_rng(seed)
    codes, asked = generator.random((count, bits)) < 0.5, generator.random((1, bits)) < 0.5
    world = collection(codes, scheme="packed", key_bits=key_bits, sentinels=sentinels, **UNLIMITED)
    own, head = owner.head(world.owner, now=NOW)
    cloud, holder = server.take_head(world.server, head), authority.take_head(world.authority, head)
    world, query = session.ask(
        dataclasses.replace(world, owner=own, server=cloud, authority=holder), asked, top=1, now=NOW, draw=DRAW
    )
    key, kind = own.card.public.key, KEY_KINDS["paillier"]
    randomness = kind.randomness(key, server.blinders_needed(cloud, query), draw=DRAW)
    cloud, report = server.score_query(
        cloud, query, blinders=kind.blind(key, randomness), identity=world.cloud, now=NOW
    )  # fmt: skip
    return dataclasses.replace(world, server=cloud), query, report.scores[0][0], randomness


def _raised(world: Session, scores: Scores, blocks: tuple[int, ...] | range, place: int) -> Scores:
    """The scores, with one digit of these blocks raised by an encryption of a power of the base."""
    key, chosen, rows = world.owner.card.public.key, list(blocks), scores.ciphertexts.copy()
    power = from_ints([scores.layout.base**place] * len(chosen), width=scores.layout.plaintext_bytes)
    fresh = KEY_KINDS["paillier"].blinders(key, len(chosen), draw=DRAW)
    rows[chosen] = public.add(key, rows[chosen], public.encrypt(key, power, blinders=fresh))
    return scores._replace(ciphertexts=rows)


def _answer(world: Session, query: Query, scores: Scores) -> tuple[authority.Authority, Ranking]:
    """The authority's answer to scores that the cloud signs."""
    header = sign(ScoreReport(query.request, (0,), score_blocks(((scores,),))), secret=world.cloud.secret)
    report = dataclasses.replace(header, scores=((scores,),), openings=query.openings)
    return authority.answer(world.authority, report, now=NOW)


def _verdicts(world: Session, query: Query, ranking: Ranking, scores: Scores, randomness: Rows) -> list[bool]:
    """Whether each block passes its audit, shown by the cloud as it was signed."""
    own, head = world.users[0], world.server.head
    indexes = {0: next(line.message.indexes for line in world.transcript if isinstance(line.message, Publication))}
    verdicts = []
    for block in range(scores.layout.blocks):
        asked = sign(Audit(ranking.nonce, (Place(0, 0, block),)), secret=own.keys.signing_secret)
        opened = server.open_blocks(
            world.server, query, asked, indexes=indexes, rows=scores.ciphertexts[None], randomness=randomness,
            identity=world.cloud,
        )  # fmt: skip
        verdicts.append(
            not refuses(
                lambda asked=asked, opened=opened: audit.check_opened(
                    own.card, query, ranking, head, opened, audit=asked
                ),
                ForgedScoresError,
            )
        )
    return verdicts
