"""A user of the lattice scheme signs what is no query, and an honest server's scores of it look forged.

    python -m experiments.attacks.lattice_blame --scale full --report experiments/results/attacks_lattice_blame.json

Nothing that the authority sees tells such a user from a server that forges P (docs/lattice.md). Before: the first alarm
halts all answers. After: a Q that its user did not sign is not opened, which leaves a forging server alone without an
oracle, and an alarm ends the answers to one user, whatever grants this one holds. Figures are as in
`experiments.attacks.protocol`.
"""

import dataclasses
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import tyro

from experiments.attacks.parties import played, refuses
from experiments.running import Scale, Where, begin, command_line, finish
from jcbir.protocol import authority, owner, server, session, user
from jcbir.protocol._digests import score_blocks
from jcbir.protocol._grants import commit
from jcbir.protocol._signatures import sign
from jcbir.protocol.messages import Query, ScoreReport
from jcbir.protocol.refusals import ForgedScoresError, RefusalError
from jcbir.protocol.session import NOW
from jcbir.ranking import SECRET_KEY_KINDS
from jcbir.sealing import Photograph


@dataclass(frozen=True)
class Config:
    """Sizes of the attack.

    Fields:
        where: scale and places.
        users: of the collection, one of whom lies.
    """

    where: Annotated[Where, tyro.conf.arg(name="")] = field(default_factory=Where)
    users: int = 3


SCALES: dict[Scale, Config] = {"full": Config(where=Where(scale="full"), users=20), "smoke": Config()}


def main(config: Config) -> dict[str, Any]:
    """Run the attack."""
    run = begin("attacks_lattice_blame", config)
    return finish(run, {"attacks": played({"lying_user": lambda: lying(users=config.users)})})


def lying(*, users: int) -> dict[str, float]:
    """A user signs a d that has nothing to do with its u, and all others ask honestly; then the server forges a Q.

    Returns:
        Share of the others that are answered, although the liar holds as many grants as users may raise an alarm; share
        of the forged Qs that are opened, so that their fate tells of the secret; alarms that a server with users of its
        own, who sign what it likes, has until answering halts.
    """
    draw, codes = secrets.token_bytes, np.random.default_rng(0).random((4, 16)) < 0.5
    key = SECRET_KEY_KINDS["lattice"].generate(code_bits=16, draw=draw)
    state = session.found(collection="attacked", bits=16, secret=key, draw=draw)
    pictures = [Photograph(bytes([number]), "image/png") for number in range(len(codes))]
    state = session.publish(state, codes, pictures, list("abcd"), cipher="aes-gcm", draw=draw)
    for _ in range(users):
        state = session.admit(state, now=NOW, draw=draw)
    holder, (liar, *others) = state.authority, state.users
    report = _scored(state, misfit(liar, codes[:1]))
    if not refuses(lambda: authority.answer(holder, report, now=NOW), ForgedScoresError):
        raise RuntimeError("a query that is none was answered")
    after, before, alarms = holder, holder, 0
    for number in range(authority.MOST_SUSPENDED):
        after = authority.suspend(after, dataclasses.replace(liar.grant, grant_id=bytes([number]) * 16))
    while not before.halted:
        before = authority.suspend(before, dataclasses.replace(liar.grant, signing_key=bytes([alarms]) * 32))
        alarms += 1
    honest = [_scored(state, user.ask(it, codes[:1], top=1, now=NOW, draw=draw)[1]) for it in others]

    def answered(rule: authority.Authority, reports: Sequence[ScoreReport]) -> float:
        refused = [refuses(lambda it=it: authority.answer(rule, it, now=NOW), RefusalError) for it in reports]
        return 1 - float(np.mean(refused))

    again = _scored(state, user.ask(liar, codes[:1], top=1, now=NOW, draw=draw)[1])
    scores = honest[0].scores[0][0]
    q = scores.ciphertexts.copy()
    q[0, 0] ^= 1
    forged = _signed(state, honest[0], ((scores._replace(ciphertexts=q),),))
    return {
        "other_users_answered_before": answered(before, honest),
        "other_users_answered_after": answered(after, honest),
        "liar_answered_after": answered(after, [again]),
        "forged_q_opened_after": 1
        - float(refuses(lambda: authority.admit(holder, forged, now=NOW), ForgedScoresError)),
        "alarms_until_halted_remaining": alarms,
    }


def misfit(me: user.User, codes: np.ndarray) -> Query:
    """A query whose trapdoor belongs to another one: signed, committed to, its Q right, and no query at all."""
    honest, other = (user.ask(me, codes, top=1, now=NOW, draw=secrets.token_bytes)[1] for _ in range(2))
    shared, commitment = other.request.shared, commit(honest.salt, other.trapdoors)
    request = dataclasses.replace(honest.request, shared=shared, commitment=commitment, signature=b"")
    return dataclasses.replace(honest, request=sign(request, secret=me.keys.signing_secret), trapdoors=other.trapdoors)


def _scored(state: session.Session, query: Query) -> ScoreReport:
    blinders = owner.blinder_pool(state.owner, server.blinders_needed(state.server, query), draw=secrets.token_bytes)
    return server.score_query(state.server, query, blinders=blinders, identity=state.cloud, now=NOW)[1]


def _signed(state: session.Session, report: ScoreReport, scores: tuple) -> ScoreReport:
    header = dataclasses.replace(report, blocks=score_blocks(scores), openings=b"", scores=())
    return dataclasses.replace(sign(header, secret=state.cloud.secret), openings=report.openings, scores=scores)


if __name__ == "__main__":
    main(command_line(SCALES))
