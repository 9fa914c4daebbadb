"""Estimate the hardness of the lattice scheme's problems, after checking the estimator against published figures.

    python -m experiments.lattice_estimate [--report FILE.json]

One attack is modeled, the primal one: embed (nu s, e, 1) in a lattice of dimension d = n + m + 1 and volume q^m nu^n,
nu = sigma_e/sigma_s (Bai and Galbraith), and reduce it with block size beta. By the geometric series assumption it
succeeds (Alkim et al., 2016) when

    sigma_e sqrt(beta) <= delta^(2 beta - d - 1) (q^m nu^n)^(1/d),
    delta = ((pi beta)^(1/beta) beta / (2 pi e))^(1/(2 (beta - 1))).

The least beta over m gives the costs: core-SVP 2^(0.292 beta) classical and 2^(0.257 beta) quantum; the model of the
homomorphic encryption standard of 2018, 2^(0.292 beta + 16.4) 8 d; and gates by MATZOV, 2022. Dual and hybrid attacks
are not modeled: this is a check on a table, no replacement for the lattice estimator.

References: Alkim, Ducas, Poeppelmann and Schwabe, 2016, Post-quantum key exchange. Albrecht, Player and Scott, 2015, On
the concrete hardness of learning with errors. Bossuat et al., 2024, IACR ePrint 2024/463.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

import tyro

from jcbir.lattice.public import bounds, parameters

TERNARY, BINOMIAL = math.sqrt(2 / 3), math.sqrt(10.5)


class Problem(NamedTuple):
    """Learning with errors: n unknowns, at most m samples modulo q.

    Attributes:
        name: what it protects.
        n: unknowns.
        log_q: log2 of the modulus.
        secret: standard deviation of the unknowns.
        error: standard deviation of the errors.
        samples: how many samples there are.
    """

    name: str
    n: int
    log_q: float
    secret: float
    error: float
    samples: int


class Estimate(NamedTuple):
    """What the primal attack costs, costs in log2.

    Attributes:
        beta: block size.
        dimension: of the lattice.
        core: core-SVP, classical.
        quantum: core-SVP, quantum.
        standard: operations by the standard of 2018.
        gates: gates by MATZOV.
    """

    beta: int
    dimension: int
    core: float
    quantum: float
    standard: float
    gates: float


# The lattice estimator's documentation: its block size for the primal attack on each problem (of 2024 and of 2021).
# With twice as many samples as unknowns a secret may be exchanged for errors, which makes the second one's narrower.
PUBLISHED = (
    (406, Problem("Kyber512", 512, math.log2(3329), math.sqrt(1.5), math.sqrt(1.5), 512)),
    (382, Problem("Kyber512, errors of deviation 1", 512, math.log2(3329), 1.0, 1.0, 512)),
)
# Degree and log2 q that Bossuat et al. give for 128 bits, classical, ternary secrets.
GUIDELINES = ((1024, 26), (2048, 53), (4096, 106), (8192, 214))


def least_block_size(problem: Problem) -> tuple[int, int]:
    """Return the least block size with which the primal attack succeeds, and the dimension it does so in.

    Args:
        problem: what to attack.

    Returns:
        beta and d.

    Example:
        >>> least_block_size(PUBLISHED[0][1])[0]
        406
    """
    nu = problem.error / problem.secret
    step = max(1, problem.n // 256)

    def dimension(beta: int) -> int | None:
        shrink = math.log2(_delta(beta))
        length = math.log2(problem.error) + math.log2(beta) / 2
        for m in range(problem.n // 4, problem.samples + 1, step):
            d = problem.n + m + 1
            volume = (m * problem.log_q + problem.n * math.log2(nu)) / d
            if length <= shrink * (2 * beta - d - 1) + volume:
                return d
        return None

    low, high = 50, 4000
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if dimension(middle) else (middle + 1, high)
    found = dimension(low)
    if found is None:
        raise ValueError(f"problem: must fall to a block size of 4000 or less, got {problem.name}")
    return low, found


def estimate(problem: Problem) -> Estimate:
    """Price the primal attack on a problem.

    Args:
        problem: what to attack.

    Returns:
        Block size, dimension and costs.

    Example:
        >>> round(estimate(PUBLISHED[0][1]).core)
        119
    """
    beta, d = least_block_size(problem)
    free = beta * math.log(4 / 3) / math.log(beta / (2 * math.pi * math.e))
    calls = 2 * math.log2(1 / (1 - 2**-0.296135)) + math.log2(d - beta)
    return Estimate(
        beta=beta,
        dimension=d,
        core=0.292 * beta,
        quantum=0.257 * beta,
        standard=0.292 * beta + 16.4 + math.log2(8 * d),
        gates=0.296135 * (beta - free) + 20.387886 + calls,
    )


def problems(bits: int) -> list[Problem]:
    """List the problems on which the scheme rests, for one code length.

    Args:
        bits: code length.

    Returns:
        One for the ternary secrets of blocks and queries, one for the errors that hints and Q hide behind.

    Example:
        >>> [problem.n for problem in problems(64)]
        [8192, 8192]
    """
    v = parameters(bits=bits)
    log_q, n = bounds(v).q, v.degree
    return [
        Problem("block secret s_b, query secret u", n, log_q, TERNARY, BINOMIAL, v.polys * n),
        Problem("hint K_b, shared part Q", n * (v.polys - 1), log_q, BINOMIAL, BINOMIAL, n),
    ]


def guidelines() -> list[Problem]:
    """List the problems at the limit of the guidelines' table.

    Returns:
        One for each degree.

    Example:
        >>> [problem.n for problem in guidelines()]
        [1024, 2048, 4096, 8192]
    """
    return [Problem(f"n = {n}, log2 q = {log_q}", n, log_q, TERNARY, 3.19, 2 * n) for n, log_q in GUIDELINES]


def _delta(beta: int) -> float:
    return ((math.pi * beta) ** (1 / beta) * beta / (2 * math.pi * math.e)) ** (1 / (2 * (beta - 1)))


def main(report: Path | None = None) -> None:
    """Print the checks and the estimates.

    Args:
        report: where to write them as JSON.
    """
    lines = []
    for beta, problem in PUBLISHED:
        lines.append({"problem": problem.name, "published": f"beta {beta}"} | estimate(problem)._asdict())
    for problem in guidelines():
        lines.append({"problem": problem.name, "published": "128 bits"} | estimate(problem)._asdict())
    # Every code length has the same ring.
    for problem in problems(64):
        lines.append({"problem": problem.name, "published": None} | estimate(problem)._asdict())
    for line in lines:
        print({key: round(value, 1) if isinstance(value, float) else value for key, value in line.items()})
    if report:
        report.write_text(json.dumps(lines, indent=1))


if __name__ == "__main__":
    tyro.cli(main)
