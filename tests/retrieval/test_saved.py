"""A JPEG that was saved anew with more quality is told; one that was saved once, or was changed between, is not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from retrieval.images import decode, encode_jpeg, jpeg_steps
from retrieval.saved import saved_before
from tests.retrieval.test_grain import photograph


def resaved(pixels: np.ndarray, quality: int) -> bool:
    data = encode_jpeg(np.ascontiguousarray(pixels), quality=quality)
    return saved_before(decode(data).pixels, jpeg_steps(data))


def coarse(seed: int) -> np.ndarray:
    """(266, 357, 3), neither side in whole blocks."""
    return decode(encode_jpeg(photograph(seed)[:266, :357], quality=70)).pixels


@pytest.mark.parametrize("seed", range(3))
def test_a_coarser_jpeg_is_seen_in_what_is_saved_anew(seed: int) -> None:
    one = coarse(seed)
    for made in (one, one[:, ::-1], one[::-1], np.rot90(one), np.rot90(one, 2), np.rot90(one, 3)):
        assert resaved(made, 95)
    assert saved_before(one, None)  # as a PNG


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("quality", [50, 75, 85, 95])
def test_what_was_saved_once_was_not_saved_before(seed: int, quality: int) -> None:
    fresh = np.asarray(cv2.resize(photograph(seed), None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA))
    assert not resaved(fresh, quality)
    assert not saved_before(fresh, None)


def test_saved_anew_with_less_quality_it_is_no_better_for_that() -> None:
    assert not resaved(coarse(0), 60)


@pytest.mark.parametrize("size", [(1, 1), (31, 400), (40, 40)])
def test_small_and_even_pictures_were_not_saved_before(size: tuple[int, int]) -> None:
    assert not resaved(np.full((*size, 3), 90, np.uint8), 95)


def test_only_a_jpeg_has_steps() -> None:
    steps = jpeg_steps(encode_jpeg(photograph(0), quality=50))
    assert steps is not None
    assert (steps[0, 1], steps[1, 0], steps[0, 3]) == (11, 12, 16)
    png = cv2.imencode(".png", photograph(0))[1].tobytes()
    assert jpeg_steps(png) is None
