"""`python -m jcbir` and the command `jcbir`: Ctrl-C while the rest is only being loaded is no error to show either."""

import sys

try:
    from jcbir.cli.main import main
except KeyboardInterrupt:
    print("jcbir: interrupted", file=sys.stderr)
    sys.exit(130)

if __name__ == "__main__":
    main()
