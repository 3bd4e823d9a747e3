"""The pictures of a training run, decoded once and kept in memory where they fit, else decoded at each showing."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from retrieval.errors import ImageError, InputError
from retrieval.images import decode, measure
from retrieval.machine import cores

_BLOCK: Final = 256 * 2**20
_SAMPLE: Final = 32  # headers read to foresee how much all pictures take
_UNKNOWN: Final = 4 * 2**30  # taken as available where no system says
_NO_LIMIT: Final = 2**60  # what cgroup v1 writes where there is none is above this


class Reads(Protocol):
    """What a store reads from, such as ``ImageSource``: thread-safe, and picklable for workers that are spawned."""

    def read(self, uri: str) -> bytes:
        """Read one image; raises ImageError."""

    def read_many(self, uris: Iterable[str]) -> Iterator[bytes | ImageError]:
        """Read images in order; what cannot be read comes as its error."""


class PictureStore:
    """Pictures by their place, each with its shorter side at most ``size`` pixels.

    Worker processes share the memory: forked ones as they are; spawned ones by torch's own exchange of tensors, as a
    DataLoader does it. Pictures that are not in memory are read and decoded by whoever asks, in any process.

    Attributes:
        size: of the shorter side, pixels; smaller pictures keep theirs.
        in_memory: whether the pictures are kept decoded.
        kept_bytes: that they take in memory.
        refused: place and reason of every picture that cannot be used, ascending; asking for one raises ImageError.
        notice: what was decided, in a sentence with the figures.
    """

    def __init__(
        self,
        source: Reads,
        uris: Sequence[str],
        *,
        size: int,
        interpolation: str = "bicubic",
        memory: int | None = None,
    ) -> None:
        """Prepare; nothing is read before ``fill``.

        Args:
            source: where the bytes come from; it stays open as long as the store is used.
            uris: of the pictures.
            size: of the shorter side that is kept, pixels.
            interpolation: of the resize, as timm names it; every other than "bilinear" is bicubic. Where both this and
                ``size`` are those of the embedder's preprocessing (its ``shorter_side``), and that is one of the two,
                the embedder sees in validation what it sees of the files afterwards, to the bit.
            memory: bytes that pictures may take in this process; None: half of ``available_memory()``.

        Raises:
            InputError: the size is no number of pixels.
        """
        if size < 1:
            raise InputError(f"pictures are kept at one pixel or more, not at {size}")
        self.size, self.in_memory, self.kept_bytes = size, False, 0
        self.refused: list[tuple[int, str]] = []
        self.notice = "no picture has been read"
        self._source, self._uris = source, list(uris)
        self._mode = InterpolationMode.BILINEAR if interpolation == "bilinear" else InterpolationMode.BICUBIC
        self._memory = available_memory() // 2 if memory is None else memory
        self._blocks: list[torch.Tensor] = []
        self._free = 0  # bytes of the last block
        # Block, first byte, height and width of each picture; height 0 where it is not kept.
        self._where = np.zeros((len(self._uris), 4), np.int64)

    def __len__(self) -> int:
        return len(self._uris)

    def __getitem__(self, place: int) -> np.ndarray:
        """Give a picture: (h, w, 3) uint8, C-contiguous, the caller's own.

        Raises:
            ImageError: the picture was refused, or can no longer be read.
        """
        block, first, high, wide = self._where[place].tolist()
        if high:
            kept: np.ndarray = self._blocks[block][first : first + high * wide * 3].view(high, wide, 3).numpy()
            return kept.copy()
        uri = self._uris[place]
        try:
            return self._picture(self._source.read(uri))
        except ImageError as error:
            raise ImageError(f"the picture {uri} cannot be used: {error}") from error

    def unusable(
        self, places: Sequence[int], *, progress: Callable[[int, int, int], object] = lambda *_: None
    ) -> list[tuple[int, str]]:
        """Find those of some pictures that cannot be used; what is not kept is read and decoded for that.

        Args:
            places: which are meant.
            progress: called after each picture that is decoded with those done, all, and those that cannot be used.

        Returns:
            Place and reason of each, in the order of ``places``.
        """
        if self.in_memory:
            known = dict(self.refused)
            return [(place, known[place]) for place in places if place in known]

        def reason(place: int) -> str | None:
            try:
                self._picture(self._source.read(self._uris[place]))
            except ImageError as error:
                return str(error)
            return None

        with ThreadPoolExecutor(cores(), thread_name_prefix="decode") as pool:
            found = []
            for done, (place, why) in enumerate(zip(places, pool.map(reason, places), strict=True), 1):
                if why is not None:
                    found.append((place, why))
                progress(done, len(places), len(found))
            return found

    def fill(
        self, *, threads: int | None = None, progress: Callable[[int, int, int], object] = lambda *_: None
    ) -> PictureStore:
        """Decode every picture to keep it, unless all do not fit: then they are decoded when they are asked for.

        Args:
            threads: that decode; None: one a core.
            progress: called after each picture with those done, all, and those refused.

        Returns:
            The store itself.
        """
        self._blocks, self._free, self.kept_bytes, self.refused = [], 0, 0, []
        self._where[:] = 0
        expected = self._foresee()
        self.in_memory = expected <= self._memory
        for place, picture in enumerate(self._decoded(threads or cores()) if self.in_memory else ()):
            if isinstance(picture, ImageError):
                self.refused.append((place, str(picture)))
            elif self.in_memory:
                self.kept_bytes += picture.size
                if self.kept_bytes <= self._memory:
                    self._keep(place, picture, expected)
                else:
                    expected = max(expected, self.kept_bytes * len(self) // (place + 1))
                    self._drop()
                    break
            progress(place + 1, len(self), len(self.refused))
        usable = f"{len(self) - len(self.refused):,} pictures at {self.size} pixels"
        self.notice = (
            f"{usable} are kept in memory: {_gib(self.kept_bytes)} of the {_gib(self._memory)} they may take"
            if self.in_memory
            else f"{usable} would take about {_gib(expected)} of memory, more than the {_gib(self._memory)} they may "
            "take, so each is decoded again whenever it is shown"
        )
        return self

    def _picture(self, data: bytes) -> np.ndarray:
        pixels = decode(data, size=self.size).pixels
        if min(pixels.shape[:2]) <= self.size:
            return pixels
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        resized = functional.resize(image, [self.size], self._mode, antialias=True)
        return np.ascontiguousarray(resized.permute(1, 2, 0).numpy())

    def _decoded(self, threads: int) -> Iterator[np.ndarray | ImageError]:
        """Decode all, in order, a few ahead of who asks; decoding leaves the interpreter to other threads."""
        ahead: deque[Future[np.ndarray] | ImageError] = deque()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        try:
            for data in self._source.read_many(self._uris):
                ahead.append(data if isinstance(data, ImageError) else pool.submit(self._picture, data))
                if len(ahead) > 4 * threads:
                    yield _outcome(ahead.popleft())
            while ahead:
                yield _outcome(ahead.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _foresee(self) -> int:
        """Estimate from a few headers all over how many bytes the pictures take."""
        places = np.unique(np.linspace(0, len(self) - 1, min(len(self), _SAMPLE)).astype(np.int64))
        sizes = []
        for place in places.tolist():
            try:
                wide, high = measure(self._source.read(self._uris[place]))
            except ImageError:
                continue  # it is refused, and told, when its turn comes
            factor = min(1.0, self.size / min(wide, high))
            sizes.append(3 * wide * high * factor**2)
        return int(len(self) * np.mean(sizes)) if sizes else 0

    def _keep(self, place: int, picture: np.ndarray, expected: int) -> None:
        # In blocks, because one buffer that grows is for a moment there twice.
        if picture.size > self._free:
            self._free = max(picture.size, min(_BLOCK, expected // 16))
            self._blocks.append(torch.empty(self._free, dtype=torch.uint8))
        block = self._blocks[-1]
        first = len(block) - self._free
        block[first : first + picture.size].view(picture.shape).copy_(torch.from_numpy(picture))
        self._free -= picture.size
        self._where[place] = (len(self._blocks) - 1, first, *picture.shape[:2])

    def _drop(self) -> None:
        self._blocks, self._free, self.kept_bytes, self.in_memory = [], 0, 0, False
        self._where[:] = 0


def available_memory(root: Path = Path("/")) -> int:
    """Say how many bytes of memory this process may still take, without others having to give theirs up.

    Args:
        root: where the system shows itself.

    Returns:
        What the kernel deems available, or what is left of the limit of this process's control groups where that is
        less; half of all memory on systems that do not say, and 4 GiB on those that say nothing.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        system = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        names: dict[str, int] = getattr(os, "sysconf_names", {})
        known = "SC_PHYS_PAGES" in names and "SC_PAGE_SIZE" in names
        system = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 if known else _UNKNOWN
    return max(0, min([system, *_left_in_groups(root)]))


def _left_in_groups(root: Path) -> Iterator[int]:
    """Give what is left of the memory limit of each control group that this process is in, and of those above."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            top, limit, usage, cache = root / "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top, limit, usage = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = "total_inactive_file"
        else:
            continue
        group = top / path.lstrip("/")
        for folder in (group, *(above for above in group.parents if above.is_relative_to(top))):
            try:
                most = (folder / limit).read_text().strip()
                if most == "max" or int(most) > _NO_LIMIT:
                    continue
                used = int((folder / usage).read_text())
                about = dict(entry.split() for entry in (folder / "memory.stat").read_text().splitlines())
            except OSError:
                continue  # in a container the groups above are not shown
            # Pages of files that nobody used lately are given back on demand.
            yield int(most) - used + int(about.get(cache, 0))


def _outcome(made: Future[np.ndarray] | ImageError) -> np.ndarray | ImageError:
    if isinstance(made, ImageError):
        return made
    try:
        return made.result()
    except ImageError as error:
        return error


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.1f} MiB"
