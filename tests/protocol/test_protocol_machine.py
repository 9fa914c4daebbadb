"""A stateful machine drives owner, server, authority and user against a plain dictionary."""

import secrets

import numpy as np
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from paillier_vectors import stored_key
from protocol_world import BITS, NOW, new_user

from jcbir.errors import KeyMismatchError
from jcbir.paillier.secret import owner_blinders
from jcbir.protocol import authority, owner, server, user, wire
from jcbir.protocol.refusals import ForgedGrantError, RevokedGrantError

IMAGE = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
SCHEMES = st.sampled_from(["packed", "bitsliced"])
CODES = st.lists(st.integers(0, 2**BITS - 1), min_size=1, max_size=3)


def bits_of(numbers):
    return np.array([[number >> place & 1 for place in range(BITS)] for number in numbers], bool)


def travel(message):
    return wire.from_bytes(wire.to_bytes(message), expect=type(message))


class Machine(RuleBasedStateMachine):
    """The model: name to code of every living image (its picture follows from the code); users and whether revoked."""

    @initialize()
    def found(self):
        draw = secrets.token_bytes
        self.own = owner.create(collection="photos", bits=BITS, secret=stored_key("small"), draw=draw)
        self.begin()
        # Ready to search from the start: most of the steps are then worth something.
        self.publish([1, 2, 3])
        self.admit()

    def begin(self):
        self.cloud = server.Server(self.own.card)
        self.holder = authority.appoint(owner.delegate(self.own))
        self.living, self.published, self.users = {}, 0, []

    @rule(numbers=CODES)
    def publish(self, numbers):
        names = [f"photo-{self.published + i}" for i in range(len(numbers))]
        self.published += len(numbers)
        self.add(names, numbers)

    @precondition(lambda self: self.living)
    @rule(number=st.integers(0, 2**BITS - 1), choice=st.integers(0, 100))
    def replace(self, number, choice):
        name = sorted(self.living)[choice % len(self.living)]
        self.take_away([name])
        self.add([name], [number])

    def add(self, names, numbers):
        images = [IMAGE + number % 200 for number in numbers]
        self.own, publication, catalogue = owner.publish(
            self.own,
            bits_of(numbers),
            images,
            names,
            schemes=["packed", "bitsliced"],
            cipher="aes-gcm",
            draw=secrets.token_bytes,
        )
        self.cloud = server.accept(self.cloud, travel(publication))
        self.holder = authority.catalog(self.holder, travel(catalogue))
        self.living |= dict(zip(names, numbers, strict=True))

    def take_away(self, names):
        self.own, withdrawal = owner.withdraw(self.own, names)
        # Told twice: orders may be repeated.
        for _ in range(2):
            self.cloud = server.withdraw(self.cloud, travel(withdrawal))
            self.holder = authority.withdraw(self.holder, travel(withdrawal))
        for name in names:
            del self.living[name]

    @precondition(lambda self: len(self.living) > 1)
    @rule(choice=st.integers(0, 100))
    def withdraw(self, choice):
        self.take_away([sorted(self.living)[choice % len(self.living)]])

    @precondition(lambda self: len(self.users) < 3)
    @rule()
    def admit(self):
        me, _, _, self.own = new_user(self.own)
        self.users.append([me, False])

    @precondition(lambda self: self.users)
    @rule(choice=st.integers(0, 2))
    def revoke(self, choice):
        entry = self.users[choice % len(self.users)]
        entry[1] = True
        self.own, revocation = owner.revoke(self.own, [entry[0].grant.grant_id])
        self.holder = authority.revoke(self.holder, travel(revocation))

    @precondition(lambda self: self.published and len(self.users) > 1)
    @rule()
    def rekey(self):
        old_users = self.users
        self.own = owner.rekey(self.own, draw=secrets.token_bytes)
        self.begin()
        self.add(["photo-0"], [7])
        self.published = 1
        for me, _ in old_users:
            _, query = user.ask(me, bits_of([1]), top=1, now=NOW, draw=secrets.token_bytes)
            try:
                server.score_query(self.cloud, query, blinders=np.zeros((9, 1), np.uint8), now=NOW)
            except (RevokedGrantError, ForgedGrantError, KeyMismatchError):
                continue
            raise AssertionError("a grant of the old epoch was honored")

    @precondition(lambda self: self.users and self.living)
    @rule(
        numbers=CODES, choice=st.integers(0, 2), top=st.integers(1, 4), scheme=st.sampled_from(["packed", "bitsliced"])
    )
    def search(self, numbers, choice, top, scheme):
        place = choice % len(self.users)
        me, revoked = self.users[place]
        me, query = user.ask(me, bits_of(numbers), top=top, now=NOW, scheme=scheme, draw=secrets.token_bytes)
        count = server.blinders_needed(self.cloud, query)
        blinders = owner_blinders(self.own.secret, count, draw=secrets.token_bytes)
        self.cloud, report = server.score_query(self.cloud, travel(query), blinders=blinders, now=NOW)
        if revoked:
            try:
                authority.answer(self.holder, travel(report), now=NOW)
            except RevokedGrantError:
                return
            raise AssertionError("a revoked grant was honored")
        self.holder, ranking = authority.answer(self.holder, travel(report), now=NOW)
        self.cloud, delivery = server.deliver(self.cloud, travel(ranking))
        me, matches = user.receive(me, travel(delivery))
        self.users[place][0] = me
        self.compare(numbers, top, matches)

    def compare(self, numbers, top, matches):
        names = {owner.pseudonym(self.own, name): name for name in self.living}
        for number, row in zip(numbers, matches, strict=True):
            distances = {name: (number ^ code).bit_count() for name, code in self.living.items()}
            assert [match.distance for match in row] == sorted(distances.values())[:top]
            assert len({match.image_id for match in row}) == len(row)
            for match in row:
                name = names[match.image_id]
                assert match.distance == distances[name]
                np.testing.assert_array_equal(match.image, IMAGE + self.living[name] % 200)

    @invariant()
    def server_holds_the_living(self):
        if hasattr(self, "own"):
            assert set(self.cloud.images) == {owner.pseudonym(self.own, name) for name in self.living}
            assert self.own.image_ids == set(self.cloud.images)


Machine.TestCase.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)
TestMachine = Machine.TestCase
