"""The page of a command, in a thread of the test, and a client that came by its link."""

import contextlib
import json
import threading
import time

import httpx

from jcbir.cli.main import run_command


class Page:
    """An open page.

    Attributes:
        link: as printed.
        base: where it is.
        client: has the session's cookie.
    """

    def __init__(self, link):
        self.link, self.base = link, link.split("/?")[0]
        self.client = httpx.Client(
            base_url=self.base, headers={"origin": self.base}, timeout=120, follow_redirects=True, trust_env=False
        )  # fmt: skip

    def enter(self):
        """Exchange the token for the cookie."""
        assert self.client.get(self.link).status_code == 200
        return self.client

    def order(self, name, **form):
        """Give an order of the owner's page and wait for its end."""
        begun = self.client.post(f"/orders/{name}", json=form)
        assert begun.status_code == 200, begun.text
        while not (found := self.client.get("/order").json())["ended"]:
            time.sleep(0.05)
        return found


@contextlib.contextmanager
def open_page(capsys, *words):
    """Run `jcbir … open` until the block ends."""
    capsys.readouterr()
    ended = []
    thread = threading.Thread(target=lambda: ended.append(run_command([*map(str, words), "--json"])))
    thread.start()
    printed = ""
    while "\n" not in printed and not ended:
        time.sleep(0.02)
        printed += capsys.readouterr().out
    assert not ended, printed
    page = Page(json.loads(printed)["page"])
    try:
        yield page
    finally:
        with contextlib.suppress(httpx.ConnectError):
            # Whoever has not entered yet can still be the first; a page may be closed already.
            page.client.get(page.link)
            page.client.post("/close")
        page.client.close()
        thread.join(60)
    assert ended == [0]
