"""A user whose query is none ends its own grant, and nobody else's."""

from experiments.attacks import lattice_blame


def test_a_lying_user_stops_itself_alone():
    figures = lattice_blame.lying(users=3)
    assert (figures["other_users_answered_before"], figures["other_users_answered_after"]) == (0, 1)
    assert figures["liar_answered_after"] == figures["forged_q_opened_after"] == 0
    assert figures["alarms_until_halted_remaining"] == 8
