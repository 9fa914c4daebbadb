"""The lattice scheme in Python integers modulo q, by the schoolbook: imports nothing of jcbir, floats or arrays.

Bytes go in as seeds and come out as the formats of docs/lattice.md. A parameter set is anything with the fields bits,
degree, primes, lanes, polys, flood and sentinels. Meant for n of 64 or so: every product takes n^2 steps.
"""

import functools
import hashlib
import hmac
import itertools
import math
import operator

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

ETA, KEEP, WIDTH, CHUNKS = 21, 2, 29, (16, 4, 1)


class Ring:
    """Everything that follows from a parameter set."""

    def __init__(self, v):
        self.k, self.n, self.primes, self.lanes = v.bits, v.degree, tuple(v.primes), v.lanes
        self.g, self.flood, self.sentinels = v.polys, v.flood, v.sentinels
        self.padded = next(1 << i for i in range(20) if 1 << i >= v.bits)
        self.kappa = self.padded // self.g
        self.width = self.n // self.kappa
        self.base = self.k + 1
        self.t = self.base**self.lanes
        self.t += 1 - self.t % 2
        self.q = math.prod(self.primes)
        self.kept = self.primes[:KEEP]
        self.images = (self.width - self.sentinels) * self.lanes

    def multiply(self, x, y, modulus):
        out = [0] * self.n
        for i, a in enumerate(x):
            for j, b in enumerate(y):
                if i + j < self.n:
                    out[i + j] += a * b
                else:
                    out[i + j - self.n] -= a * b
        return [c % modulus for c in out]


def derive(seed, purpose, number=0):
    return hmac.new(seed, f"jcbir lattice 1 {purpose} {number}".encode(), hashlib.sha256).digest()


def words(seed, count):
    """AES-256 of a counter, block by block."""
    block = Cipher(algorithms.AES256(seed), modes.ECB()).encryptor()
    stream = b"".join(block.update(i.to_bytes(16, "big")) for i in range(-(-count // 2)))
    return [int.from_bytes(stream[8 * i : 8 * i + 8], "little") for i in range(count)]


def ternary(seed, count):
    return [w % 3 - 1 for w in words(seed, count)]


def binomial(seed, count):
    low = (1 << ETA) - 1
    return [(w & low).bit_count() - ((w >> ETA) & low).bit_count() for w in words(seed, count)]


def chain(lists):
    return list(itertools.chain.from_iterable(lists))


def pack(residues):
    return sum(r << (WIDTH * i) for i, r in enumerate(residues)).to_bytes(len(residues) * WIDTH // 8, "little")


def unpack(data, count):
    number = int.from_bytes(data, "little")
    return [(number >> (WIDTH * i)) % (1 << WIDTH) for i in range(count)]


def center(x, modulus):
    x %= modulus
    return x - modulus if x > modulus // 2 else x


@functools.cache
def points(p, n):
    """psi^(2i + 1) in natural order, psi the power of the smallest base with order 2n."""
    for base in range(2, p):
        psi = pow(base, (p - 1) // (2 * n), p)
        if pow(psi, n, p) == p - 1:
            return [pow(psi, 2 * i + 1, p) for i in range(n)]


def evaluate(poly, p):
    def at(x):
        total = 0
        for c in reversed(poly):
            total = (total * x + c) % p
        return total

    return [at(x) for x in points(p, len(poly))]


@functools.cache
def weights(p, n):
    """Coefficient m is the sum of the values, each by its point to the power of -m, over n."""
    inverses = [pow(x, -1, p) for x in points(p, n)]
    return [[pow(x, m, p) for x in inverses] for m in range(n)]


def interpolate(values, p):
    n = len(values)
    return [sum(map(operator.mul, values, row)) * pow(n, -1, p) % p for row in weights(p, n)]


def join(residues, primes):
    """One list of coefficients modulo the product of the primes."""
    q = math.prod(primes)
    return [
        sum(r * (q // p) * pow(q // p, -1, p) for r, p in zip(column, primes, strict=True)) % q
        for column in zip(*residues, strict=True)
    ]


def public_polynomials(ring, seed):
    out = []
    values = {p: [w % p for w in words(derive(seed, "a", p), ring.g * ring.n)] for p in ring.primes}
    for j in range(ring.g):
        out.append(join([interpolate(values[p][j * ring.n : (j + 1) * ring.n], p) for p in ring.primes], ring.primes))
    return out


def switch(poly, ring):
    for p in reversed(ring.primes[KEEP:]):
        poly = [(x + ring.t * center(-x * pow(ring.t, -1, p), p)) // p for x in poly]
    return [x % math.prod(ring.kept) for x in poly]


def add(*polys, modulus):
    return [sum(column) % modulus for column in zip(*polys, strict=True)]


def block_secret(ring, master, nonce, block):
    return ternary(derive(derive(master, f"segment {nonce.hex()}"), "block", block), ring.n)


def sentinels(ring, master, nonce, block):
    drawn = words(derive(derive(master, f"segment {nonce.hex()}"), "sentinels", block), ring.width)
    return set(sorted(range(ring.width), key=lambda r: drawn[r])[: ring.sentinels])


def encrypt_index(ring, seed, master, nonce, noise, codes):
    """Rows and hints, bytes each."""
    a, rows, hints = public_polynomials(ring, seed), [], []
    divisor, half = ring.q // math.prod(ring.kept), pow(2, -1, ring.t)
    for b in range(-(-len(codes) // ring.images)):
        zeros, symbols = sentinels(ring, master, nonce, b), {}
        places = [(r, lane) for r in range(ring.width) if r not in zeros for lane in range(ring.lanes)]
        for place, code in zip(places, codes[b * ring.images :], strict=False):
            symbols[place] = [1 - 2 * bit for bit in code] + [1] * (ring.padded - ring.k)
        s = block_secret(ring, master, nonce, b)
        e = binomial(derive(noise, "errors", b), ring.g * ring.n)
        row, hint = {p: [] for p in ring.primes}, [0] * ring.n
        for j in range(ring.g):
            m = [0] * ring.n
            for (r, lane), h in symbols.items():
                for i in range(ring.kappa):
                    m[ring.kappa * r + i] -= half * divisor * h[j * ring.kappa + i] * ring.base**lane
            mu = [center(x, ring.t) + ring.t * y for x, y in zip(m, e[j * ring.n :], strict=False)]
            c = add(ring.multiply(a[j], s, ring.q), mu, modulus=ring.q)
            for p in ring.primes:
                row[p] += evaluate(c, p)
            hint = add(hint, ring.multiply(a[j], mu, ring.q), modulus=ring.q)
        rows.append(pack(chain(row.values())))
        hint = switch(hint, ring)
        hints.append(pack(chain(evaluate(hint, p) for p in ring.kept)))
    return rows, hints


def encrypt_query(ring, seed, one_time, noise, code):
    a, u = public_polynomials(ring, seed), ternary(derive(one_time, "query"), ring.n)
    f = binomial(derive(noise, "errors"), ring.g * ring.n)
    signs = [1 - 2 * bit for bit in code] + [1] * (ring.padded - ring.k)
    body = {p: [] for p in ring.primes}
    for j in range(ring.g):
        d = [ring.t * y for y in f[j * ring.n : (j + 1) * ring.n]]
        for i in range(ring.kappa):
            if i == 0:
                d[0] += signs[j * ring.kappa]
            else:
                d[ring.n - i] -= signs[j * ring.kappa + i]
        d = add(ring.multiply(a[j], u, ring.q), d, modulus=ring.q)
        for p in ring.primes:
            body[p] += evaluate(d, p)
    return pack(chain(body.values()))


def polynomials(ring, packed):
    """The g polynomials modulo q of a row or a query."""
    size = ring.g * ring.n
    residues = unpack(packed, len(ring.primes) * size)
    return [
        join(
            [
                interpolate(residues[i * size + j * ring.n : i * size + (j + 1) * ring.n], p)
                for i, p in enumerate(ring.primes)
            ],
            ring.primes,
        )
        for j in range(ring.g)
    ]


def score(ring, seed, rows, query, draw):
    """Rows and the shared part, bytes each."""
    a, d, out = public_polynomials(ring, seed), polynomials(ring, query), []
    sizes, left = [CHUNKS[0]] * (len(rows) // CHUNKS[0]), len(rows) % CHUNKS[0]
    sizes += {0: [], 1: [1], 2: [4], 3: [4], 4: [4], 5: [4, 1], 6: [4, 4], 7: [4, 4], 8: [4, 4]}.get(left, [16])
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    low = ring.flood // 2
    high = ring.flood - low
    for start, size in zip(starts, sizes, strict=True):
        drawn = words(draw(32), size * 4 * ring.width)
        for b, row in enumerate(rows[start : start + size]):
            c = polynomials(ring, row)
            product = add(*(ring.multiply(x, y, ring.q) for x, y in zip(c, d, strict=True)), modulus=ring.q)
            useful = product[:: ring.kappa]
            for r in range(ring.width):
                w = [drawn[(4 * b + i) * ring.width + r] for i in range(4)]
                uniform = [((w[i] >> (64 - high)) << low) + (w[i + 1] >> (64 - low)) for i in (0, 2)]
                useful[r] = (useful[r] + ring.t * (sum(uniform) - (1 << ring.flood))) % ring.q
            useful = switch(useful, ring)
            out.append(pack([x % p for p in ring.kept for x in useful]))
    shared = switch(add(*(ring.multiply(x, y, ring.q) for x, y in zip(a, d, strict=True)), modulus=ring.q), ring)
    return out, pack([x % p for p in ring.kept for x in shared])


def open_distances(ring, master, nonce, count, hints, rows, shared, one_time):
    """Distances, and the largest |phase|."""
    modulus, u, distances, largest = math.prod(ring.kept), ternary(derive(one_time, "query"), ring.n), [], 0

    def read(packed, size):
        residues = unpack(packed, KEEP * size)
        return [residues[i * size : (i + 1) * size] for i in range(KEEP)]

    q = join(read(shared, ring.n), ring.kept)
    for b, row in enumerate(rows):
        s, zeros = block_secret(ring, master, nonce, b), sentinels(ring, master, nonce, b)
        values = read(hints[b], ring.n)
        hint = join([interpolate(x, p) for x, p in zip(values, ring.kept, strict=True)], ring.kept)
        share = add(ring.multiply(q, s, modulus), ring.multiply(hint, u, modulus), modulus=modulus)[:: ring.kappa]
        for r, (x, y) in enumerate(zip(join(read(row, ring.width), ring.kept), share, strict=True)):
            phase = center(x - y, modulus)
            largest = max(largest, abs(phase))
            total = (phase + ring.padded // 2 * sum(ring.base**lane for lane in range(ring.lanes))) % ring.t
            digits = [total // ring.base**lane % ring.base for lane in range(ring.lanes)]
            if r in zeros:
                assert digits == [ring.padded // 2] * ring.lanes
            else:
                distances += digits
    assert set(distances[count:]) <= {ring.padded // 2}
    return distances[:count], largest
