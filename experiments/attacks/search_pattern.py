"""`bitsliced`: an honest cloud that remembers masked queries and which images each of them fetched. Simulated codes.

The codes have the structure that training gives them: a random center for each class, every bit of an image turned
with a small probability. No key takes part, for none would change what the cloud sees: masked queries, and the results
as sets of pseudonyms.
"""

import hmac
import secrets
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jcbir.codes import pack, pairwise
from jcbir.protocol import owner, session
from jcbir.ranking.isometry import isometry, mask_codes

COVER = 4
"""Images of a bucket, where the grant has cover."""


class Watched(NamedTuple):
    """What the cloud saw in one epoch.

    Attributes:
        queries: the masked queries.
        fetched: places of the images that each of them fetched.
    """

    queries: Bool[np.ndarray, "q k"]
    fetched: Int[np.ndarray, "q r"]


def watch(*, count: int, queries: int, classes: int, bits: int, flip: float, top: int, seed: int) -> dict[str, float]:
    """Masked codes and classes from one epoch of queries, and what the next epoch changes.

    Before: pseudonyms stay when the collection is re-keyed, and 30 queries map the new mask to the old one. After: each
    epoch names its images anew, and the fetched names are those of no image known. What nothing hides stands under
    `remaining`: in one epoch `bitsliced` is as it was, and which images are fetched together tells the classes in every
    scheme.

    Returns:
        Shares of masked bits mapped; shares and errors of the codes estimated; how pure the classes are that it finds.
    """
    generator = np.random.default_rng(seed)
    centers = generator.random((classes, bits)) < 0.5
    labels = np.arange(count) % classes
    codes = _near(centers[labels], flip, generator)
    first, second = (isometry(secrets.token_bytes(32), bits=bits) for _ in range(2))
    asked = _near(centers[generator.integers(0, classes, queries)], flip, generator)
    seen = Watched(mask_codes(asked, first), _results(codes, asked, top, generator))
    votes, times = _votes(seen, count)
    estimates, truth = votes > 0, mask_codes(codes, first)
    errors = (estimates ^ truth).sum(axis=1)
    late = _near(centers[generator.integers(0, classes, 30)], flip, generator)
    later = Watched(mask_codes(late, second), _results(codes, late, top, generator))
    # The same bit of a code, under either mask.
    same = np.argsort(first.permutation)[second.permutation]
    strangers = Watched(later.queries, generator.permutation(count)[later.fetched])
    return {
        "new_mask_mapped_before": float((_map_mask(later, votes) == same).mean()),
        "new_mask_mapped_after": float((_map_mask(strangers, votes) == same).mean()),
        **_names_kept(),
        "codes_estimated_remaining": float((times > 0).mean()),
        "error_bits_remaining": float(errors[times > 0].mean()),
        "classes_from_masked_codes_remaining": _purity(_groups(estimates[times > 0], bits // 4), labels[times > 0]),
        "classes_from_fetches_alone_remaining": _purity(_fetched_together(seen, count)[times > 0], labels[times > 0]),
        **_under_cover(seen, truth, labels, generator),
    }


def _under_cover(
    seen: Watched, truth: Bool[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], generator: np.random.Generator
) -> dict[str, float]:
    """The same estimates by a cloud that sees whole buckets of COVER images, neighbors in a random order."""
    count = len(truth)
    bucket = generator.permutation(count) // COVER
    members = np.argsort(bucket, kind="stable").reshape(-1, COVER)
    votes, fetched = np.zeros(truth.shape), []
    for query, places in zip(seen.queries, seen.fetched, strict=True):
        images = members[np.unique(bucket[places])].ravel()
        votes[images] += np.where(query, 1, -1)
        fetched.append(len(images))
    estimates, found = votes > 0, np.unique(bucket[seen.fetched])
    known = np.isin(bucket, found)
    return {
        "covered_images_fetched_remaining": float(np.mean(fetched)),
        "covered_error_bits_remaining": float((estimates ^ truth).sum(axis=1)[known].mean()),
        "covered_classes_remaining": _purity(_groups(estimates[known], truth.shape[1] // 4), labels[known]),
    }


def _near(codes: np.ndarray, flip: float, generator: np.random.Generator) -> np.ndarray:
    return codes ^ (generator.random(codes.shape) < flip)


def _results(codes: np.ndarray, asked: np.ndarray, top: int, generator: np.random.Generator) -> np.ndarray:
    """The nearest images of each query; the order of a segment is random, and so is that of ties."""
    order = generator.permutation(len(codes))
    distances = np.asarray(pairwise(pack(asked), pack(codes[order])))
    return order[np.argsort(distances, axis=1, kind="stable")[:, :top]]


def _votes(seen: Watched, count: int) -> tuple[Float[np.ndarray, "n k"], np.ndarray]:
    """For each image the sum of the masked queries that fetched it, as signs, and their number."""
    votes, times = np.zeros((count, seen.queries.shape[1])), np.zeros(count, int)
    for query, places in zip(seen.queries, seen.fetched, strict=True):
        votes[places] += np.where(query, 1, -1)
        times[places] += 1
    return votes, times


def _map_mask(later: Watched, votes: np.ndarray) -> np.ndarray:
    """For each bit of the new mask the bit of the old one that varies with it over the later queries."""
    old = np.sign(votes)[later.fetched].mean(axis=1)
    new = np.where(later.queries, 1.0, -1.0)
    return np.abs(new.T @ old).argmax(axis=1)


def _names_kept() -> dict[str, float]:
    """Share of pseudonyms that survive a re-keying: by the rule before, of the name alone, and by the owner's."""
    old, names = session.small_system().owner, ("a", "b", "c")
    new = owner.rekey(old, draw=secrets.token_bytes)

    def share(pseudonym: Callable[[owner.Owner, str], str]) -> float:
        return float(np.mean([pseudonym(old, name) == pseudonym(new, name) for name in names]))

    return {
        "names_kept_before": share(lambda it, name: hmac.digest(it.naming_key, name.encode(), "sha256").hex()),
        "names_kept_after": share(owner.pseudonym),
    }


def _groups(codes: np.ndarray, radius: int) -> np.ndarray:
    """Each code with the first one within the radius."""
    return np.argmax(np.asarray(pairwise(pack(codes), pack(codes))) <= radius, axis=1)


def _fetched_together(seen: Watched, count: int) -> np.ndarray:
    """Images that one query fetched belong together, and so on."""
    group = np.arange(count)
    while True:
        lowest = group.copy()
        np.minimum.at(lowest, seen.fetched, lowest[seen.fetched].min(axis=1, keepdims=True))
        if np.array_equal(lowest, group):
            return group
        group = lowest


def _purity(groups: np.ndarray, labels: np.ndarray) -> float:
    """Share of pairs, of one group or of one class, that are both: 1 if the groups are the classes."""
    same_group, same_class = groups[:, None] == groups, labels[:, None] == labels
    upper = np.triu(np.ones_like(same_group), 1)
    return float((same_group & same_class & upper).sum() / ((same_group | same_class) & upper).sum())
