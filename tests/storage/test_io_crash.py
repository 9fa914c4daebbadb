"""`kill -9` of a writing process, at random points and moments: nothing acknowledged is lost, nothing is torn."""

import os
import pathlib
import re
import secrets
import subprocess
import sys

import pytest
from protocol_world import make_world

import jcbir
from jcbir.protocol import owner, wire
from jcbir.protocol.handover import announce

HARNESS = pathlib.Path(__file__).with_name("crash_harness.py")


def write_script(folder):
    """Publications, withdrawals, a revocation and a new epoch of a real owner, in files."""
    world = make_world()
    own = owner.rekey(world.own, draw=secrets.token_bytes)
    card, steps = own.card, []
    for number in range(4):
        if number == 3:
            following = owner.rekey(own, draw=secrets.token_bytes)
            steps.append(announce(own, following)[0])
            own = following
        part = slice(7 * number, 7 * number + 7)
        own, publication, _ = owner.publish(
            own,
            world.codes[part],
            world.images[part],
            world.names[part],
            schemes=["packed", "bitsliced"],
            cipher="aes-gcm",
            draw=secrets.token_bytes,
        )
        steps.append(publication)
        if number in (1, 2):
            own, withdrawal = owner.withdraw(own, [world.names[number], world.names[7 * number + 2]])
            own, revocation = owner.revoke(own, [secrets.token_bytes(16)])
            steps += [withdrawal, revocation]
    (folder / "card.bin").write_bytes(wire.to_bytes(card))
    for number, step in enumerate(steps):
        (folder / f"step-{number:02d}.bin").write_bytes(wire.to_bytes(step))


def crash(folder, points, seed):
    write_script(folder)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", str(HARNESS), str(folder), str(points), str(seed)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(pathlib.Path(jcbir.__file__).parents[1])},
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return int(re.search(r"sound after (\d+) kills", run.stdout).group(1))


def test_kill_at_eight_points(tmp_path):
    assert crash(tmp_path, 8, seed=1) >= 5


@pytest.mark.slow
def test_kill_at_every_point(tmp_path):
    assert crash(tmp_path, 0, seed=2) >= 100
