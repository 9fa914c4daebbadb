"""`jcbir demo` and `jcbir version`."""

import os
import sys

from rich.console import Console

import jcbir
from jcbir.cli import options
from jcbir.cli.console import Screen, answer


def version(command: options.Version, screen: Screen) -> None:
    answer(screen, {"version": jcbir.__version__}, lines=[f"jcbir {jcbir.__version__}"])


def demo(command: options.Demo, screen: Screen) -> None:
    # The demo keeps a core busy with each of its own threads; XLA's on top would only get in each other's way.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    from jcbir.cli.demo.run import run_demo
    from jcbir.cli.network import keep_programs

    keep_programs()
    stream = sys.stderr if screen.json else sys.stdout
    report = run_demo(command.options, console=Console(file=stream, width=None if stream.isatty() else 140))
    if screen.json:
        answer(screen, report)


__all__ = ["demo", "version"]
