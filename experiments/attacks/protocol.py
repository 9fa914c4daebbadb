"""What once broke the protocol's promises, against the rule that it broke and against the one that stands now.

    python -m experiments.attacks.protocol --scale full --report experiments/results/attacks_protocol.json

Each attack plays against the library as it is (`_after`) and against the rule that was replaced (`_before`), which it
enacts itself with the same primitives and the check left out: so each is known to work. Figures are shares of what the
attacker wants, from 0 to 1, unless the name says otherwise. What no rule takes away ends in `_remaining`;
docs/threat-model.md says what it means.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from experiments.attacks import altering, asking, collusion, forging, parsing, patterns, search_pattern
from experiments.attacks.parties import played
from experiments.running import Scale, Where, begin, command_line, finish


@dataclass(frozen=True)
class Config:
    """Sizes of the attacks.

    Attributes:
        where: scale and places.
        key_bits: bits of the Paillier modulus.
        stranger_count: images whose keys the stranger asks for.
        greedy_count: images of the collection that the greedy user empties.
        greedy_queries: queries of a day.
        greedy_budget: different images that the grant opens in a day.
        packed_bits: code length of the collection that the authority reads.
        packed_count: its images.
        packed_queries: queries after which the lanes are looked at again.
        probed_queries: queries that the lying cloud reads.
        audits: audits of an altered answer.
        watched_count: images that the honest cloud watches.
        watched_queries: queries that it watches.
        classes: classes of the simulated codes.
        flip: probability that a bit differs from the class's.
        colluding_count: images of the collection on which two parties collude.
        posted_mebibytes: size of the anonymous body.
        seed: of the simulated codes and queries.
    """

    where: Annotated[Where, tyro.conf.arg(name="")] = field(default_factory=Where)
    key_bits: int = 256
    stranger_count: int = 120
    greedy_count: int = 100
    greedy_queries: int = 20
    greedy_budget: int = 25
    packed_bits: int = 16
    packed_count: int = 200
    packed_queries: int = 40
    probed_queries: int = 5
    audits: int = 2000
    watched_count: int = 400
    watched_queries: int = 400
    classes: int = 20
    flip: float = 0.05
    colluding_count: int = 120
    posted_mebibytes: int = 2
    seed: int = 0


SCALES: dict[Scale, Config] = {
    "full": Config(
        where=Where(scale="full"),
        key_bits=2048,
        stranger_count=600,
        greedy_count=2000,
        greedy_queries=200,
        greedy_budget=500,
        packed_bits=64,
        packed_count=500,
        probed_queries=20,
        watched_count=2000,
        watched_queries=1500,
        colluding_count=600,
        posted_mebibytes=20,
    ),
    "smoke": Config(),
}


def main(config: Config) -> dict[str, Any]:
    """Run every attack."""
    run = begin("attacks_protocol", config)
    bits, key_bits, seed = 64, config.key_bits, config.seed
    colluding = {"count": config.colluding_count, "bits": bits, "key_bits": key_bits, "seed": seed}
    attacks = {
        "stranger": lambda: asking.stranger(
            count=config.stranger_count, bits=bits, key_bits=key_bits, top=10, seed=seed
        ),
        "greedy_user": lambda: asking.greedy(
            count=config.greedy_count, queries=config.greedy_queries, budget=config.greedy_budget, bits=bits,
            key_bits=key_bits, seed=seed,
        ),
        "replay": lambda: asking.replay(copies=50),
        "forged_picture": lambda: forging.forged_picture(trials=10),
        "withdrawn_picture": forging.withdrawn_picture,
        "small_order_key": lambda: forging.small_order(trials=100),
        "packed_authority": lambda: patterns.one_query(
            count=config.packed_count, bits=config.packed_bits, key_bits=key_bits, queries=config.packed_queries,
            seed=seed,
        ),
        "chosen_trapdoor": lambda: patterns.chosen_trapdoor(
            queries=config.probed_queries, bits=bits, key_bits=key_bits, top=10, seed=seed
        ),
        "altered_lane": lambda: altering.one_lane(**colluding),
        "altered_blocks": lambda: altering.some_blocks(**colluding, drawn=10, audits=config.audits),
        "rollback": lambda: altering.rolled_back(trials=10),
        "search_pattern": lambda: search_pattern.watch(
            count=config.watched_count, queries=config.watched_queries, classes=config.classes, bits=bits,
            flip=config.flip, top=10, seed=seed,
        ),
        "cloud_and_user": lambda: collusion.cloud_and_user(**colluding),
        "authority_and_user": lambda: collusion.authority_and_user(**colluding),
        "authority_and_cloud": lambda: collusion.authority_and_cloud(**colluding),
        "anonymous_post": lambda: parsing.anonymous_post(mebibytes=config.posted_mebibytes),
    }  # fmt: skip
    return finish(run, {"attacks": played(attacks)})


if __name__ == "__main__":
    main(command_line(SCALES))
