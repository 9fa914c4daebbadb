"""Kills writers of a store with SIGKILL and checks what is left: run by test_io_crash.py in a process without threads.

Usage: crash_harness.py FOLDER POINTS SEED. FOLDER holds card.bin and a message file for each step. POINTS of 0 means
every flush, rename, unlink and SQL statement of the script, and as many kills at random moments.
"""

import os
import pathlib
import random
import shutil
import signal
import sys
import time

from jcbir.protocol import wire
from jcbir.protocol.messages import Publication, Revocation, Succession, Withdrawal
from jcbir.storage import _store as disk
from jcbir.storage._load import load_server
from jcbir.storage._maintenance import compact_store, verify_store


def steps(folder):
    """The script of one writer: (action, message)."""
    messages = [wire.from_bytes(path.read_bytes()) for path in sorted(folder.glob("step-*.bin"))]
    script = []
    for message in messages:
        script.append(message)
        if isinstance(message, Withdrawal):
            script.append("compact")
    return script


def perform(store, step):
    """Take one step; gives the store, which a succession makes another one."""
    if isinstance(step, Succession):
        return disk.turn_store(store, step)
    if isinstance(step, Publication):
        disk.append_segment(store, step)
    elif isinstance(step, Withdrawal):
        disk.remove_images(store, step)
    elif isinstance(step, Revocation):
        disk.keep_revocation(store, step)
    else:
        compact_store(store)
    return store


def models(script):
    """What the store must hold after each number of steps: a plain dictionary says it."""
    living, segments, revoked, states = {}, 0, 0, [({}, 0, 0)]
    for step in script:
        if isinstance(step, Publication):
            living = living | {image.image_id: image.sealed for image in step.images}
            segments += 1
        elif isinstance(step, Withdrawal):
            living = {name: sealed for name, sealed in living.items() if name not in step.image_ids}
        elif isinstance(step, Revocation):
            revoked = step.serial
        elif isinstance(step, Succession):
            living, segments, revoked = {}, 0, 0
        states.append((living, segments, revoked))
    return states


def observe(path, *, write):
    with disk.open_store(path, write=write) as store:
        verify_store(store)
        state = load_server(store)
        if write:
            files = len(list((path / disk.SEGMENTS).iterdir()))
            if files != len(state.segments):
                raise SystemExit(f"{files} files for {len(state.segments)} segments")
    return dict(state.images), len(state.segments), state.revocation_serial


def arm(store, count):
    """Die by SIGKILL just before the count-th flush, rename, unlink or SQL statement."""
    left = [count]

    def tick(*_):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(call):
        def patched(*arguments, **options):
            tick()
            return call(*arguments, **options)

        return patched

    for name in ("fsync", "replace", "unlink"):
        setattr(os, name, counted(getattr(os, name)))
    store.database.set_trace_callback(tick)
    return left


def writer(path, script, pipe, count):
    with disk.open_store(path, write=True) as store:
        left = arm(store, count)
        for step in script:
            store = perform(store, step)
            os.write(pipe, b".")
        os.write(pipe, f" {count - left[0]}".encode())


def run(path, script, *, count=0, delay=None):
    """Fork a writer, kill it after a delay or let it kill itself; returns acknowledged steps, ticks, seconds."""
    ours, theirs = os.pipe()
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.close(ours)
        writer(path, script, theirs, count)
        os._exit(0)
    os.close(theirs)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    said = b""
    while piece := os.read(ours, 4096):
        said += piece
    os.close(ours)
    acknowledged, _, ticks = said.decode().partition(" ")
    return len(acknowledged), int(ticks or 0), time.perf_counter() - start, status


def main():
    folder, points, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    card, script, numbers = wire.from_bytes((folder / "card.bin").read_bytes()), steps(folder), random.Random(seed)
    expected = models(script)
    path = folder / "store"
    killed = 0
    plan = [{"count": 10**9}]
    for number, kill in enumerate(plan):
        shutil.rmtree(path, ignore_errors=True)
        disk.create_store(path, card, unsafe_small=True)
        acknowledged, ticks, seconds, status = run(path, script, **kill)
        if not number:
            counts = numbers.sample(range(1, ticks + 1), points // 2) if points else range(1, ticks + 1)
            plan += [{"count": count} for count in counts]
            plan += [{"count": 10**9, "delay": numbers.uniform(0, seconds)} for _ in counts]
        killed += os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status) != 0:
            raise SystemExit("the writer failed by itself")
        allowed = expected[acknowledged : acknowledged + 2]
        for write in (False, True):
            found = observe(path, write=write)
            if found not in allowed:
                raise SystemExit(f"after {acknowledged} acknowledged steps: {found[1:]} with {len(found[0])} images")
        # Whoever does the whole script again arrives where it would have led: no step harms when repeated.
        run(path, script[acknowledged:], count=10**9)
        if observe(path, write=True) != expected[-1]:
            raise SystemExit("going on after the crash did not lead to the same store")
        print(f"{kill}: {acknowledged} of {len(script)} acknowledged", flush=True)
    print(f"sound after {killed} kills")


if __name__ == "__main__":
    main()
