"""The cipher a second time: Python integers, lists and loops, from the text of docs/cipher.md; nothing of jcbir.

Slow (about 20,000 samples a second), and the judge of every golden vector.
"""

import hashlib
import hmac

M32, M64 = (1 << 32) - 1, (1 << 64) - 1
FINE = (4209921246, 8504605, 4286385946, 8581350, 4272121779, 8567069, 4286385946, -8581350)
COARSE = (3344957440, 95000986, 4188924176, 106043120, 4017971953, 103873254, 4188924176, -106043120)
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93, 0xFF51AFD7ED558CCD)
# stage code, number of streams
PAPER = ((1, 2), (2, 4), (3, 2), (4, 4))
REFERENCE50 = ((4, 4), (2, 4), (3, 2))


def hkdf(key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    pseudo = hmac.new(salt or bytes(32), key, hashlib.sha256).digest()
    out, block, i = b"", b"", 1
    while len(out) < length:
        block = hmac.new(pseudo, block + info + bytes([i]), hashlib.sha256).digest()
        out, i = out + block, i + 1
    return out[:length]


def signed(value: int) -> int:
    value &= M32
    return value - (1 << 32) if value >> 31 else value


def start(seed: bytes) -> list[int]:
    u = [int.from_bytes(seed[4 * i : 4 * i + 4], "little") for i in range(4)]
    return [(u[0] >> 5) - (1 << 26), (u[1] >> 5) - (1 << 26), (u[2] >> 5) + (1 << 25), (u[3] >> 3) - (1 << 28)]


def step(state: list[int], number: int, k: tuple[int, ...]) -> list[int]:
    x, y, z, w = state
    offset = number * 0x9E3779B9 & M32
    x = signed((k[0] * x + k[1] * (10 * y + w) + offset) >> 32)
    y = signed((k[2] * y + k[3] * ((x * ((28 << 22) - z)) >> 22)) >> 32)
    z = signed((k[4] * z + k[5] * ((x * y) >> 22)) >> 32)
    w = signed((k[6] * w + k[7] * ((y * z) >> 22)) >> 32)
    return [x, y, z, w]


def mix(state: list[int], number: int) -> tuple[int, int]:
    x, y, z, w = state
    m0, m1, m2, m3 = MULTIPLIERS
    first = a = ((x << 32) + y) & M64
    second = b = ((z << 32) + w) & M64
    a = (a + number * 0x9E3779B97F4A7C15) * m0 & M64
    b = (b + (a ^ (a >> 32))) * m1 & M64
    a = (a + (b ^ (b >> 32))) * m2 & M64
    b = (b + (a ^ (a >> 32))) * m3 & M64
    a = (a + (b ^ (b >> 32))) & M64
    b ^= a >> 32
    return (a + first) & M64, (b + second) & M64


def stream(seeds: list[bytes], length: int) -> bytes:
    lanes = [start(seed) for seed in seeds]
    for number in range(64):
        lanes = [step(lane, number, COARSE) for lane in lanes]
    out, number = b"", 64
    while len(out) < length:
        lanes = [step(lane, number, FINE) for lane in lanes]
        words = [mix(lane, number) for lane in lanes]
        for half in (0, 1):
            out += b"".join(word[half].to_bytes(8, "little") for word in words)
        number += 1
    return out[:length]


def streams(secret: bytes, code: int, channel: int, count: int, length: int) -> list[bytes]:
    lanes = -(-length // 4096)
    message = b"jcbir cipher lanes" + secret + bytes([code]) + channel.to_bytes(2, "big")
    digest = hashlib.shake_256(message).digest(count * lanes * 16)
    seeds = [digest[i : i + 16] for i in range(0, len(digest), 16)]
    return [stream(seeds[i * lanes : (i + 1) * lanes], length) for i in range(count)]


def add(values: list[int], key: list[int]) -> list[int]:
    out, last = [], 0
    for value, k in zip(values, key, strict=True):
        last = (value + last + k) % 256
        out.append(last)
    return out


def multiply(values: list[int], key: list[int]) -> list[int]:
    out, last = [], 1
    for value, k in zip(values, key, strict=True):
        last = (value + 1) * last * pow(3, k, 257) % 257
        out.append(last - 1)
    return out


def both_ways(one_way, values: list[int], forward: list[int], backward: list[int]) -> list[int]:
    return one_way(one_way(values, forward)[::-1], backward[::-1])[::-1]


def encrypt_plane(plane: list[list[int]], secret: bytes, channel: int, order) -> list[list[int]]:
    height, width = len(plane), len(plane[0])
    n = height * width
    down = [r * width + c for c in range(width) for r in range(height)]  # column by column
    raster = [v for row in plane for v in row]
    for code, count in order:
        keys = streams(secret, code, channel, count, n)
        if code == 2:
            sort_key = [sum(keys[q][i] << (8 * q) for q in range(count)) for i in range(n)]
            raster = [raster[i] for i in sorted(range(n), key=lambda i: sort_key[i])]
            continue
        values = [raster[i] for i in down]
        columns = [[key[i] for i in down] for key in keys]
        for i in range(0, count, 2):
            values = both_ways(multiply if code == 3 else add, values, columns[i], columns[i + 1])
        for place, value in zip(down, values, strict=True):
            raster[place] = value
    return [raster[r * width : (r + 1) * width] for r in range(height)]


def encrypt(image: list, key: bytes, nonce: bytes, name: str = "paper") -> bytes:
    """Nested lists h x w x c to the row-major bytes of the cipher image."""
    height, width, channels = len(image), len(image[0]), len(image[0][0])
    extents = b"".join(extent.to_bytes(4, "big") for extent in (height, width, channels))
    secret = hkdf(key, nonce, b"jcbir cipher stream key" + bytes([1, len(name)]) + name.encode() + extents, 32)
    order = {"paper": PAPER, "reference50": REFERENCE50}[name]
    planes = [encrypt_plane([[pixel[c] for pixel in row] for row in image], secret, c, order) for c in range(channels)]
    return bytes(planes[c][r][i] for r in range(height) for i in range(width) for c in range(channels))
