"""The picture of a private search: what the user asked, what the server saw of it, what came back."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw, ImageFont

TILE = 92
GAP = 10
FRAME = 4
SHOWN = 3 * (TILE // 2) ** 2
"""Bytes of a sealed photograph that are shown, two pixels a side for three of them."""

RIGHT, WRONG, INK, PAPER = (34, 139, 84), (200, 50, 47), (40, 40, 44), (255, 255, 255)


class Answer(NamedTuple):
    """One query and its answer.

    Attributes:
        query: the user's photograph.
        trapdoor: the bytes that the server got for it.
        sealed: the results as the server holds them, best first.
        opened: the same as the user opened them.
        right: which are of the query's class.
    """

    query: UInt8[np.ndarray, "h w c"]
    trapdoor: bytes
    sealed: Sequence[bytes]
    opened: Sequence[UInt8[np.ndarray, "_ _ _"]]
    right: Bool[np.ndarray, "r"]


def noise_tile(content: bytes) -> UInt8[np.ndarray, "s s 3"]:
    """Show bytes as pixels: the largest square that they fill, three bytes a pixel; of fewer than 48 a bit a pixel."""
    if not content:
        raise ValueError("content: must hold at least one byte, got none")
    if len(content) >= 48:
        side = int((len(content) // 3) ** 0.5)
        return np.frombuffer(content[: 3 * side * side], np.uint8).reshape(side, side, 3)
    side = int((8 * len(content)) ** 0.5)
    bits = np.unpackbits(np.frombuffer(content, np.uint8))[: side * side].reshape(side, side, 1)
    return np.repeat(255 * bits, 3, axis=2)


def _tile(picture: np.ndarray) -> Image.Image:
    image = Image.fromarray(np.asarray(picture[..., 0] if picture.shape[-1] == 1 else picture)).convert("RGB")
    scale = TILE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS)
    tile = Image.new("RGB", (TILE, TILE), (236, 236, 238))
    tile.paste(image, ((TILE - image.width) // 2, (TILE - image.height) // 2))
    return tile


def _framed(picture: np.ndarray, color: tuple[int, int, int]) -> Image.Image:
    framed = Image.new("RGB", (TILE + 2 * FRAME, TILE + 2 * FRAME), color)
    framed.paste(_tile(picture), (FRAME, FRAME))
    return framed


def contact_sheet(answers: Sequence[Answer], *, title: str, caption: str) -> Image.Image:
    """Draw each query with the server's view of it, its sealed results and the opened ones, framed green if right."""
    if not answers:
        raise ValueError("answers: must hold at least one answer, got 0")
    bold, font, small = (ImageFont.load_default(size) for size in (20, 14, 13))
    results = max(len(a.opened) for a in answers)
    column, row_height, top = TILE + 2 * FRAME + GAP, 2 * TILE + 4 * FRAME + 3 * GAP, 92
    left = 2 * column + 3 * GAP
    width, height = max(left + results * column, 760) + GAP, top + len(answers) * row_height + 40
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, 10), title, fill=INK, font=bold)
    heads = [(GAP, "the user's\nphotograph"), (GAP + column, "what the server\ngets of it")]
    for x, text in [*heads, (left, "above: what the server holds of the results (sealed)\nbelow: what the user opens")]:
        pen.multiline_text((x, 46), text, fill=INK, font=font, spacing=3)
    for i, answer in enumerate(answers):
        y = top + i * row_height
        middle = y + (row_height - TILE) // 2 - FRAME
        sheet.paste(_framed(answer.query, INK), (GAP, middle))
        sheet.paste(_framed(noise_tile(answer.trapdoor), (150, 150, 155)), (GAP + column, middle))
        for j, (sealed, opened, right) in enumerate(zip(answer.sealed, answer.opened, answer.right, strict=True)):
            x = left + j * column
            sheet.paste(_framed(noise_tile(sealed[:SHOWN]), (150, 150, 155)), (x, y))
            sheet.paste(_framed(opened, RIGHT if right else WRONG), (x, y + TILE + 2 * FRAME + GAP))
        pen.line((GAP, y + row_height - GAP, width - GAP, y + row_height - GAP), fill=(220, 220, 222))
    pen.text((GAP, height - 30), caption, fill=INK, font=small)
    return sheet
