import numpy as np
import pytest
from hypothesis import given, strategies as st

from jcbir.cli.demo.picture import FRAME, RIGHT, TILE, WRONG, Answer, contact_sheet, noise_tile


@given(st.binary(min_size=48, max_size=400))
def test_noise_tile_shows_the_leading_bytes(content):
    tile = noise_tile(content)
    assert tile.shape[0] == tile.shape[1]
    assert tile.tobytes() == content[: tile.size]
    assert 3 * (tile.shape[0] + 1) ** 2 > len(content)


@given(st.binary(min_size=1, max_size=47))
def test_few_bytes_show_their_bits(content):
    tile = noise_tile(content)
    shown = (tile[..., 0] == 255).ravel()
    assert np.array_equal(shown, np.unpackbits(np.frombuffer(content, np.uint8))[: tile[..., 0].size])
    assert (tile.shape[0] + 1) ** 2 > 8 * len(content)


def test_noise_tile_refuses_nothing():
    with pytest.raises(ValueError, match="at least one byte"):
        noise_tile(b"")


@pytest.mark.parametrize("shape", [(32, 32, 3), (1, 1, 1), (200, 50, 3), (10, 300, 4)])
def test_frames_say_right_and_wrong_for_any_photograph(shape):
    photo = np.full(shape, 200, np.uint8)
    answer = Answer(photo, bytes(64), [bytes(300)] * 2, [photo] * 2, np.array([True, False]))
    sheet = np.asarray(contact_sheet([answer, answer], title="t", caption="c"))
    # A frame is a run of its color as long as a tile; text is not.
    for color in (RIGHT, WRONG):
        rows = (sheet == np.array(color, np.uint8)).all(-1).sum(1)
        assert (rows >= TILE + 2 * FRAME).sum() == 2 * 2 * FRAME


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="at least one answer"):
        contact_sheet([], title="t", caption="c")
