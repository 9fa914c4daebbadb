"""`python -m jcbir` and the command `jcbir`. Nothing heavy at the top: Ctrl-C is answered from the first instant."""

import os
import signal
import sys

INTERRUPTED = 130


def main():
    """Run the command that the arguments name."""
    # Who ignores Ctrl-C, as what a shell starts in the background does, goes on ignoring it.
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def answer_by(handler):
        if heard:
            signal.signal(signal.SIGINT, handler)

    answer_by(_leave)
    import gc
    import warnings

    # What is loaded stays: to look for garbage among it takes a tenth of a start.
    gc.disable()
    from jcbir.cli.main import run_command

    def call(function, *arguments):
        gc.freeze()
        gc.enable()
        answer_by(signal.default_int_handler)
        try:
            function(*arguments)
        finally:
            answer_by(_leave)

    warnings.formatwarning = lambda message, *_: f"jcbir: {message}\n"
    status = run_command(sys.argv[1:], call=call)
    if status == INTERRUPTED:
        # A thread that was interrupted half-way into something would be waited for.
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


def _leave(*_):
    """End at once: nothing is at work that would have to be ended, and an import may swallow an exception."""
    os.write(2, b"jcbir: interrupted\n")
    if "--json" in sys.argv:
        os.write(1, b'{"error": "interrupted", "reason": "interrupted"}\n')
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
