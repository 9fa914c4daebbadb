"""`python -m jcbir` and the command `jcbir`. Nothing heavy at the top: Ctrl-C is answered from the first instant."""

import gc
import os
import signal
import sys
from typing import Any


def main() -> None:
    """Run the command that the arguments name."""
    # Who ignores Ctrl-C, as what a shell starts in the background does, goes on ignoring it.
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def answer_by(handler: Any) -> None:
        if heard:
            signal.signal(signal.SIGINT, handler)

    def call(function: Any, *arguments: Any) -> None:
        gc.freeze()
        gc.enable()
        answer_by(signal.default_int_handler)
        try:
            function(*arguments)
        finally:
            answer_by(_leave)

    answer_by(_leave)
    # What is loaded stays: to look for garbage among it takes a tenth of a start.
    gc.disable()
    import warnings

    from jcbir.cli.main import run_command

    warnings.formatwarning = lambda message, *_: f"jcbir: {message}\n"
    sys.exit(run_command(sys.argv[1:], call=call))


def _leave(*_: Any) -> None:
    """End at once: nothing is at work that would have to be ended, and an import may swallow an exception."""
    os.write(2, b"jcbir: interrupted\n")
    if "--json" in sys.argv:
        os.write(1, b'{"error": "interrupted", "reason": "interrupted"}\n')
    os._exit(130)


if __name__ == "__main__":
    main()
