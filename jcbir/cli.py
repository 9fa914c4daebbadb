"""The command line. Each command is a frozen record whose fields are its options; what it does is one function call."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

import jcbir
from jcbir.demo.options import DemoOptions


@dataclasses.dataclass(frozen=True)
class Version:
    """Print the version."""


Command = Annotated[DemoOptions, tyro.conf.subcommand("demo")] | Annotated[Version, tyro.conf.subcommand("version")]


def main() -> None:
    """Run the command that the arguments name."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: Sequence[str]) -> int:
    """Parse and run; a user's error ends in one line and status 2, an interruption in status 130."""
    command = tyro.cli(Command, prog="jcbir", description=jcbir.__doc__, args=list(arguments))
    console = Console(width=None if sys.stdout.isatty() else 140)
    try:
        match command:
            case Version():
                console.print(f"jcbir {jcbir.__version__}")
            case DemoOptions():
                _prepare_xla()
                from jcbir.demo.run import run_demo

                run_demo(command, console=console)
    except (ValueError, OSError) as error:
        Console(stderr=True).print(f"[red]jcbir:[/] {error}", highlight=False, markup=True)
        return 2
    except KeyboardInterrupt:
        Console(stderr=True).print("jcbir: interrupted")
        return 130
    return 0


def _prepare_xla() -> None:
    # The demo keeps a core busy with each of its own threads; XLA's on top would only get in each other's way.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    import jax

    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    jax.config.update("jax_compilation_cache_dir", str(home / "jcbir" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


if __name__ == "__main__":
    main()
