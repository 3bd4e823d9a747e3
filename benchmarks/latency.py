"""How long does one search by picture take, where does the time go, and what happens when many ask at once?

First in one process, a photo at a time, with the runtime that ``auto`` chose here and with torch in turn: decode,
prepare and embed the photo, search the catalogue with its vector, and make the answer (hits to JSON). "Whole" is
what the web application does with the bytes, from the gate to JSON: the stages, and a look at the bytes besides.
"Refresh" is the part of a search, measured once more, that asks whether the catalogue has a newer version.

Then through the web server (waitress) in a process of its own, with threads that post JPEGs to ``/api/search`` over
connections that stay open, each its next when the last is answered. They share the cores with the server. The gate
lets ``concurrency`` searches run at once; the mean batch is how many pictures the embedder joined to a run.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import http.client
import os
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from benchmarks._processes import Process
from benchmarks.machine import load, photo_folder, print_machine
from retrieval.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from flask import Flask

    from indexer.catalogue import Catalogue
    from retrieval.embedder import Embedder

CLIENTS = (1, 4, 16)
WARM_UP = 10
PATIENCE = 900.0  # seconds
STAGES = ("decode", "prepare", "embed", "search", "answer", "whole", "refresh")


def main(arguments: list[str]) -> None:
    """Print median and 99th percentile of each stage, then requests/s and latency by number of clients."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks latency", description=__doc__)
    parser.add_argument("--source", type=Path, default=photo_folder() / "grocery" / "dataset")
    parser.add_argument("--items", type=int, help="photos of train.txt in the catalogue; default: all")
    parser.add_argument("--gallery", type=int, default=0, help="fill the catalogue up to so many items with noise")
    parser.add_argument("--queries", type=int, default=500, help="photos of test.txt")
    parser.add_argument("--k", type=int, default=24, help="hits; the default is that of the web application")
    parser.add_argument("--requests", type=int, default=500, help="for each number of clients")
    parser.add_argument("--concurrency", type=int, default=16, help="of the gate, tried besides its default")
    given = parser.parse_args(arguments)
    print_machine(["torch", "openvino", "onnxruntime", "numpy", "pyarrow", "deltalake", "flask", "waitress"])
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LOOKALIKE_CACHE"] = str(Path(folder, "conversions"))
        place = Path(folder, "catalogue")
        photos = _photos(read_manifest(given.source / "test.txt"), given.queries)
        inside = Process(Inside(place, given.source / "train.txt", given.items, given.gallery, photos, given.k))
        print(f"{inside.ask('fill', PATIENCE)}; {len(photos)} queries, k = {given.k}", flush=True)
        _print_stages(inside.ask("measure", PATIENCE))
        inside.stop()
        for runtime, settings in (("auto", {}), ("auto", {"concurrency": given.concurrency}), ("torch", {})):
            _serve_and_print(place, runtime, settings, photos, given)


def _photos(manifest: Manifest, count: int) -> list[bytes]:
    uris = manifest.table.column("uri").to_pylist()
    count = min(count, len(uris))
    return [(manifest.root / uris[place * len(uris) // count]).read_bytes() for place in range(count)]


def _print_stages(times: dict[str, dict[str, np.ndarray]]) -> None:
    print(f"\n{'milliseconds':12s}" + "".join(f"{name[:22]:>23s}" for name in times) + f"\n{'':12s}", end="")
    print(f"{'p50':>13s} {'p99':>9s}" * len(times))
    for stage in STAGES:
        ends = [np.percentile(times[name][stage], [50, 99]) * 1000 for name in times]
        print(f"{stage:12s}" + "".join(f"{middle:13.2f} {high:9.2f}" for middle, high in ends))


def _serve_and_print(
    place: Path, runtime: str, settings: dict[str, int], photos: list[bytes], given: argparse.Namespace
) -> None:
    server = Process(Server(place, runtime, settings, photos[0]))
    port, about = server.ask("listen", PATIENCE)
    _post(port, photos[:WARM_UP], WARM_UP, 2, given.k)
    print(f"\nserver: {about}; {load()}")
    print(f"{'clients':>7s} {'requests/s':>11s} {'p50 ms':>9s} {'p99 ms':>9s} {'mean batch':>11s} {'refused':>8s}")
    for clients in CLIENTS:
        server.ask("counts", PATIENCE)
        seconds, times, refused = _post(port, photos, given.requests, clients, given.k)
        runs, pictures = server.ask("counts", PATIENCE)
        middle, high = np.percentile(times, [50, 99]) * 1000 if times else (float("nan"),) * 2
        batch = pictures / max(1, runs)
        print(
            f"{clients:7d} {len(times) / seconds:11.1f} {middle:9.1f} {high:9.1f} {batch:11.2f} {refused:8d}",
            flush=True,
        )
    server.stop()


def _post(port: int, photos: list[bytes], requests: int, clients: int, k: int) -> tuple[float, list[float], int]:
    """Post photos until so many requests were made; gives the seconds, those of each answer, and the refusals."""
    waiting = collections.deque(photos[number % len(photos)] for number in range(requests))
    times: list[float] = []
    refused: list[float] = []

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            try:
                photo = waiting.popleft()
            except IndexError:
                connection.close()
                return
            began = time.perf_counter()
            connection.request("POST", f"/api/search?k={k}", body=photo, headers={"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            answer.read()
            (times if answer.status == 200 else refused).append(time.perf_counter() - began)

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        for done in [threads.submit(client) for _ in range(clients)]:
            done.result()
    return time.perf_counter() - began, times, len(refused)


@dataclass
class Inside:
    """Indexes a catalogue and searches it in one process."""

    place: Path
    source: Path
    items: int | None
    gallery: int
    photos: list[bytes]
    k: int

    def fill(self) -> str:
        """Make the catalogue; gives a clause on it and on the runtimes."""
        from indexer.catalogue import Catalogue
        from indexer.ingest import ingest
        from retrieval.embedder import Embedder
        from retrieval.images import decode
        from retrieval.runtime_choice import MEASURE_FROM, SAMPLE

        manifest = read_manifest(self.source)
        if self.items is not None:
            chosen = np.linspace(0, manifest.table.num_rows - 1, min(self.items, manifest.table.num_rows)).astype(int)
            manifest = Manifest(
                manifest.table.take(pa.array(chosen)), manifest.rejected, manifest.root, manifest.listing
            )
        embedders = {name: Embedder.create(device="cpu", runtime=name) for name in ("auto", "torch")}
        for embedder in embedders.values():
            some = [decode(photo, size=embedder.image_size).pixels for photo in self.photos[:SAMPLE]]
            embedder.tune([embedder.prepare(pixels) for pixels in some], expected=MEASURE_FROM)
        with Catalogue.create(self.place, embedders["auto"], device="cpu") as catalogue:
            ingest(catalogue, manifest)
            photos = catalogue.items().num_rows
            if self.gallery > photos:
                _pad(catalogue, self.gallery - photos)
            known = set(catalogue.items().column("sha256").to_pylist())
        # What is in the catalogue needs no network.
        self.photos = [photo for photo in self.photos if hashlib.sha256(photo).digest() not in known]
        self._embedders = {
            f"auto: {embedder.runtime}, {embedder.at_once}" if name == "auto" else name: embedder
            for name, embedder in embedders.items()
        }
        choice = embedders["auto"].choice
        assert choice is not None
        noise = max(0, self.gallery - photos)
        return f"{photos} photos and {noise} items of noise; auto is {choice.runtime}, {choice.why}"

    def measure(self) -> dict[str, dict[str, np.ndarray]]:
        """Search with each photo, by each runtime in turn: name → stage → seconds of each query."""
        from indexer.catalogue import Catalogue
        from webui.app import create_app

        opened = {name: Catalogue.open(self.place, embedder=its, device="cpu") for name, its in self._embedders.items()}
        apps = {name: create_app(catalogue) for name, catalogue in opened.items()}
        times: dict[str, list[dict[str, float]]] = {name: [] for name in opened}
        for photo in [*self.photos[:WARM_UP], *self.photos]:
            for name, catalogue in opened.items():
                times[name].append(self._search(catalogue, self._embedders[name], apps[name], photo))
        for catalogue in opened.values():
            catalogue.close()
        warm = min(WARM_UP, len(self.photos))
        return {
            name: {stage: np.array([row[stage] for row in rows[warm:]]) for stage in STAGES}
            for name, rows in times.items()
        }

    def _search(self, catalogue: Catalogue, embedder: Embedder, app: Flask, photo: bytes) -> dict[str, float]:
        from indexer.search import search
        from retrieval.images import decode
        from webui import data

        site: data.Site = app.extensions["lookalike"]
        seconds: dict[str, float] = {}

        def clock(stage: str, work: Callable[[], Any]) -> Any:
            began = time.perf_counter()
            result = work()
            seconds[stage] = time.perf_counter() - began
            return result

        def to_json(results: data.Results) -> str:
            with app.app_context():
                return app.json.dumps(results)

        def answer() -> str:
            found = tuple(data._hit(site, row) for row in hits.to_pylist())  # as data.search_picture does
            return to_json(data.Results(data.Query("picture", picture.width, picture.height), self.k, found))

        picture = clock("decode", lambda: decode(photo, size=embedder.image_size))
        pixels = clock("prepare", lambda: embedder.prepare(picture.pixels))
        vector = clock("embed", lambda: embedder.embed([pixels], prepared=True))
        hits = clock("search", lambda: search(catalogue, vectors=vector, k=self.k))
        clock("answer", answer)
        clock("whole", lambda: to_json(data.search_picture(site, photo, k=self.k)))
        clock("refresh", catalogue.refresh)
        return seconds


def _pad(catalogue: Catalogue, count: int) -> None:
    schema, rng, block = catalogue.items().schema, np.random.default_rng(0), 10_000
    with catalogue.writing():
        for start in range(0, count, block):
            size = min(block, count - start)
            keys = [rng.bytes(32) for _ in range(size)]
            vectors = rng.standard_normal((size, catalogue.dim), dtype=np.float32)
            catalogue.vectors.append(keys, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
            names = [f"noise {number}" for number in range(start, start + size)]
            known = {"id": names, "uri": names, "source": ["/noise"] * size, "sha256": keys}
            known |= {"width": [640] * size, "height": [480] * size}
            columns = {field.name: pa.array(known.get(field.name, [None] * size), field.type) for field in schema}
            catalogue.commit(pa.table(columns))
        catalogue.settle()


@dataclass
class Server:
    """The web server over the catalogue, counting what its embedder runs."""

    place: Path
    runtime: str
    settings: dict[str, int]
    first: bytes

    def listen(self) -> tuple[int, str]:
        """Serve in a thread; gives the port and a clause on runtime and settings."""
        from indexer.catalogue import Catalogue
        from webui import data
        from webui.app import create_app
        from webui.server import listen

        catalogue = Catalogue.open(self.place, device="cpu", runtime=self.runtime)
        app = create_app(catalogue, **self.settings)
        data.search_picture(app.extensions["lookalike"], self.first, k=1)  # the first visitor loads the network
        embedder: Any = catalogue.embedder()
        self._counting, self._runs, self._pictures = threading.Lock(), 0, 0
        coalescer = embedder._run  # nothing public counts runs
        run = coalescer._run

        def counted(pixels: np.ndarray) -> np.ndarray:
            with self._counting:
                self._runs, self._pictures = self._runs + 1, self._pictures + len(pixels)
            vectors: np.ndarray = run(pixels)
            return vectors

        coalescer._run = counted
        server = listen(app, port=0)
        threading.Thread(target=server.run, daemon=True).start()
        chosen = app.extensions["lookalike"].settings
        gate = ", ".join(f"{name}={chosen[name]:g}" for name in ("concurrency", "queue", "wait"))
        return server.effective_port, f"{self.runtime}: {embedder.runtime}, at_once={embedder.at_once}; {gate}"

    def counts(self) -> tuple[int, int]:
        """Runs of the embedder since the last call, and pictures in them."""
        with self._counting:
            found = self._runs, self._pictures
            self._runs = self._pictures = 0
        return found
