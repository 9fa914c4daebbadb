"""Stamp a tree that will be copied without its repository, so that reports made there can name their commit.

    python -m experiments.assets.stamp          # on the clean tree; then copy it, `stamp.json` included

The stamp holds the commit and a digest of all modules. A copy whose modules have that digest counts as a clean tree of
that commit (`experiments.running.tree_state`), and its reports say that they come from a copy; any other does not.
"""

import json

from experiments.running import ROOT, STAMP, modules_digest, tree_state
from jcbir.storage import write_file


def main() -> None:
    """Write the stamp."""
    state = tree_state()
    if state["commit"] is None or state["dirty"] or "copy" in state:
        raise SystemExit(f"only a clean tree with its repository can be stamped; got {state}")
    write_file(ROOT / STAMP, (json.dumps({"commit": state["commit"], "modules": modules_digest()}) + "\n").encode())
    print(f"{STAMP}: {state['commit']}")


if __name__ == "__main__":
    main()
