"""What public code computes as its loss, restated in NumPy from its formulas: one number for a batch, in float64.

u are the outputs of the hash head, y one-hot or multi-hot rows, U and Y those that a memory bank holds of all training
images, the batch included. Names as in the code that each docstring says.
"""

from collections.abc import Callable

import numpy as np

Matrix = np.ndarray


def log1pexp(x: Matrix) -> Matrix:
    """log(1 + e^x) without overflow."""
    return np.logaddexp(0.0, x)


def likelihood(products: Matrix, similar: Matrix) -> Matrix:
    """-log P(s | t) for P(1 | t) = sigmoid(t)."""
    return log1pexp(products) - similar * products


def share(y: Matrix, others: Matrix) -> Matrix:
    """1.0 for rows with a label in common."""
    return (y @ others.T > 0).astype(np.float64)


def csq(u: Matrix, centers: Matrix, *, weight: float) -> float:
    """DeepHash-pytorch CSQ.py (weight 0.0001) and the two terms of the official train.py (0.05); centers -1 and +1."""
    z = np.tanh(u)
    p, t = (z + 1) / 2, (centers + 1) / 2
    return float(-(t * np.log(p) + (1 - t) * np.log(1 - p)).mean() + weight * ((np.abs(z) - 1) ** 2).mean())


def csq_official(u: Matrix, centers: Matrix, y: Matrix) -> float:
    """train.py and my_pairwise_loss.py of the official code: lambda0 1, lambda1 0.2, lambda2 0.05, sigmoid 10 / K."""
    half, z = len(u) // 2, np.tanh(u)
    products = 10.0 / u.shape[1] * z[:half] @ z[half : 2 * half].T
    return csq(u, centers, weight=0.05) + 0.2 * float(likelihood(products, share(y[:half], y[half : 2 * half])).mean())


def dpsh(u: Matrix, y: Matrix, U: Matrix, Y: Matrix) -> float:
    """DeepHash-pytorch DPSH.py, alpha 0.1."""
    pairs = likelihood(0.5 * u @ U.T, share(y, Y)).mean()
    return float(pairs + 0.1 * ((u - np.sign(u)) ** 2).mean())


def dhn(u: Matrix, y: Matrix, U: Matrix, Y: Matrix) -> float:
    """DeepHash-pytorch DHN.py, alpha 0.1."""
    return float(likelihood(0.5 * u @ U.T, share(y, Y)).mean() + 0.1 * np.log(np.cosh(np.abs(u) - 1)).mean())


def dhn_tensorflow(u: Matrix, y: Matrix, *, weight: float = 0.1) -> float:
    """thulab/DeepHash dhn.py on z = tanh(u): only similar pairs are weighted, quantization squared."""
    z, s = np.tanh(u), share(y, y)
    products = 0.5 * np.clip(z @ z.T, -15, 15)
    balance = np.where(s > 0, s.size / s.sum(), 1.0)
    return float((balance * likelihood(products, s)).mean() + weight * ((np.abs(z) - 1) ** 2).mean())


def hashnet(u: Matrix, y: Matrix, *, alpha: float = 0.1, class_num: float | None = None) -> float:
    """DeepHash-pytorch HashNet.py (alpha 0.1), and with class_num `pairwise_loss` of thuml/HashNet (alpha 10 / K)."""
    z, s = np.tanh(u), share(y, y)
    losses = likelihood(alpha * z @ z.T, s)
    if class_num is None:
        return float((losses * np.where(s > 0, s.size / s.sum(), s.size / (1 - s).sum())).sum() / s.size)
    weights = np.where(s > 0, class_num, 1.0)
    return float((weights * losses).sum() / weights.sum())


def dch(u: Matrix, y: Matrix) -> float:
    """DeepHash-pytorch DCH.py, gamma 20, lambda 0.1, cosines capped at 0.99."""
    bits, s = u.shape[1], share(y, y)

    def distance(a: Matrix, b: Matrix) -> Matrix:
        norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)[None]
        return (1 - np.minimum(a @ b.T / np.maximum(norms, 1e-4), 0.99)) * bits / 2

    d = distance(u, u)
    w = s * s.size / s.sum() + (1 - s) * s.size / (1 - s).sum()
    to_ones = np.log(1 + distance(np.abs(u), np.ones_like(u)) / 20)
    return float((w * (s * np.log(d / 20) + np.log(1 + 20 / d))).mean() + 0.1 * to_ones.mean())


def dch_tensorflow(u: Matrix, y: Matrix, *, weight: float = 0.1) -> float:
    """thulab/DeepHash dch.py on z = tanh(u), gamma 20: squared distances, no self-pairs, similar pairs weighted."""
    z, s = np.tanh(u), share(y, y)
    d = ((z[:, None] - z[None]) ** 2).sum(-1) + 0.001
    cauchy = 20 / (d + 20)
    balance = np.where(s > 0, s.size / s.sum(), 1.0)
    values = balance * (-s * np.log(cauchy) - (1 - s) * np.log(1 - cauchy))
    return float(values[~np.eye(len(u), dtype=bool)].mean() + weight * ((np.abs(z) - 1) ** 2).mean())


def dsh(u: Matrix, y: Matrix, U: Matrix, Y: Matrix) -> float:
    """DeepHash-pytorch DSH.py, m 2K, alpha 0.1 on a mean over the bits."""
    d = ((u[:, None] - U[None]) ** 2).sum(-1)
    far = 1 - share(y, Y)
    pairs = (1 - far) / 2 * d + far / 2 * np.maximum(2 * u.shape[1] - d, 0)
    return float(pairs.mean() + 0.1 * np.abs(1 - np.abs(u)).mean())


def dtsh(u: Matrix, y: Matrix) -> float:
    """DeepHash-pytorch DTSH.py, alpha 5, lambda 1: a mean over the anchors that have partners of both kinds."""
    products, s, found = u @ u.T, share(y, y) > 0, []
    for row, near in zip(products, s, strict=True):
        if near.any() and not near.all():
            t = np.clip(row[near][:, None] - row[~near][None] - 5, -100, 50)
            found.append((log1pexp(t) - t).mean())
    return float(np.mean(found) + ((u - np.sign(u)) ** 2).mean())


def dbdh(u: Matrix, y: Matrix, U: Matrix, Y: Matrix) -> float:
    """DeepHash-pytorch DBDH.py, alpha 0.1, p 2; the bank holds clipped outputs."""
    v = np.clip(u, -1, 1)
    pairs = likelihood(0.5 * v @ np.clip(U, -1, 1).T, share(y, Y)).mean()
    return float(pairs + 0.1 * (v.mean(1) ** 2).mean())


def idhn(u: Matrix, y: Matrix, U: Matrix, Y: Matrix) -> float:
    """DeepHash-pytorch IDHN.py, alpha 0.5, gamma 0.1, lambda 0.1; the bank holds u / (1 + |u|)."""
    v, V = (x / (np.abs(x) + 1) for x in (u, U))
    s = y @ Y.T / (np.sqrt((y**2).sum(1))[:, None] * np.sqrt((Y**2).sum(1))[None] + 1e-5)
    hard = (s > 0.99).astype(float) + (s < 0.01)
    products, bits = 0.5 * v @ V.T, u.shape[1]
    soft = (products + bits - 2 * s * bits) ** 2
    pairs = (hard * likelihood(products, s) + 0.1 * (1 - hard) * soft).mean()
    return float(pairs + 0.1 * np.abs(np.abs(v) - 1).mean())


def dfh(u: Matrix, y: Matrix, codes: Matrix, U: Matrix, Y: Matrix) -> float:
    """DeepHash-pytorch DFH.py, m 3, eta 0.5; codes -1 and +1."""
    s, products = share(y, Y), np.clip(0.5 * u @ U.T, -100, 50)
    pairs = ((1 - s) * log1pexp(3 + products) + s * log1pexp(3 - products)).mean()
    return float(pairs + 0.5 * ((codes - u) ** 2).mean())


def dfh_centers(V: Matrix, y: Matrix, codes: Matrix) -> Matrix:
    """`Center_gradient` of DeepHash-pytorch DFH.py, V [c, k]: 200 steps of 0.03, a tenth from 149 and from 179."""
    bits, alpha = codes.shape[1], 0.03
    apart = bits * (2 * np.eye(len(V)) - 1)
    for i in range(200):
        within = 2 * y.T @ (y @ V - codes) / codes.size
        between = 4 * (V @ V.T - apart) @ V / apart.size
        quantization = 2 * (V - np.sign(V)) / V.size
        alpha *= 0.1 if i in (149, 179) else 1
        V = V - alpha * (within + between + quantization)
    return V


def asymmetric(y: Matrix, Y: Matrix) -> Matrix:
    """`calc_sim` of DeepHash-pytorch ADSH.py: 1 for a similar pair, -r for another."""
    s = share(y, Y)
    r = s.sum() / (1 - s).sum()
    return s * (1 + r) - r


def adsh(u: Matrix, y: Matrix, V: Matrix, Y: Matrix, rows: Matrix) -> float:
    """DeepHash-pytorch ADSH.py, gamma 200; its number of training images taken as that of the database."""
    z = np.tanh(u)
    squares = ((z @ V.T - u.shape[1] * asymmetric(y, Y)) ** 2).sum()
    return float((squares + 200 * ((V[rows] - z) ** 2).sum()) / (len(V) * len(u)))


def adsh_codes(V: Matrix, Z: Matrix, y: Matrix, Y: Matrix, rows: Matrix) -> Matrix:
    """The discrete step of DeepHash-pytorch ADSH.py, bit after bit."""
    V, bits = V.copy(), V.shape[1]
    whole = np.zeros_like(V)
    whole[rows] = Z
    Q = -2 * bits * asymmetric(y, Y).T @ Z - 400 * whole
    for k in range(bits):
        rest = [i for i in range(bits) if i != k]
        V[:, k] = -np.sign(2 * V[:, rest] @ (Z[:, rest].T @ Z[:, k]) + Q[:, k])
    return V


def greedyhash(u: Matrix, y: Matrix, W: Matrix) -> tuple[float, Matrix]:
    """DeepHash-pytorch GreedyHash.py, alpha 0.1: the loss, and its gradient straight through the sign."""
    scores = np.sign(u) @ W
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    away = np.abs(u) - 1
    loss = -np.log((p * y).sum(1)).mean() + 0.1 * np.abs(away**3).mean()
    return float(loss), (p - y) @ W.T / len(u) + 0.1 * 3 * away**2 * np.sign(away) * np.sign(u) / u.size


def bihalf(u: Matrix, x: Matrix) -> tuple[float, Matrix]:
    """DeepHash-pytorch Unsupervised_BiHalf.py, gamma 6: the loss, and its gradient with the pull to the codes."""
    half = len(u) // 2
    codes = -np.ones_like(u)
    for k, column in enumerate(u.T):
        codes[np.argsort(-column)[:half], k] = 1

    def cosine(a: Matrix) -> Matrix:
        p, q = a[:half], a[half : 2 * half]
        return (p * q).sum(1) / np.linalg.norm(p, axis=1) / np.linalg.norm(q, axis=1)

    def loss(b: Matrix) -> float:
        return float(((cosine(b) - cosine(x)) ** 2).mean())

    return loss(codes), slope(loss, codes) + 6 * (u - codes) / codes.size


def cnnh(u: Matrix, codes: Matrix) -> float:
    """DeepHash-pytorch CNNH.py, second stage; codes -1 and +1."""
    return float(((u - codes) ** 2).mean())


def orthohash(u: Matrix, y: Matrix, centers: Matrix) -> float:
    """kamwoh/orthohash, s 8, m 0.2, several labels sharing the target; centers -1 and +1."""
    cosines = u @ centers.T / np.linalg.norm(u, axis=1)[:, None] / np.sqrt(u.shape[1])
    scores = 8 * (cosines - 0.2 * y)
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    return float(-(y / y.sum(1, keepdims=True) * logs).sum(1).mean())


def slope(loss: Callable[[Matrix], float], at: Matrix, *, step: float = 1e-6) -> Matrix:
    """Gradient by central differences."""
    found = np.zeros_like(at)
    for index in np.ndindex(*at.shape):
        moved = np.zeros_like(at)
        moved[index] = step
        found[index] = (loss(at + moved) - loss(at - moved)) / (2 * step)
    return found
