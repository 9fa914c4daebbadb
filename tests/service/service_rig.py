"""Both services in one process, over ASGI, on an event loop of their own thread."""

import asyncio
import contextlib
import dataclasses
import importlib
import secrets
import socket
import threading
from pathlib import Path
from unittest import mock

import httpx
import numpy as np
from protocol_world import NOW, make_world

from jcbir.protocol import owner, user, wire
from jcbir.protocol.messages import Catalog, Delivery, Publication, Refusal
from jcbir.service import _decrypting, _scoring, authority as authority_service, cloud as cloud_service
from jcbir.service._http import Rate
from jcbir.service._pool import Pool, answer_frames
from jcbir.service.client import ROUTES
from jcbir.storage import _store as disk

OFF = Rate(0.0, 0.0)


class Thread(threading.Thread):
    """What a worker's process does, in a thread behind a pair of sockets; to a pool it is the process."""

    def __init__(self, entry):
        super().__init__(daemon=True)
        self.here, self.there = socket.socketpair()
        module, found = importlib.import_module(entry), []
        with mock.patch.object(module, "run_worker", found.append):
            module.work()
        (self.prepare,) = found

    def run(self):
        with contextlib.ExitStack() as stack:

            def prepare(hello):
                answer = self.prepare(hello)
                # A process that ends closes the store that its worker has opened.
                stack.callback(getattr(getattr(answer, "__self__", None), "close", bool))
                return answer

            # Where nobody reads any more a process would end by a signal.
            stack.enter_context(contextlib.suppress(ConnectionError))
            source, sink = (stack.enter_context(self.there.makefile(mode)) for mode in ("rb", "wb"))
            stack.enter_context(self.there)
            answer_frames(prepare, source, sink)

    def kill(self):
        """It ends with its input."""

    async def wait(self):
        await asyncio.to_thread(self.join)


start_process = asyncio.create_subprocess_exec


async def start_thread(program, flag, code, **_):
    """In place of `start_process`, for the line of code with which a pool starts a worker."""
    worker = Thread(code.split()[1])
    worker.stdout, worker.stdin = await asyncio.open_connection(sock=worker.here)
    worker.start()
    return worker


class Recorder:
    """Everything that goes into and comes out of an application."""

    def __init__(self, app):
        self.app, self.seen = app, []

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def listen():
            message = await receive()
            self.seen.append(message.get("body", b""))
            return message

        async def speak(message):
            self.seen.append(message.get("body", b""))
            await send(message)

        await self.app(scope, listen, speak)


@dataclasses.dataclass
class Rig:
    """The two applications and a way to post to them from a test's thread."""

    world: object
    root: Path
    loop: asyncio.AbstractEventLoop
    cloud: Recorder
    authority: Recorder
    workers: list

    def do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(120)

    def send(self, side, method, path, content=b"", headers=None):
        return self.do(self.send_later(side, method, path, content, headers))

    async def send_later(self, side, method, path, content=b"", headers=None):
        transport = httpx.ASGITransport(app=getattr(self, side))
        async with httpx.AsyncClient(transport=transport, base_url="http://service", timeout=100) as client:
            return await client.request(method, path, content=content, headers=headers)

    def post(self, side, message, path=None):
        path = path or ROUTES.get(type(message), "/v1/queries")
        return self.send(side, "POST", path, wire.to_bytes(message))

    def ask(self, codes, *, top=5, scheme="bitsliced", me=None):
        return user.ask(me or self.world.me, codes, top=top, now=NOW, scheme=scheme, draw=secrets.token_bytes)

    def search(self, codes, **options):
        me, query = self.ask(codes, **options)
        response = self.post("cloud", query)
        assert response.status_code == 200, refusal(response)
        return user.receive(me, wire.from_bytes(response.content, expect=Delivery))[1]

    def publish(self):
        """Hand both services what the owner published."""
        for sent in self.world.transcript:
            side = {Publication: "cloud", Catalog: "authority"}.get(type(sent.message))
            if side:
                assert self.post(side, sent.message).status_code == 200

    def metric(self, side, name):
        lines = self.send(side, "GET", "/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def worker_ids(self):
        """Process ids of the cloud's scoring workers."""
        found = self.workers[0]()
        return [process.pid for process in found.processes.values()]


def refusal(response) -> Refusal:
    return wire.from_bytes(response.content, expect=Refusal)


@contextlib.contextmanager
def event_loop():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@contextlib.contextmanager
def running(root, *, world=None, cloud=None, authority=None, clock=lambda: NOW, processes=False):
    """Both services over the files in `root`, which are made where there are none.

    Their workers are threads; processes of their own where a test is about them, which each takes a second to start.
    """
    world = world or make_world()
    root = Path(root)
    if not (root / "store").exists():
        disk.create_store(root / "store", world.own.card, unsafe_small=True)
    cloud = {"workers": 1, "blinder_pool": 64, "client_rate": OFF, "grant_rate": OFF} | (cloud or {})
    authority = {"workers": 1, "client_rate": OFF, "grant_rate": OFF} | (authority or {})
    settings = authority_service.AuthoritySettings(
        owner.delegate(world.own), world.holder.identity, root / "journal", **authority
    )
    authority_app = Recorder(authority_service.create_app(settings, clock=clock))
    cloud_app = cloud_service.create_app(
        cloud_service.CloudSettings(root / "store", world.identity, "http://authority", **cloud),
        clock=clock,
        transport=httpx.ASGITransport(app=authority_app),
    )
    with event_loop() as loop:

        def do(coroutine):
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result(120)

        workers = []
        pool_enter = Pool.__aenter__

        async def enter(pool):
            # The first pool that starts here is the cloud's.
            workers.append(lambda: pool)
            return await pool_enter(pool)

        stack = contextlib.AsyncExitStack()
        with contextlib.ExitStack() as patches:
            patches.enter_context(mock.patch.object(Pool, "__aenter__", enter))
            start = start_process if processes else start_thread
            patches.enter_context(mock.patch.object(asyncio, "create_subprocess_exec", start))
            for module in () if processes else (_scoring, _decrypting):
                # Beside a busy test a key would seem worth compiling for.
                patches.enter_context(mock.patch.object(module, "SLOW_SECONDS", 1.0))
            try:
                for app in (cloud_app, authority_app.app):
                    do(stack.enter_async_context(app.router.lifespan_context(app)))
                yield Rig(world, root, loop, Recorder(cloud_app), authority_app, workers)
            finally:
                do(stack.aclose())


def random_codes(count, seed=7):
    return np.random.default_rng(seed).random((count, 16)) > 0.5
