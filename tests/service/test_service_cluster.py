"""Scoring on a local Ray cluster: the same rankings as the pool, also when a worker is killed at its share."""

import contextlib
import os
import signal
import threading
import time

import pytest
from protocol_world import expected_order, make_world, positions
from service_rig import random_codes, running

pytest.importorskip("ray", reason="the extra `ray` is not installed: pip install 'jcbir[ray]'")
# Ray starts processes and sockets of its own and leaves some of them to the garbage collector.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

CODES = random_codes(3)


@pytest.fixture(params=["small", "lattice"])
def rig(tmp_path, monkeypatch, request):
    import ray

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Workers of the cluster import what this process can import.
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    world = make_world(
        key=request.param, schemes=("lattice",) if request.param == "lattice" else ("packed", "bitsliced")
    )
    with running(tmp_path, world=world, cloud={"scorer": "ray", "workers": 2, "blinder_pool": 0}) as pair:
        pair.publish()
        yield pair
    assert not ray.is_initialized()


def scoring_processes():
    """Worker processes of the cluster that hold a task or wait for one; its agents are left alone."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{process}/cmdline", "rb") as file:
                named = file.read().startswith((b"ray::score_job", b"ray::IDLE"))
            if named and is_ours(int(process)):
                found.append(int(process))
    return found


def is_ours(process):
    """Whether it descends from this process: the machine may run another cluster."""
    while process > 1 and process != os.getpid():
        with open(f"/proc/{process}/stat") as file:
            process = int(file.read().rsplit(")", 1)[1].split()[1])
    return process == os.getpid()


def test_same_rankings_and_a_killed_worker(rig):
    def check():
        for scheme in rig.world.cloud.segments[0].indexes:
            for row, code in zip(rig.search(CODES, scheme=scheme), CODES, strict=True):
                assert positions(rig.world, row) == expected_order(rig.world, code)

    check()
    stop, killed = threading.Event(), []

    def kill():
        while not stop.is_set() and len(killed) < 3:
            for process in scoring_processes()[:1]:
                os.kill(process, signal.SIGKILL)
                killed.append(process)
            time.sleep(0.5)

    hunter = threading.Thread(target=kill)
    hunter.start()
    try:
        while len(killed) < 3:
            check()
    finally:
        stop.set()
        hunter.join()
    check()
