"""Run one of the two services as a process, over the test's world: `service_process SIDE ROOT PORT [AUTHORITY_URL]`.

Limits come as JSON in the environment variable SERVICE_LIMITS.
"""

import json
import os
import pathlib
import sys

from protocol_world import NOW, make_world

from jcbir.service._http import Rate
from jcbir.service.serving import serve


def main(side, root, port, *more):
    root, world, limits = pathlib.Path(root), make_world(), json.loads(os.environ.get("SERVICE_LIMITS", "{}"))
    if "client_rate" in limits:
        limits["client_rate"] = Rate(*limits["client_rate"])
    tls = {"certificate": root / "cert.pem", "private_key": root / "key.pem"}
    if side == "authority":
        from jcbir.protocol.owner import delegate
        from jcbir.service.authority import AuthoritySettings, create_app

        settings = AuthoritySettings(delegate(world.own), world.holder.identity, root / "journal", workers=1, **limits)
    else:
        from jcbir.service.cloud import CloudSettings, create_app

        settings = CloudSettings(
            root / "store", world.identity, more[0], workers=1, authority_certificate=root / "cert.pem", **limits
        )
    serve(create_app(settings, clock=lambda: NOW), port=int(port), header_seconds=1.0, drain_seconds=10, **tls)


if __name__ == "__main__":
    main(*sys.argv[1:])
