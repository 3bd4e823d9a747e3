"""One process of a torch.distributed run that evaluates: started by test_processes with rank, world and a folder."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch.distributed as distributed

from retrieval.evaluation import Question, evaluate
from retrieval.labelled import Labelled


def given() -> Labelled:
    """Clouds with ties, a class of one image, and more queries than divide evenly."""
    rng = np.random.default_rng(1)
    codes = np.append(rng.integers(0, 7, 100), 9)
    vectors = np.random.default_rng(0).normal(size=(10, 8))[codes] + rng.normal(scale=0.9, size=(101, 8))
    vectors[20:30] = vectors[10:20]
    return Labelled(vectors.astype(np.float32), [f"{i:03d}" for i in range(101)], [f"c{code}" for code in codes])


def measured() -> str:
    """The report, and every query's ranks."""
    everything = given()
    question = Question("t", "p", ks=(1, 5), findings=True)
    report, table = evaluate(everything, everything, question=question, embedder={}, device="cpu")
    return json.dumps([report.to_dict(), table.to_pylist()], sort_keys=True)


def main() -> None:
    """Write what this process measured to a file named by its rank."""
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    os.environ["LOCAL_RANK"] = str(rank)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    (folder / f"{rank}.json").write_text(measured())
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
