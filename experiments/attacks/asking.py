"""Who may ask, how much and how often: a stranger, a greedy user, whoever replays a query."""

import dataclasses
import secrets

import numpy as np

from experiments.attacks.parties import UNLIMITED, collection, refuses
from jcbir.paillier import blinders, from_ints, public
from jcbir.protocol import _grants as grants, authority, server, session, user
from jcbir.protocol._digests import digest, score_blocks
from jcbir.protocol._results import DOMAIN as RESULTS_DOMAIN, read_results
from jcbir.protocol._signatures import sign
from jcbir.protocol.messages import Query, Ranking, ScoreReport
from jcbir.protocol.refusals import ForgedReplyError, OverBudgetError, RefusalError, StaleQueryError
from jcbir.protocol.session import NOW, Session
from jcbir.protocol.user import User
from jcbir.ranking import Scores, plan
from jcbir.sealing import open_from
from jcbir.service._http import Buckets, Rate


def stranger(*, count: int, bits: int, key_bits: int, top: int, seed: int) -> dict[str, float]:
    """One grant and the authority's address: scores of the stranger's own making collect the keys of all images.

    Row i of one request names images `top i` to `top (i + 1) - 1` as the nearest. Before: an authority that takes a
    report from anybody, and no budgets.

    Returns:
        Share of the collection's image keys that the stranger holds.
    """
    codes = np.random.default_rng(seed).random((count, bits)) < 0.5
    world = collection(codes, scheme="bitsliced", key_bits=key_bits, **UNLIMITED)
    rows = -(-count // top)
    own, query = user.ask(
        world.users[0], codes[:rows], top=top, now=NOW, draw=secrets.token_bytes, scheme="bitsliced"
    )  # fmt: skip
    report = _report_of_ones_own(world, own, query, count, top)
    grants.check_request(report.request, card=world.authority.card, now=NOW)
    plaintexts = authority.decrypt_report(world.authority, report)
    ranking = authority.rank(world.authority, report, plaintexts, now=NOW)[2]
    refused = refuses(lambda: authority.answer(world.authority, report, now=NOW), ForgedReplyError)
    before = len(_keys_opened(own, query, ranking)) / count
    return {"image_keys_before": before, "image_keys_after": 0.0 if refused else before}


def greedy(*, count: int, queries: int, budget: int, bits: int, key_bits: int, seed: int) -> dict[str, float]:
    """Honest queries, as many and as deep as the grant allows, until the day's budget is spent.

    Before: one batch under a grant without budgets. After: the same batch, then its queries one by one, under a grant
    of `budget` different images a day. Each query asks for a fifth of that, as `jcbir owner grant` has it by default.

    Returns:
        Share of the collection's pictures opened in one day.
    """
    generator = np.random.default_rng(seed)
    codes, asked = generator.random((count, bits)) < 0.5, generator.random((queries, bits)) < 0.5
    free = collection(codes, scheme="bitsliced", key_bits=key_bits, **UNLIMITED)
    held = session.admit(free, now=NOW, draw=secrets.token_bytes, images_per_day=budget)
    options = {"top": budget // 5, "now": NOW, "draw": secrets.token_bytes, "scheme": "bitsliced"}
    _, found = session.search(free, asked, **options)
    before = {match.image_id for row in found.matches for match in row}
    batch_refused = refuses(lambda: session.search(held, asked, asker=1, **options), OverBudgetError)
    after: set[str] = set()
    for code in asked:
        try:
            held, found = session.search(held, code[None], asker=1, **options)
        except OverBudgetError:
            continue
        after |= {match.image_id for match in found.matches[0]}
    return {
        "batch_opened_before": len(before) / count,
        "batch_opened_after": 0.0 if batch_refused else len(before) / count,
        "one_by_one_opened_after": len(after) / count,
    }


def replay(*, copies: int) -> dict[str, float]:
    """A recorded query, sent again and again: it burns its victim's rate, or is answered after the clock steps back.

    Before: a service that counts first and decides afterwards; names kept for one window, time as the clock says it.

    Returns:
        Share of the victim's burst of queries that is gone; whether an old request was answered a second time.
    """
    system = session.small_system()
    rate = Rate(1e-6, copies)
    gone = {}
    for rule in ("before", "after"):
        bucket, cloud, sent = Buckets(rate), system.server, 0
        name = system.query.request.grant.grant_id.hex()
        cloud = server.admit_query(cloud, system.query, now=NOW)
        for _ in range(copies):
            if rule == "before":
                bucket.spend(name, 0.0)
            try:
                server.admit_query(cloud, system.query, now=NOW)
            except RefusalError:
                continue
            bucket.spend(name, 0.0)
        while not bucket.spend(name, 0.0):
            sent += 1
        gone[f"rate_burnt_{rule}"] = 1 - sent / copies
    return gone | _clock_steps_back(system)


def _clock_steps_back(system: session.System) -> dict[str, float]:
    """A request answered at NOW, another one three windows later, then the clock is set back to NOW."""
    later, old = NOW + 3 * grants.WINDOW_SECONDS, system.report
    _, other = user.ask(system.user, np.zeros((1, 16), bool), top=1, now=later, draw=secrets.token_bytes)
    # The rule before: what is older than one window is forgotten, and the time is what the clock says.
    kept = {nonce: time for nonce, time in {old.request.nonce: NOW}.items() if later - time <= grants.WINDOW_SECONDS}
    grants.check_request(old.request, card=system.authority.card, now=NOW)
    answered_before = old.request.nonce not in kept
    holder = authority.answer(system.authority, old, now=NOW)[0]
    _, report = server.score_query(
        system.server, other, blinders=system.blinders, identity=system.cloud, now=later
    )  # fmt: skip
    holder = authority.answer(holder, report, now=later)[0]
    refused = refuses(lambda: authority.answer(holder, old, now=NOW), StaleQueryError)
    return {"replay_answered_before": float(answered_before), "replay_answered_after": float(not refused)}


def _report_of_ones_own(world: Session, own: User, query: Query, count: int, top: int) -> ScoreReport:
    """Encrypted distances, 0 for the images that the row shall name and the code's length for all others."""
    card = own.card
    layout = plan(card.public.key, scheme="bitsliced", count=count, bits=card.bits)
    scores = []
    for row in range(query.request.queries):
        distances = np.full(layout.slots, card.bits)
        distances[row * top : (row + 1) * top] = 0
        numbers = [
            sum(int(digit) * layout.base**lane for lane, digit in enumerate(block))
            for block in distances.reshape(layout.blocks, layout.lanes)
        ]
        fresh = blinders(card.public.key, layout.blocks, draw=secrets.token_bytes)
        plain = from_ints(numbers, width=layout.plaintext_bytes)
        rows = public.encrypt(card.public.key, plain, blinders=fresh)
        scores.append((Scores(layout, card.public.fingerprint, rows),))
    header = ScoreReport(query.request, (0,), score_blocks(tuple(scores)))
    signed = sign(header, secret=own.keys.signing_secret)
    return dataclasses.replace(signed, scores=tuple(scores), openings=query.openings)


def _keys_opened(own: User, query: Query, ranking: Ranking) -> dict[str, bytes]:
    """The image keys that a ranking seals to its user."""
    info = digest(query.request, domain=RESULTS_DOMAIN)
    results = read_results(open_from(own.keys.sealing_secret, ranking.sealed, info=info, aad=b""))
    return dict(zip(results.image_ids, results.keys, strict=True))
