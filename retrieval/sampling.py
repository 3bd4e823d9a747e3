"""Which pictures a batch holds: drawn from (seed, epoch) alone, so that every rank and a resumed run draw the same."""

from __future__ import annotations

import numpy as np

from retrieval.errors import InputError

TIMES = 4  # that a batch may show every picture, where there are very few
_MOVES = 3  # of a group between batches, on average; one move goes to a random batch already


def generator(seed: int, *numbers: int) -> np.random.Generator:
    """Give the random numbers of a seed and a place, such as (epoch, position): others for every place.

    Args:
        seed: of the run, at least 0.
        numbers: each at least 0 and below 2**32.
    """
    # Not default_rng([seed, ...]), for which (seed,) and (seed, 0) are one.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=numbers))


class Batches:
    """The batches of each epoch.

    With ``per_class`` 1 the pictures come in random order. With more, a batch is made of groups of ``per_class``
    pictures of one class:

    - Every picture is shown in every epoch. A class's last group is filled up with others of its pictures, and repeats
      some where the class has fewer than ``per_class``.
    - A class has one group in a batch where that is possible: there are as many classes as groups in a batch, and no
      class has more groups than there are batches. Else as few as that takes, and never more than half of the
      batch, since a batch of one class teaches nothing; the other classes are then shown more than once.

    The last batch is filled up too, so all batches have one size. Within a batch the order is random.

    Attributes:
        steps: batches of an epoch.
        batch: pictures of a batch, over all ranks.
        per_class: pictures of a group.
    """

    def __init__(self, labels: np.ndarray, *, batch: int, per_class: int = 1, seed: int = 0) -> None:
        """Plan the epochs.

        Args:
            labels: (n,) int64, a number of at least 0 for each picture's class; n at least 1.
            batch: pictures of a batch, over all ranks.
            per_class: pictures of a class that a batch holds; 1: classes are drawn as they come.
            seed: of the run.

        Raises:
            InputError: no picture, or the batch cannot be made of groups of two classes or is far larger than there are
                pictures.
        """
        if not len(labels):
            raise InputError("there is no picture to train on")
        if batch < 1 or per_class < 1:
            raise InputError(f"a batch of {batch} with {per_class} pictures of a class is none: both are at least 1")
        names, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        assert names[0] >= 0, "a picture without a class"
        if per_class > 1:
            _check(batch, per_class, len(names))
        if batch > TIMES * len(labels):
            raise InputError(
                f"a batch of {batch:,} shows each of {len(labels):,} pictures several times: choose a --batch of "
                f"{len(labels) // per_class * per_class or per_class:,} or fewer"
            )
        if per_class > counts.max():
            raise InputError(
                f"no class has {per_class} pictures, the largest {counts.max()}: choose a --per-class of "
                f"{counts.max()} or fewer"
            )
        self.batch, self.per_class, self._seed = batch, per_class, seed
        self._codes, self._counts = codes.astype(np.int64), counts.astype(np.int64)
        self._groups = -(-self._counts // per_class)
        self._limit = np.ones(len(names), np.int64)
        if per_class == 1:
            self.steps = -(-len(labels) // batch)
        else:
            in_batch = batch // per_class
            half = -(-in_batch // 2)
            self.steps = int(max(-(-self._groups.sum() // in_batch), -(-self._groups.max() // half)))
            self._limit = _limits(self._groups, self.steps, in_batch, half)

    def epoch(self, number: int) -> np.ndarray:
        """Draw the batches of an epoch.

        Args:
            number: of the epoch, from 0.

        Returns:
            (steps, batch) int64, places in ``labels``.
        """
        rng = generator(self._seed, number)
        shuffled = rng.permutation(len(self._codes))
        if self.per_class == 1:
            return np.resize(shuffled, (self.steps, self.batch))
        table = self._arrange(rng)  # (steps, groups of a batch): the class of each group
        # Every class's pictures in random order, as often as they are needed: ``wanted`` of them, going round.
        by_class = shuffled[np.argsort(self._codes[shuffled], kind="stable")]
        wanted = np.bincount(table.ravel(), minlength=len(self._counts)) * self.per_class
        within = np.arange(wanted.sum()) - np.repeat(np.cumsum(wanted) - wanted, wanted)
        first = np.cumsum(self._counts) - self._counts
        places = by_class[np.repeat(first, wanted) + within % np.repeat(self._counts, wanted)]
        batches = np.empty((table.size, self.per_class), np.int64)
        batches[np.argsort(table.ravel(), kind="stable")] = places.reshape(-1, self.per_class)
        # Mixup and CutMix mix neighbours, which should not be of one class more often than chance has it.
        return rng.permuted(batches.reshape(self.steps, self.batch), axis=1)

    def stripe(self, batch: np.ndarray, rank: int, world: int) -> np.ndarray:
        """Take a rank's part of a batch; the parts of all ranks, one after another, are the batch.

        Args:
            batch: (batch,), a row of ``epoch`` or anything in its order.
            rank: from 0.
            world: ranks in all.

        Raises:
            InputError: the batch cannot be parted evenly.
        """
        if len(batch) % world:
            raise InputError(
                f"a batch of {len(batch)} cannot be parted evenly among {world} processes: "
                f"choose a --batch that is a multiple of {world}"
            )
        size = len(batch) // world
        return batch[rank * size : (rank + 1) * size]

    def _arrange(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the class of every group: (steps, groups of a batch), each class within its limit a batch."""
        in_batch = self.batch // self.per_class
        counts = self._groups.copy()
        missing = self.steps * in_batch - int(counts.sum())
        while missing:
            able = rng.permutation(np.flatnonzero(counts < self._limit * self.steps))[:missing]
            more = np.minimum(max(1, missing // len(able)), (self._limit * self.steps - counts)[able])
            counts[able] += more
            missing -= int(more.sum())
        # Laid out class after class and dealt to the batches in turn, no class comes to a batch more often than its
        # limit, since it has at most limit * steps groups (McNaughton's wrap-around rule).
        order = rng.permutation(len(counts))
        table = np.repeat(order, counts[order]).reshape(in_batch, self.steps).T.copy()
        # But classes side by side in that order share nearly all their batches; exchanges that keep to the limits mix.
        for _ in range(_MOVES * in_batch):
            one, other = np.array_split(rng.permutation(self.steps)[: self.steps // 2 * 2], 2)
            at, to = rng.integers(in_batch, size=(2, len(one)))
            mine, theirs = table[one, at], table[other, to]
            fits = (table[other] == mine[:, None]).sum(1) < self._limit[mine]
            fits &= (table[one] == theirs[:, None]).sum(1) < self._limit[theirs]
            table[one[fits], at[fits]], table[other[fits], to[fits]] = theirs[fits], mine[fits]
        return table[rng.permutation(self.steps)]


def _check(batch: int, per_class: int, classes: int) -> None:
    """Refuse batches that cannot be made of groups of two classes."""
    if classes < 2:
        raise InputError("all pictures are of one class, and metric learning needs two: add pictures of another class")
    if batch < per_class:
        raise InputError(
            f"a batch of {batch} cannot hold {per_class} pictures of a class: choose a --batch of at least "
            f"{2 * per_class}, or fewer with --per-class"
        )
    if batch % per_class:
        fewer, more = max(2, batch // per_class) * per_class, (batch // per_class + 1) * per_class
        fitting = f"{more}" if fewer >= more else f"{fewer} or {more}"
        raise InputError(
            f"a batch of {batch} cannot be made of groups of {per_class} pictures of a class: choose a --batch of "
            f"{fitting}, or another --per-class"
        )
    if batch == per_class:
        raise InputError(
            f"a batch of {batch} with {per_class} pictures of a class holds one class only, and metric learning "
            f"compares two: choose a --batch of at least {2 * per_class}, or fewer with --per-class"
        )


def _limits(groups: np.ndarray, steps: int, in_batch: int, half: int) -> np.ndarray:
    """Find how many groups of each class a batch may hold, as few as fill the batches; none more than half."""
    limit = -(-groups // steps)
    while limit.sum() < in_batch:
        limit[limit == limit[limit < half].min()] += 1
    return limit
