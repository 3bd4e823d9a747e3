"""Profiles by clocks that the tests set: sums, bins, threads, words and pictures."""

from __future__ import annotations

import re
import threading
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.profile import BIN, MAX_BINS, NO_PROFILE, PROFILE_SCHEMA, STAGES, Profile, _Bins
from indexer.profile_picture import _duration, draw_profile, write_profile

SVG = "{http://www.w3.org/2000/svg}"


class Clock:
    """Seconds that pass when told so, for each thread apart."""

    def __init__(self):
        self._local = threading.local()

    def __call__(self):
        return getattr(self._local, "now", 1000.0)

    def go(self, seconds):
        self._local.now = self() + seconds


class Run:
    """A profile and its clocks."""

    def __init__(self):
        self.clock, self.cpu = Clock(), Clock()
        self.profile = Profile(clock=self.clock, cpu_clock=self.cpu)

    def busy(self, name, seconds, *, images=1, cpu=0.0):
        with self.profile.stage(name, images=images):
            self.clock.go(seconds)
            self.cpu.go(cpu)

    def wait(self, name, seconds):
        with self.profile.waiting(name):
            self.clock.go(seconds)

    def rows(self):
        return {row["stage"]: row for row in self.profile.table().to_pylist()}

    def lanes(self):
        """Name → the blocks of its lane in the text."""
        return {name.strip(): lane for name, lane in re.findall(r"^(.+?) *│(.*)│$", self.profile.text(), re.M)}


@pytest.fixture
def run():
    return Run()


def in_thread(work, *arguments):
    thread = threading.Thread(target=work, args=arguments)
    thread.start()
    thread.join()


def test_sums_of_one_thread(run):
    run.busy("decode", 2, images=10, cpu=1.5)
    run.wait("decode", 5)
    run.busy("decode", 1, images=5, cpu=0.5)
    table = run.profile.table()
    assert table.schema == PROFILE_SCHEMA
    assert table.to_pylist() == [
        {
            "stage": "decode",
            "images": 15,
            "busy_s": pytest.approx(3),
            "cpu_s": pytest.approx(2),
            "waiting_s": pytest.approx(5),
            "images_per_s": pytest.approx(5),
            "threads": 1,
            "share": pytest.approx(3 / 8),
        }
    ]


def test_stages_stand_in_the_order_of_the_road_and_others_behind_as_they_came(run):
    for name in ("zoom", *reversed(STAGES), "align"):
        run.busy(name, 1)
    assert run.profile.table().column("stage").to_pylist() == [*STAGES, "zoom", "align"]


def test_threads_add_up(run):
    def work(before, seconds):
        run.clock.go(before)
        run.busy("decode", seconds, images=3, cpu=seconds / 2)
        barrier.wait()  # neither ends before the other has begun

    barrier = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, (0, 2), (8, 8)))
    row = run.rows()["decode"]
    assert (row["threads"], row["images"]) == (2, 6)
    assert row["busy_s"] == pytest.approx(16)
    assert row["cpu_s"] == pytest.approx(8)
    assert row["share"] == pytest.approx(0.8)  # of two threads in ten seconds
    lane = run.lanes()["decode"]
    assert lane == "▄" * 12 + "█" * 36 + "▄" * 12


def test_threads_that_follow_each_other_count_as_one_and_take_no_more_memory(run):
    for turn in range(20):
        in_thread(lambda turn=turn: (run.clock.go(turn), run.busy("embed", 1)))
    row = run.rows()["embed"]
    assert (row["threads"], row["images"]) == (1, 20)
    assert row["share"] == pytest.approx(1)
    assert len(run.profile._records) == 1


def test_who_only_waits_is_no_thread_of_the_stage(run):
    in_thread(run.busy, "embed", 2)
    in_thread(run.wait, "embed", 2)
    assert run.rows()["embed"]["threads"] == 1
    run.wait("write", 4)
    row = run.rows()["write"]
    assert (row["threads"], row["share"], row["images_per_s"]) == (0, 0, None)
    ET.fromstring(run.profile.picture())


def test_a_block_within_another_stops_its_clock(run):
    with run.profile.stage("write", images=7):
        run.clock.go(1)
        run.cpu.go(1)
        run.wait("write", 10)
        with run.profile.stage("commit"):
            run.clock.go(3)
            run.cpu.go(2)
        run.clock.go(2)
        run.cpu.go(2)
    rows = run.rows()
    assert rows["write"]["busy_s"] == pytest.approx(3)
    assert rows["write"]["cpu_s"] == pytest.approx(3)
    assert rows["write"]["waiting_s"] == pytest.approx(10)
    assert (rows["write"]["images"], rows["commit"]["images"]) == (7, 1)
    assert rows["commit"]["busy_s"] == pytest.approx(3)
    assert sum(row["share"] for row in rows.values()) == pytest.approx(6 / 16)


def test_blocks_that_are_left_in_another_order_lose_nothing(run):
    outer, inner = run.profile.stage("read", images=2), run.profile.stage("decode", images=3)
    outer.__enter__()
    run.clock.go(1)
    inner.__enter__()
    run.clock.go(2)
    outer.__exit__(None, None, None)
    run.clock.go(4)
    inner.__exit__(None, None, None)
    rows = run.rows()
    assert (rows["read"]["busy_s"], rows["read"]["images"]) == (pytest.approx(1), 2)
    assert (rows["decode"]["busy_s"], rows["decode"]["images"]) == (pytest.approx(6), 3)
    run.busy("write", 1)
    assert run.rows()["decode"]["busy_s"] == pytest.approx(6)


def test_a_block_whose_thread_has_ended_can_be_left(run):
    """A generator that nobody finished is closed by whoever collects it."""
    block = run.profile.stage("read")
    in_thread(block.__enter__)
    run.busy("decode", 1)  # takes over the record of the thread that ended
    block.__exit__(None, None, None)
    run.busy("decode", 1)
    assert run.rows()["decode"]["busy_s"] == pytest.approx(2)


def test_a_block_that_fails_counts(run):
    with pytest.raises(ValueError, match="bad"), run.profile.stage("decode"):
        run.clock.go(1)
        raise ValueError("bad")
    assert run.rows()["decode"]["busy_s"] == pytest.approx(1)
    assert run.rows()["decode"]["images"] == 1


def test_a_long_block_spreads_over_the_bins_it_spans():
    bins = _Bins()
    bins.add(0.02, 0.18)
    np.testing.assert_allclose(bins.seconds, [0.03, 0.05, 0.05, 0.03])
    bins.add(0.06, 0.07)
    np.testing.assert_allclose(bins.seconds, [0.03, 0.06, 0.05, 0.03])


@given(
    st.lists(st.tuples(st.floats(0, 100), st.one_of(st.floats(0, 0.2), st.floats(0, 5000))), min_size=1, max_size=40),
    st.integers(1, 300),
)
def test_merged_bins_keep_every_second(blocks, columns):
    bins, exact, now = _Bins(), [], 0.0
    for pause, length in blocks:
        now += pause
        bins.add(now, now + length)
        exact.append((now, now + length))
        now += length
    assert len(bins.seconds) <= MAX_BINS
    total = sum(end - begin for begin, end in exact)
    assert sum(bins.seconds) == pytest.approx(total, abs=1e-6)
    assert bins.width / BIN == 2 ** round(np.log2(bins.width / BIN))
    # Each bin has what the blocks have in its time.
    for place, seconds in enumerate(bins.seconds):
        begin, end = place * bins.width, (place + 1) * bins.width
        within = sum(max(0.0, min(end, e) - max(begin, b)) for b, e in exact)
        assert seconds == pytest.approx(within, abs=1e-6)
    assert bins.columns(now, columns).sum() == pytest.approx(total if now > 0 else 0, abs=1e-6)


def test_a_run_of_a_month_takes_no_more_bins_and_loses_nothing(run):
    for _ in range(3000):
        run.busy("embed", 800)
        run.wait("embed", 64)
    (lane,) = run.profile._records[0].lanes.values()
    assert len(lane.work.seconds) <= MAX_BINS
    assert len(lane.waits.seconds) <= MAX_BINS
    assert sum(lane.work.seconds) == pytest.approx(3000 * 800)
    assert "in 720 h" in run.profile.text()


def test_threads_with_bins_of_different_width_are_joined(run):
    barrier = threading.Barrier(2)

    def work(seconds):
        run.busy("decode", seconds)
        barrier.wait()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, (10, 1000)))
    lane = run.lanes()["decode"]
    assert lane == "▇" + "▄" * 59  # both in the first 10 of 16.7 seconds


def test_the_least_work_shows_and_idleness_does_not(run):
    run.wait("read", 30.5)
    run.busy("read", 0.001)
    run.wait("read", 29.5)
    assert run.lanes()["read"].strip() == "▁"


def test_the_text_names_the_bottleneck_and_says_what_its_words_mean(run):
    def embed():
        run.busy("embed", 9, images=320)
        run.wait("embed", 1)

    run.busy("read", 4, images=400)
    in_thread(embed)
    text = run.profile.text()
    assert text.startswith("Where the time went: 400 images in 10 s, 40.0 a second\n")
    assert "The bottleneck is embed: its thread was busy 90 % of the time; next is read with 40 %." in text
    assert "waiting is for input or for a free place" in text
    heads, read, embed_row = text.splitlines()[2:5]
    assert heads.split()[:3] == ["stage", "threads", "images"]
    assert read.split() == ["read", "1", "400", "4.0", "0.0", "0.0", "100.0", "40", "%"]
    assert embed_row.split()[-3:] == ["35.6", "90", "%"]
    assert {len(lane) for lane in run.lanes().values()} == {60}


def test_no_bottleneck_is_made_up(run):
    run.busy("embed", 6)
    run.wait("embed", 4)
    expected = "No stage is a clear bottleneck: embed comes nearest, its thread was busy 60 % of the time."
    assert expected in run.profile.text()
    assert "bottleneck</text>" not in run.profile.picture()


def test_the_picture_is_xml_with_a_lane_a_stage(run):
    run.busy("read", 5, images=1200)
    run.wait("read", 5)
    in_thread(lambda: run.busy("embed", 10, images=1200))
    root = ET.fromstring(run.profile.picture())
    assert root.tag == f"{SVG}svg"
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert words[0] == "Where the time went: 1,200 images in 10 s, 120.0 a second"
    assert words[1] == "The bottleneck is embed: its thread was busy 100 % of the time; next is read with 50 %."
    assert words.count("bottleneck") == 1
    assert {"read", "embed", "50 % busy", "5 s busy, 5 s waiting", "1,200 images, 240.0 a busy s"} <= set(words)
    assert {"0 s", "2 s", "10 s"} <= set(words)
    read_waiting, read_busy = [path for path in root.iter(f"{SVG}path") if path.get("d").endswith("Z")][:2]
    assert read_waiting.get("d") == "M140 148V92H775V148Z"  # busy or waiting all the time
    assert read_busy.get("d") == "M140 148V92H457.5V148H775V148Z"  # busy in the first half
    heights = {int(text.get("y")) for text in root.iter(f"{SVG}text")}
    assert max(heights) < int(root.get("height"))


def test_names_are_escaped(run):
    name = "a<b> & \"c\" 'd' \x00\n]]>"
    run.busy(name, 1)
    shown = name.replace("\x00", "\ufffd").replace("\n", "\ufffd")
    assert shown in [text.text for text in ET.fromstring(run.profile.picture()).iter(f"{SVG}text")]
    assert shown in run.profile.text()


def test_an_empty_profile_says_so(run):
    assert run.profile.table().num_rows == 0
    assert run.profile.table().schema == PROFILE_SCHEMA
    assert run.profile.text() == "Nothing was measured\n"
    assert "Nothing was measured" in ET.fromstring(run.profile.picture())[0].text


def test_blocks_of_no_length_break_nothing(run):
    run.busy("read", 0)
    run.wait("read", 0)
    row = run.rows()["read"]
    assert (row["busy_s"], row["images_per_s"], row["share"]) == (0, None, 0)
    assert "No stage was busy." in run.profile.text()
    ET.fromstring(run.profile.picture())


def test_no_profile_does_nothing():
    with NO_PROFILE.stage("read", images=3), NO_PROFILE.waiting("read"):
        pass
    with pytest.raises(KeyError), NO_PROFILE.stage("read"):
        raise KeyError
    assert NO_PROFILE.stage("read") is NO_PROFILE.waiting("embed")
    assert NO_PROFILE.table().num_rows == 0
    assert NO_PROFILE.text() == "Nothing was measured\n"


def test_looking_while_threads_work():
    profile = Profile()
    done = threading.Event()

    def work(name):
        while not done.is_set():
            with profile.stage(name), profile.waiting(name):
                pass

    names = [f"stage {number}" for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(work, name) for name in names]
        while len(seen := profile.table()) < 4:
            ET.fromstring(profile.picture())
            profile.text()
        done.set()
        for future in futures:
            future.result()
    later = {row["stage"]: row for row in profile.table().to_pylist()}
    assert all(later[row["stage"]]["images"] >= row["images"] for row in seen.to_pylist())


@given(st.floats(0, 1e7), st.integers(1, 240), st.integers(0, 5))
def test_any_profile_can_be_drawn_and_written(elapsed, columns, stages):
    rows = [
        dict.fromkeys(PROFILE_SCHEMA.names, 1) | {"stage": f"s{place}", "share": place / 5, "images_per_s": None}
        for place in range(stages)
    ]
    table = Profile().table().from_pylist(rows, schema=PROFILE_SCHEMA)
    busy = np.random.default_rng(columns).random((stages, columns))
    root = ET.fromstring(draw_profile(table, elapsed, busy, 1 - busy))
    assert len(list(root.iter(f"{SVG}text"))) < 200
    assert write_profile(table, elapsed, busy).count("│") == 2 * stages


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (1e-5, "0 s"),
        (0.05, "0.05 s"),
        (9.96, "10 s"),
        (95, "95 s"),
        (95.26, "95.3 s"),
        (120, "2 min"),
        (161.2, "2 min 41 s"),
        (3599.7, "60 min"),
        (7199, "119 min 59 s"),
        (7200, "2 h"),
        (9000, "2 h 30 min"),
    ],
)
def test_durations_are_read_at_a_glance(seconds, text):
    assert _duration(seconds) == text
