"""Logistic regression, for the confidence of rules and for what speaks for a note."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize


def regress(rows: NDArray[np.float64], right: NDArray[np.bool_], ridge: float = 0.0) -> NDArray[np.float64]:
    """Return the weights of a ridge-penalised logistic regression, the bias, which is not penalised, last.

    Args:
        rows: features, shape (rows, features).
        right: which rows are to get a high output.
        ridge: weight of half the squared weights, beside the summed cross-entropy.
    """
    signs = np.where(right, 1.0, -1.0)
    extended = np.column_stack([rows, np.ones(len(rows))])

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margins = signs * (extended @ weights)
        penalty = np.append(weights[:-1], 0.0)
        gradient = -(extended * (signs / (1 + np.exp(margins)))[:, None]).sum(0) + ridge * penalty
        return float(np.logaddexp(0, -margins).sum() + ridge * penalty @ penalty / 2), gradient

    weights: NDArray[np.float64] = minimize(loss, np.zeros(extended.shape[1]), jac=True).x
    return weights
