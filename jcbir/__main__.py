"""`python -m jcbir` is the command `jcbir`."""

from jcbir.cli.main import main

if __name__ == "__main__":
    main()
