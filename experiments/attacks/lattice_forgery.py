"""A server of the lattice scheme that forges replies, and sees which images come out, reads the secret of a block.

    python -m experiments.attacks.lattice_forgery --scale full --report experiments/results/attacks_lattice_forgery.json

The authority computes `P_b - s_b Q - u K_b`. With `Q + c x^i` the distances in slot r shift by -c z, where z is
s_b[kappa r - i] up to its sign: whether an image comes out depends on one coefficient of s_b. The server rides on the
queries of others, of which it knows nothing, and needs no user of its own. Digits of P move images out of the way and
calibrate the rest. What it adds is far below the flood of an honest reply, so the bound on |phase| sees none of it.

Before: the authority checks ranges alone, |phase| and the highest digit, and every place counts as an image. After: it
checks the zeros as well, and serving stops at the first alarm. Figures are as in `experiments.attacks.protocol`.
"""

import dataclasses
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import tyro

from experiments.attacks.parties import played, refuses
from experiments.running import Scale, Where, begin, command_line, finish
from jcbir.errors import IntegrityError
from jcbir.lattice import public, secret
from jcbir.lattice._bits import pack, unpack
from jcbir.lattice._parameters import KEEP
from jcbir.lattice._ring import transform

BITS = 64
# Distances of unrelated codes lie around k/2 with this deviation; what is added to P and Q is in units of it.
DEVIATION = math.sqrt(BITS) / 2
SHIFT, CANDIDATE, OTHER, THRESHOLD = (round(x * DEVIATION) for x in (3.5, -2.75, 1.75, -4.5))
# The server reads lane 0, and lane 1 holds the images that come out when no candidate does.
READ, COMPARE = 0, 1
# Probability that a candidate comes out when z is what is asked for, zero, or the opposite.
COMES_OUT = np.array([0.9, 0.05, 0.01])


@dataclass(frozen=True)
class Config:
    """Sizes of the attack.

    Fields:
        where: scale and places.
        degree: n of the ring; 8192 is the library's, and no smaller one is secure.
        blocks: of the collection, all full.
        top: images that come out of each query.
        queries: of others, after which the server gives up.
        trials: replies of which the odds of the zeros are counted.
        seed: of the simulated codes and queries.
    """

    where: Annotated[Where, tyro.conf.arg(name="")] = field(default_factory=Where)
    degree: int = 512
    blocks: int = 2
    top: int = 6
    queries: int = 2000
    trials: int = 300
    seed: int = 0


SCALES: dict[Scale, Config] = {
    "full": Config(where=Where(scale="full"), degree=8192, top=10, queries=20_000, trials=2000),
    "smoke": Config(),
}


class Collection(NamedTuple):
    """What the parties hold.

    Fields:
        key: the authority's.
        codes: bool[n, k], known to the owner alone.
        index: the server's.
        served: the same, ready to score.
        opener: the authority's.
    """

    key: secret.SecretKey
    codes: np.ndarray
    index: public.Index
    served: public.Prepared
    opener: secret.PreparedSegment

    @property
    def places(self) -> np.ndarray:
        """int[n]: block, slot and lane of each image, as one number."""
        return np.flatnonzero(np.repeat(~self.opener.sentinels.reshape(-1), self.key.public.parameters.lanes))


def main(config: Config) -> dict[str, Any]:
    """Run the attack, and count what the zeros see."""
    run = begin("attacks_lattice_forgery", config)
    generator = np.random.default_rng(config.seed)
    many, one = (found(degree=config.degree, blocks=blocks, generator=generator) for blocks in (config.blocks, 1))
    attacks = {
        "forged_reply": lambda: recover(many, top=config.top, queries=config.queries, generator=generator),
        "smallest_forgery": lambda: smallest(one, trials=config.trials, generator=generator),
    }
    return finish(run, {"attacks": played(attacks)})


def found(*, degree: int, blocks: int, generator: np.random.Generator) -> Collection:
    """Encrypt random codes that fill all blocks."""
    v = public.parameters(bits=BITS)
    small = v._replace(degree=degree)
    key = secret.SecretKey(public.PublicKey(small, secrets.token_bytes(32)), secrets.token_bytes(32))
    public.check_public(key.public, unsafe_small=degree < v.degree)
    codes = generator.random((blocks * small.images, BITS)) < 0.5
    index, segment = secret.encrypt_index(key, codes, draw=secrets.token_bytes, used=())
    return Collection(key, codes, index, public.prepare(key.public, index), secret.prepare(key, segment))


def recover(collection: Collection, *, top: int, queries: int, generator: np.random.Generator) -> dict[str, float]:
    """Read the secret of block 0, without and with the zeros.

    Returns:
        Share of the forged replies that are answered, and how many, until the secret was found or serving stopped;
        whether it was found; share of the block's codes that it opens.
    """
    key, opener, places = collection.key, collection.opener, collection.places
    everywhere = np.arange(opener.sentinels.size * key.public.parameters.lanes)
    # A segment without zeros: the same opening and the same checks of ranges, and nothing else to look at.
    blind = dataclasses.replace(opener, sentinels=np.zeros_like(opener.sentinels), count=len(everywhere))
    figures = {}
    for rule, authority, named in (("before", blind, everywhere), ("after", opener, places)):

        def answer(forge, authority=authority, named=named):
            """A stranger's query, its reply forged: places of the images that come out, or None at an alarm."""
            code = generator.random(BITS) < 0.5
            try:
                distances = _opened(collection, authority, code, forge)
            except IntegrityError:
                return None
            return named[np.argsort(distances, kind="stable")[:top]]

        codes, asked, answered = _read_block(key.public, collection.index, answer, top=top, queries=queries)
        inside = places < len(everywhere) // len(opener.sentinels)
        opened = 0.0 if codes is None else (codes[places[inside]] == collection.codes[inside]).all(axis=1).mean()
        figures |= {
            f"forged_replies_answered_{rule}": answered / asked,
            f"forged_replies_told_{rule}": answered,
            f"block_secret_{rule}": float(codes is not None),
            f"block_codes_{rule}": float(opened),
        }
    return figures


def smallest(collection: Collection, *, trials: int, generator: np.random.Generator) -> dict[str, float]:
    """What the zeros of one block see of the smallest forgery, Q + x^i, if serving went on after each alarm.

    Returns:
        Share of such replies that is answered, the share by the formula 3^-(blocks sentinels), and the share of honest
        replies that is refused.
    """
    v = collection.key.public.parameters

    def answered(forge: Callable[[public.Reply], public.Reply]) -> float:
        code = generator.random(BITS) < 0.5
        return not refuses(lambda: _opened(collection, collection.opener, code, forge), IntegrityError)

    return {
        "smallest_forgery_answered_after": float(
            np.mean([answered(lambda it: _forged(it, v, at=int(generator.integers(v.degree)))) for _ in range(trials)])
        ),
        "smallest_forgery_answered_expected_remaining": 3.0 ** -collection.opener.sentinels.sum(),
        "honest_replies_refused_after": 1 - float(np.mean([answered(lambda it: it) for _ in range(trials // 4)])),
    }


def _opened(collection: Collection, authority: secret.PreparedSegment, code, forge) -> np.ndarray:
    public_key, draw = collection.key.public, secrets.token_bytes
    query, opener = secret.encrypt_query(public_key, code, draw=draw)
    reply = forge(public.score(public_key, [collection.served], query, draw=draw))
    return secret.open_distances(collection.key, [authority], reply, opener, answered=())


def _forged(
    reply: public.Reply, v: public.Parameters, *, at: int, amount: int = 1, digits: np.ndarray | None = None
) -> public.Reply:
    """Add `amount` x^at to Q, and numbers int[b, w, L] to the digits of P."""
    primes = np.array(v.primes[:KEEP], np.int64)[:, None]
    shared = unpack(reply.shared[None], (KEEP, v.degree), primes=v.primes[:KEEP], name="reply")[0].astype(np.int64)
    shared[:, at] += amount
    shared = pack((shared % primes).astype(np.uint32).reshape(1, -1))[0]
    if digits is None:
        return reply._replace(shared=shared)
    added = (digits @ v.base ** np.arange(v.lanes))[:, None]
    rows = unpack(reply.rows, (KEEP, v.width), primes=v.primes[:KEEP], name="reply").astype(np.int64)
    rows = ((rows + added) % primes).astype(np.uint32).reshape(len(rows), -1)
    return reply._replace(shared=shared, rows=pack(rows))


def _read_block(
    public_key: public.PublicKey,
    index: public.Index,
    answer: Callable[[Callable[[public.Reply], public.Reply]], np.ndarray | None],
    *,
    top: int,
    queries: int,
) -> tuple[np.ndarray | None, int, int]:
    """What the server does, with what it knows: codes by place or None, replies forged, replies answered.

    It keeps the probability of each value of each coefficient, asks for those that are least certain, and is done when
    c - a s is small.
    """
    v = public_key.parameters
    belief = np.full((v.kappa, v.width, 3), math.log(1 / 3))
    # About half of what comes out shall be candidates: the others mark the threshold.
    wanted = top / 2
    middle = NormalDist().inv_cdf((top - wanted) / v.width) * DEVIATION
    for asked in range(1, queries + 1):
        chances = np.exp(belief)
        i, value, slots = _question(chances, wanted)
        digits = np.full((len(index.rows), v.width, v.lanes), OTHER)
        digits[0, :, COMPARE] = round(THRESHOLD - middle)
        digits[0, slots, READ] = CANDIDATE
        # The phase shifts by -c z: z = value brings the image nearer.
        came = answer(lambda it, i=i, c=SHIFT * value, d=digits: _forged(it, v, at=i, amount=c, digits=d))
        if came is None:
            return None, asked, asked - 1
        out = np.isin((slots * v.lanes) + READ, came)[:, None]
        likely = COMES_OUT[np.abs(np.arange(-1, 2) - value)]
        belief[i, slots] += np.log(np.where(out, likely, 1 - likely))
        belief[i, slots] -= np.logaddexp.reduce(belief[i, slots], axis=1, keepdims=True)
        if np.sum(1 - np.exp(belief.max(axis=2))) < 0.5 or asked == queries:
            codes = _decoded(public_key, index.rows[:1], _coefficients(belief.argmax(axis=2) - 1, v))
            if codes is not None:
                return codes, asked, asked
    return None, queries, queries


def _question(chances: np.ndarray, wanted: float) -> tuple[int, int, np.ndarray]:
    """Which i, which value of z, which slots: the doubtful ones, `wanted` of which are expected to have the value."""
    best = (-1.0, 0, 0, np.arange(0))
    for value in (-1, 1):
        chance = chances[:, :, value + 1]
        doubt = chance * (1 - chance)
        order = np.argsort(-doubt, axis=1)
        expected = np.cumsum(np.take_along_axis(chance, order, 1), axis=1)
        taken = np.maximum((expected <= wanted).sum(axis=1), 1)
        worth = np.take_along_axis(np.cumsum(np.take_along_axis(doubt, order, 1), axis=1), taken[:, None] - 1, 1)[:, 0]
        i = int(worth.argmax())
        best = max(best, (float(worth[i]), i, value, order[i, : taken[i]]), key=lambda it: it[0])
    return best[1:]


def _coefficients(z: np.ndarray, v: public.Parameters) -> np.ndarray:
    """s from z[i, r] = s[kappa r - i], negated where the exponent is negative."""
    exponents = v.kappa * np.arange(v.width)[None, :] - np.arange(v.kappa)[:, None]
    s = np.zeros(v.degree, np.int64)
    s[exponents % v.degree] = np.where(exponents < 0, -z, z)
    return s


def _decoded(public_key: public.PublicKey, row: np.ndarray, s: np.ndarray) -> np.ndarray | None:
    """The codes of a block, bool[w L, K] by place, if s is its secret: c - a s = m + t e is then small."""
    v = public_key.parameters
    c = unpack(row, (len(v.primes), v.polys, v.degree), primes=v.primes, name="row")[0].astype(np.uint64)
    primes, columns = v.primes[:KEEP], np.array(v.primes[:KEEP], np.uint64)[:, None, None]
    with jax.enable_x64(True):
        right = np.asarray(transform(s[None, None], primes, degree=v.degree)).astype(np.uint64)
        mu = (c[:KEEP] + columns - public.expand(public_key)[:KEEP].astype(np.uint64) * right % columns) % columns
        residues = np.asarray(transform(mu, primes, degree=v.degree, inverse=True)).astype(object)
    p, other = primes
    mu = residues[0] + p * ((residues[1] - residues[0]) * pow(p, -1, other) % other)
    mu = np.where(mu > p * other // 2, mu - p * other, mu)
    if np.abs(mu).max() > 22 * v.t:
        return None
    # m = -1/2 divisor sum_l h_l (k + 1)^l, h = 1, -1 or 0: add 1 to every digit.
    ones = sum(v.base**lane for lane in range(v.lanes))
    plain = (-2 * mu * pow(v.divisor, -1, v.t) + ones) % v.t
    digits = np.stack([(plain // v.base**lane % v.base).astype(np.int64) for lane in range(v.lanes)])
    lanes = digits.reshape(v.lanes, v.polys, v.width, v.kappa).transpose(2, 0, 1, 3)
    return lanes.reshape(v.width * v.lanes, v.padded)[:, : v.bits] == 0


if __name__ == "__main__":
    main(command_line(SCALES))
