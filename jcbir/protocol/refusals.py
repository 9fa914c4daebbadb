"""One error for each reason to refuse a grant or a query; `code` is what travels and what is logged."""

from jcbir.errors import IntegrityError, KeyMismatchError


class RefusalError(ValueError):
    """A party declines a message; the message names the reason and no secret.

    Attributes:
        code: what travels and what is logged.
        retry_after: seconds after which the same may succeed, or None.
    """

    code = "refused"
    retry_after: int | float | None = None

    def __init__(self, reason: str, *, retry_after: int | float | None = None) -> None:
        super().__init__(reason)
        if retry_after is not None:
            self.retry_after = retry_after


class ForgedGrantError(RefusalError, IntegrityError):
    """The grant does not carry the owner's signature over what it says."""

    code = "forged-grant"


class ExpiredGrantError(RefusalError):
    """The grant is not valid yet or not valid any more."""

    code = "expired-grant"


class RevokedGrantError(RefusalError):
    """The owner took the grant back, by list or by a new epoch."""

    code = "revoked-grant"


class ForeignCollectionError(RefusalError, KeyMismatchError):
    """The message speaks of another collection or of another system's key."""

    code = "foreign-collection"


class TamperedQueryError(RefusalError, IntegrityError):
    """The query does not carry its user's signature, or its trapdoors are not those the user committed to."""

    code = "tampered-query"


class ReplayedQueryError(RefusalError):
    """The same query was answered before."""

    code = "replayed-query"


class StaleQueryError(RefusalError):
    """The query was issued too long ago, or in the future."""

    code = "stale-query"


class MissingRightError(RefusalError):
    """The grant does not allow this: the right is absent, or more results are asked for than it allows."""

    code = "missing-right"


class ForgedReplyError(RefusalError, IntegrityError):
    """A publication, report, ranking or delivery does not carry the signature of the party that must have made it."""

    code = "forged-reply"


class RolledBackError(RefusalError, IntegrityError):
    """The server shows an older state of the collection than the owner signed since."""

    code = "rolled-back"


class ForgedScoresError(RefusalError, IntegrityError):
    """The scores are not those of this query against the owner's index: server or user cheats, and the owner hears."""

    code = "forged-scores"


class SuspendedGrantError(RefusalError):
    """Scores of a query of this user were forged before, by the user or the server: the owner decides by whom."""

    code = "suspended-grant"


class HaltedError(RefusalError):
    """Scores were forged too often, and in this kind of collection each further answer could give a key away."""

    code = "halted"


class EmptyCollectionError(RefusalError):
    """Nothing is published yet."""

    code = "empty"


class OutOfStepError(RefusalError):
    """Server and authority know other segments: the owner is between telling the one and telling the other."""

    code = "out-of-step"
    retry_after = 1.0


class OverBudgetError(RefusalError):
    """The grant's budget of this day is spent; `retry_after` says when the next one begins."""

    code = "over-budget"


REFUSALS = (
    ForgedGrantError,
    ExpiredGrantError,
    RevokedGrantError,
    ForeignCollectionError,
    TamperedQueryError,
    ReplayedQueryError,
    StaleQueryError,
    MissingRightError,
    ForgedReplyError,
    ForgedScoresError,
    RolledBackError,
    SuspendedGrantError,
    HaltedError,
    EmptyCollectionError,
    OutOfStepError,
    OverBudgetError,
)
"""Every refusal, in the order the docs list them."""
