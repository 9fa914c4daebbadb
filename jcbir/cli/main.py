"""The command line. A command is a frozen record whose fields are its options; what it does is one function.

Exit status: 0 done, 2 the caller's mistake, 3 a party refused, 4 a service cannot be reached, 5 damaged, altered or
foreign data (or a wrong passphrase), 130 interrupted. `--json` prints one JSON object on standard output and nothing
else there; an error is one too, `{"error": code, "reason": sentence}`.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

DESCRIPTION = """Private content-based image search.

`jcbir --version` prints the version; `jcbir --tyro-print-completion bash` (or zsh, tcsh) prints a completion script."""


def run_command(
    arguments: Sequence[str], *, call: Callable[..., object] = lambda function, *given: function(*given)
) -> int:
    """Parse and run; every expected error ends in one line and a status of its own.

    `call` calls the function of the command: what comes before only looks.
    """
    as_json = "--json" in arguments
    try:
        from jcbir.cli import checks, options
        from jcbir.cli.console import open_console

        chosen = parse(arguments)
        checks.check_command(chosen)
        checks.check_passphrases(chosen)
        module, function = options.FUNCTIONS[type(chosen)].split(":")
        found = getattr(importlib.import_module(f"jcbir.cli.{module}"), function)
        call(found, chosen, open_console(json=chosen.output.json))
    except SystemExit as ended:
        # tyro has said on standard error what is wrong with the arguments.
        if as_json and ended.code:
            from jcbir.cli.console import answer, open_console

            answer(open_console(json=True), {"error": "mistake", "reason": "the arguments are no command's"})
        raise
    except BrokenPipeError:
        # The reader left (`| head`): that is its right, and the rest is for nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except (ValueError, OSError, ImportError, KeyboardInterrupt) as error:
        from jcbir.cli.exit_codes import MISSING, classify

        ending = classify(error)
        if ending is None:
            raise
        if ending.code == MISSING:
            # The console may be what cannot be loaded.
            print(f"jcbir: {ending.reason}", file=sys.stderr)
            if as_json:
                print(json.dumps({"error": ending.code, "reason": ending.reason}))
            return ending.status
        from jcbir.cli.console import answer, note, open_console

        console = open_console(json=as_json)
        note(console, f"jcbir: {ending.reason}")
        if as_json:
            answer(console, {"error": ending.code, "reason": ending.reason})
        return ending.status
    return 0


def parse(arguments: Sequence[str]) -> Any:
    """Read the words of a command line into the options of its command."""
    import tyro

    from jcbir.cli import options, settings

    words = ["version", *arguments[1:]] if arguments[:1] == ["--version"] else list(arguments)
    # The parser of one command: that of all takes a second to say what is wrong with a line.
    named, record = settings.find_command(words)
    style = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff)
    parsed: Any = tyro.cli(
        record or options.Command,
        prog=" ".join(["jcbir", *words[:named]]),
        description=None if named else DESCRIPTION,
        args=settings.complete(words, record)[named:],
        config=style,
    )
    return getattr(parsed, "command", parsed)


def version(command: Any, console: Any) -> None:
    import jcbir
    from jcbir.cli.console import answer

    answer(console, {"version": jcbir.__version__}, lines=[f"jcbir {jcbir.__version__}"])
