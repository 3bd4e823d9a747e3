"""Cells that a spreadsheet would run come back as they were written."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.spreadsheets import as_cell, as_text

LIVE = "=+-@\t\r"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-k.jpg", "@name", "\tx", "\rx", "'=1", "''-1", "=cmd|' /C calc'!A0"])
def test_what_would_be_run_is_text(text: str) -> None:
    assert as_cell(text) == f"'{text}"
    assert as_text(as_cell(text)) == text


@pytest.mark.parametrize("text", ["", "photo.jpg", "'quoted'", "it's", "'", "a=b", "साड़ी.jpg", " =1"])
def test_everything_else_stays_as_it_is(text: str) -> None:
    assert as_cell(text) == text == as_text(text)


@pytest.mark.parametrize("text", ["=1+1", "-k.jpg", "photo.jpg", "@a"])
def test_a_spreadsheet_may_have_saved_it_without_the_quote(text: str) -> None:
    assert as_text(as_cell(text).removeprefix("'")) == text


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])) | st.text("='+-@\t\r \n\",;a"))
def test_any_text_comes_back_and_none_begins_a_formula(text: str) -> None:
    cell = as_cell(text)
    assert as_text(cell) == text
    assert not cell.startswith(tuple(LIVE))
    file = io.StringIO()
    csv.writer(file, lineterminator="\r\n").writerow([cell, "beside"])
    assert next(csv.reader(io.StringIO(file.getvalue(), newline=""))) == [cell, "beside"]
