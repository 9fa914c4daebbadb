"""A stateful machine drives owner, server, authority and user against a plain dictionary."""

import dataclasses
import secrets

import numpy as np
import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from paillier_vectors import stored_key
from protocol_world import BITS, NOW, new_user

from jcbir.errors import FormatError, IntegrityError, KeyMismatchError
from jcbir.protocol import authority, owner, server, session, user, wire
from jcbir.protocol._digests import score_blocks
from jcbir.protocol._signatures import sign
from jcbir.protocol.refusals import (
    ForgedGrantError,
    ForgedReplyError,
    ForgedScoresError,
    OverBudgetError,
    ReplayedQueryError,
    RevokedGrantError,
    RolledBackError,
)
from jcbir.ranking._sentinels import sentinel_codes
from jcbir.sealing import Photograph

SCHEMES = st.sampled_from(["packed", "bitsliced"])
CODES = st.lists(st.integers(0, 2**BITS - 1), min_size=1, max_size=3)


def bits_of(numbers):
    return np.array([[number >> place & 1 for place in range(BITS)] for number in numbers], bool)


def picture(number):
    return Photograph(number.to_bytes(2), "image/png", f"{number}.png")


def travel(message):
    return wire.from_bytes(wire.to_bytes(message), expect=type(message))


class Machine(RuleBasedStateMachine):
    """The model: name to code of every living image (its picture follows from the code); users and whether revoked."""

    @initialize()
    def found(self):
        draw = secrets.token_bytes
        founded = session.found(collection="photos", bits=BITS, secret=stored_key("small"), draw=draw)
        self.own, self.identity, self.key_holder = founded.owner, founded.cloud, founded.authority.identity
        self.begin()
        # Ready to search from the start: most of the steps are then worth something.
        self.publish([1, 2, 3])
        self.admit()

    def begin(self):
        self.cloud = server.Server(self.own.card)
        self.holder = authority.appoint(owner.delegate(self.own), self.key_holder)
        self.living, self.published, self.users, self.withdrawn_images = {}, 0, [], {}
        self.heads = []

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
        images = [picture(number) for number in numbers]
        self.own, publication, catalog = owner.publish(
            self.own,
            bits_of(numbers),
            images,
            names,
            schemes=["packed", "bitsliced"],
            cipher="aes-gcm",
            draw=secrets.token_bytes,
        )
        self.cloud = server.accept(self.cloud, travel(publication))
        self.holder = authority.catalog(self.holder, travel(catalog))
        self.living |= dict(zip(names, numbers, strict=True))
        self.sign_head()

    def sign_head(self):
        self.own, head = owner.head(self.own, now=NOW)
        self.cloud = server.take_head(self.cloud, travel(head))
        self.holder = authority.take_head(self.holder, travel(head))
        self.heads.append(head)

    def take_away(self, names):
        self.withdrawn_images |= {name: self.cloud.images[owner.pseudonym(self.own, name)] for name in names}
        self.own, withdrawal = owner.withdraw(self.own, names)
        # Told twice: orders may be repeated.
        for _ in range(2):
            self.cloud = server.withdraw(self.cloud, travel(withdrawal))
            self.holder = authority.withdraw(self.holder, travel(withdrawal))
        for name in names:
            del self.living[name]
        self.sign_head()

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
                server.admit_query(self.cloud, query, now=NOW)
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
        blinders = owner.blinder_pool(self.own, count, draw=secrets.token_bytes)
        self.cloud, report = server.score_query(
            self.cloud, travel(query), blinders=blinders, identity=self.identity, now=NOW
        )
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

    def asked(self, numbers, *, top):
        """A fresh query of the first user whose grant is good, and the report of it; None where there is none."""
        good = [me for me, revoked in self.users if not revoked]
        if not good:
            return None
        me, query = user.ask(good[0], bits_of(numbers), top=top, now=NOW, draw=secrets.token_bytes)
        count = server.blinders_needed(self.cloud, query)
        blinders = owner.blinder_pool(self.own, count, draw=secrets.token_bytes)
        cloud, report = server.score_query(self.cloud, query, blinders=blinders, identity=self.identity, now=NOW)
        return me, cloud, query, report

    @precondition(lambda self: self.living)
    @rule(number=st.integers(0, 2**BITS - 1))
    def stranger(self, number):
        """A report that the server did not sign: by anybody with a grant and the authority's address."""
        found = self.asked([number], top=1)
        if found:
            me, _, _, report = found
            header = dataclasses.replace(report, openings=b"", scores=())
            forged = sign(header, secret=me.keys.signing_secret)
            with pytest.raises(ForgedReplyError):
                authority.admit(
                    self.holder, dataclasses.replace(forged, openings=report.openings, scores=report.scores), now=NOW
                )

    @precondition(lambda self: self.living)
    @rule(number=st.integers(0, 2**BITS - 1), other=st.integers(0, 2**BITS - 1))
    def cheating_server(self, number, other):
        """Replays, substituted scores, a ranking for another request, and an image served in another's place."""
        found, instead = self.asked([number], top=2), self.asked([other], top=2)
        if not found:
            return
        me, cloud, query, report = found
        with pytest.raises(FormatError):
            authority.admit(self.holder, dataclasses.replace(report, scores=instead[3].scores), now=NOW)
        holder, ranking = authority.answer(self.holder, report, now=NOW)
        with pytest.raises(ReplayedQueryError):
            authority.answer(holder, report, now=NOW)
        with pytest.raises(ReplayedQueryError):
            server.admit_query(cloud, query, now=NOW)
        with pytest.raises(ForgedReplyError):
            server.deliver(instead[1], ranking)
        delivery = server.deliver(cloud, ranking)[1]
        wrong = next(iter(self.withdrawn_images.values()), delivery.images[-1].sealed)
        first = dataclasses.replace(delivery.images[0], sealed=wrong)
        if wrong != delivery.images[0].sealed:
            asking = dataclasses.replace(me, pending={query.request.nonce: query.request})
            with pytest.raises(IntegrityError):
                user.receive(asking, dataclasses.replace(delivery, images=(first, *delivery.images[1:])))

    @precondition(lambda self: self.living)
    @rule(number=st.integers(0, 2**BITS - 1), other=st.integers(0, 2**BITS - 1))
    def substituting_server(self, number, other):
        """Scores of another query, signed as they should be: refused unless no sentinel is farther or nearer."""
        found, instead = self.asked([number], top=2), self.asked([other], top=2)
        if not found:
            return
        report = found[3]
        scores = instead[3].scores
        header = dataclasses.replace(report, openings=b"", scores=(), blocks=score_blocks(scores))
        signed = sign(dataclasses.replace(header, signature=b""), secret=self.identity.secret)
        forged = dataclasses.replace(signed, openings=report.openings, scores=scores)
        layout = scores[0][0].layout
        secret = user.scheme_masking_key(self.own.card, scheme="packed", masking_key=self.own.masking_key)
        codes = sentinel_codes(layout, masking_key=secret)
        catalogs = self.holder.catalogs.values()
        used = codes[[place % len(codes) for catalog in catalogs for place in catalog.sentinels]]
        near, far = ((used ^ bits_of([value])).sum(axis=1) for value in (number, other))
        holder, _ = authority.admit(self.holder, forged, now=NOW)
        plaintexts = authority.decrypt_report(holder, forged)
        if (near != far).any():
            with pytest.raises(ForgedScoresError):
                authority.rank(holder, forged, plaintexts, now=NOW)
        else:
            authority.rank(holder, forged, plaintexts, now=NOW)

    @precondition(lambda self: self.living and len(self.heads) > 1)
    @rule(number=st.integers(0, 2**BITS - 1), choice=st.integers(0, 100))
    def going_back(self, number, choice):
        """A server that shows an older head, to a user of the present one and to one who knows the authority's."""
        found = self.asked([number], top=1)
        if not found:
            return
        me, cloud, _, report = found
        _, ranking = authority.answer(self.holder, report, now=NOW)
        old = self.heads[choice % (len(self.heads) - 1)]
        delivery = server.deliver(dataclasses.replace(cloud, head=old), ranking)[1]
        with pytest.raises(RolledBackError):
            user.receive(me, travel(delivery))
        honest = server.deliver(cloud, ranking)[1]
        assert user.receive(me, travel(honest))[0].head == self.heads[-1].counter == len(self.heads)

    @precondition(lambda self: self.living)
    @rule(numbers=CODES)
    def greedy(self, numbers):
        """A user with a small budget asks until it is spent: never more rows or images than granted."""
        me, _, _, _ = new_user(self.own, queries_per_day=4, images_per_day=3)
        holder, rows, images = self.holder, 0, set()
        for _ in range(4):
            me, query = user.ask(me, bits_of(numbers), top=2, now=NOW, draw=secrets.token_bytes)
            count = server.blinders_needed(self.cloud, query)
            blinders = owner.blinder_pool(self.own, count, draw=secrets.token_bytes)
            _, report = server.score_query(self.cloud, query, blinders=blinders, identity=self.identity, now=NOW)
            try:
                holder, _ = authority.admit(holder, report, now=NOW)
            except OverBudgetError:
                assert rows + len(numbers) > 4
                continue
            rows += len(numbers)
            plaintexts = authority.decrypt_report(holder, report)
            try:
                holder, _, ranking = authority.rank(holder, report, plaintexts, now=NOW)
            except OverBudgetError:
                continue
            images |= set(ranking.image_ids)
        assert rows <= 4 and len(images) <= 3
        spent = authority._spent_today(holder, me.grant.grant_id, now=NOW)
        assert (spent.rows, spent.image_ids) == (rows, images)

    def compare(self, numbers, top, matches):
        names = {owner.pseudonym(self.own, name): name for name in self.living}
        for number, row in zip(numbers, matches, strict=True):
            distances = {name: (number ^ code).bit_count() for name, code in self.living.items()}
            assert [match.distance for match in row] == sorted(distances.values())[:top]
            assert len({match.image_id for match in row}) == len(row)
            for match in row:
                name = names[match.image_id]
                assert match.distance == distances[name]
                assert match.photograph == picture(self.living[name])

    @invariant()
    def server_holds_the_living(self):
        if hasattr(self, "own"):
            assert set(self.own.image_ids) == {owner.pseudonym(self.own, name) for name in self.living}
            catalogs = self.holder.catalogs.values()
            hidden = {catalog.image_ids[place] for catalog in catalogs for place in catalog.sentinels}
            assert set(self.cloud.images) == set(self.own.image_ids) | hidden
            assert len(hidden) >= len(catalogs)


Machine.TestCase.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)
TestMachine = pytest.mark.slow(Machine.TestCase)
