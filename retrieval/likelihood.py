"""Fitting a few numbers to data, by the least of a smooth convex loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def minimise(
    loss: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, *, least: float | None = None
) -> np.ndarray:
    """Find where a loss is least, by L-BFGS-B (Zhu et al., ACM TOMS 1997).

    Args:
        loss: gives for (d,) numbers the loss and its gradient (d,).
        start: (d,), where to begin.
        least: no number goes below; None: they may be any.
    """
    from scipy.optimize import minimize

    bounds = None if least is None else [(least, None)] * len(start)
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))
