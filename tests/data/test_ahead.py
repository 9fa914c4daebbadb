"""Work ahead: a map in order, bounded, whose processes end with whoever reads it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings, strategies as st

from jcbir.data import ahead
from jcbir.data._ahead import AHEAD


def weigh(item: bytes) -> int:
    if item == b"bad":
        raise ValueError("a bad one")
    return len(item)


@given(st.lists(st.binary(max_size=5).filter(lambda item: item != b"bad")))
def test_without_processes_it_is_a_map(items):
    assert list(ahead(weigh, items, processes=0)) == [(item, len(item)) for item in items]


@settings(max_examples=2, deadline=None)
@given(st.lists(st.binary(max_size=5).filter(lambda item: item != b"bad"), min_size=40, max_size=80))
def test_processes_change_nothing(items):
    assert list(ahead(weigh, items, processes=2)) == list(ahead(weigh, items, processes=0))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(("size", "most_bytes", "begun"), [(1, 1 << 20, AHEAD + 1), (1000, 3000, 4)])
def test_little_is_begun_before_it_is_needed(size, most_bytes, begun):
    taken = []

    def items():
        for number in range(200):
            taken.append(number)
            yield bytes(size)

    results = ahead(weigh, items(), processes=1, most_bytes=most_bytes)
    next(results)
    assert len(taken) == begun
    results.close()
    assert not multiprocessing.active_children()


def test_an_error_comes_at_its_turn_and_ends_the_processes():
    results = ahead(weigh, [b"a", b"bad", b"b"], processes=1)
    assert next(results) == (b"a", 1)
    with pytest.raises(ValueError, match="a bad one"):
        next(results)
    assert not multiprocessing.active_children()


PROGRAM = """
import time
from jcbir.data import ahead

def slow(item):
    time.sleep(0.05)
    return item

if __name__ == "__main__":
    for item, _ in ahead(slow, (bytes(9) for _ in range(10000)), processes=2):
        print("going", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs process groups")
def test_an_interrupt_ends_all_processes_without_a_word_of_theirs(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    child = subprocess.Popen(
        [sys.executable, "program.py"], cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert child.stdout.readline() == "going\n"
    # As a terminal does it: to every process of the group.
    os.killpg(child.pid, signal.SIGINT)
    try:
        _, errors = child.communicate(timeout=300)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
    assert child.returncode != 0
    assert errors.count("Traceback") == 1 and errors.rstrip().endswith("KeyboardInterrupt")
    for _ in range(100):
        try:
            os.killpg(child.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("a process is left")
