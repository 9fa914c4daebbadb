"""Run one of the two services as a process, over the test's world: `service_process SIDE ROOT PORT [UPSTREAM]`."""

import pathlib
import sys

from protocol_world import NOW, make_world

from jcbir.service.serving import serve


def main(side, root, port, *more):
    root = pathlib.Path(root)
    tls = {"certificate": root / "cert.pem", "private_key": root / "key.pem"}
    if side == "authority":
        from jcbir.protocol.owner import delegate
        from jcbir.service.authority import AuthoritySettings, create_app

        settings = AuthoritySettings(delegate(make_world().own), root / "journal", workers=1)
    else:
        from jcbir.service.cloud import CloudSettings, create_app

        settings = CloudSettings(root / "store", more[0], workers=1, authority_certificate=root / "cert.pem")
    serve(create_app(settings, clock=lambda: NOW), port=int(port), header_seconds=1.0, drain_seconds=10, **tls)


if __name__ == "__main__":
    main(*sys.argv[1:])
