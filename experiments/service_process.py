"""One of the two services as a process of its own, for `experiments.service_load` and `experiments.service_soak`.

`python -m experiments.service_process (cloud|authority) FOLDER PORT WORKERS [AUTHORITY_URL SCORER]`; identities, store
and journal are in the folder, and the authority's delegation, whose passphrase comes by standard input.
"""

import pathlib
import sys

from jcbir.service._http import Rate
from jcbir.service.serving import serve
from jcbir.storage import read_identity

# All users of the experiment have one address.
UNLIMITED = Rate(0.0, 0.0)


def main(side: str, folder: str, port: str, workers: str, authority_url: str = "", scorer: str = "pool") -> None:
    root = pathlib.Path(folder)
    identity = read_identity(root / f"{side}.identity", side=side, passphrase=None)
    options = {"workers": int(workers), "client_rate": UNLIMITED}
    if side == "cloud":
        from jcbir.service.cloud import CloudSettings, create_app

        app = create_app(CloudSettings(root / "store", identity, authority_url, scorer=scorer, **options))
    else:
        from jcbir.protocol.owner import Delegation
        from jcbir.service.authority import AuthoritySettings, create_app
        from jcbir.storage import read_secret

        delegation = read_secret(root / "delegation", passphrase=sys.stdin.readline().strip(), expect=Delegation)
        app = create_app(AuthoritySettings(delegation, identity, root / "journal", **options))
    serve(app, port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
