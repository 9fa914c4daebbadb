"""Make earlier_formats.json: files as the program wrote them before wire version 2, one of each kind.

    git archive 49930db^ jcbir | tar x -C FOLDER
    PYTHONPATH=FOLDER python tests/vectors/earlier_formats_make.py

Each is deflated and in base64. The collection has a breakable key; the passphrase of the secret file is the one below.
"""

import base64
import json
import secrets
import tempfile
import zlib
from pathlib import Path

from jcbir.protocol import wire
from jcbir.protocol.session import small_system
from jcbir.storage import cards, journal, keys, store

HERE = Path(__file__).parent
PASSPHRASE = "correct horse battery"


def main() -> None:
    """Write the files."""
    system = small_system()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        store.create_store(root / "store", system.owner.card)
        with store.open_store(root / "store", write=True) as opened:
            store.append_segment(opened, system.publication)
        with journal.open_journal(root / "journal.sqlite", system.delegation.card) as opened:
            journal.keep_order(opened, system.catalogue)
        cards.write_card(root / "collection.public", system.owner.card)
        keys.write_secret(
            root / "authority.secret", system.delegation, passphrase=PASSPHRASE, draw=secrets.token_bytes, work=14
        )
        (root / "enrollment.jcbir").write_bytes(wire.to_bytes(system.enrollment))
        files = {
            str(file.relative_to(root)): base64.b64encode(zlib.compress(file.read_bytes(), 9)).decode()
            for file in sorted(root.rglob("*"))
            if file.is_file() and not file.name.endswith((".lock", "-wal", "-shm"))
        }
    (HERE / "earlier_formats.json").write_text(json.dumps(files, indent=1) + "\n")


if __name__ == "__main__":
    main()
