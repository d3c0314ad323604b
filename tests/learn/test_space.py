"""The item space, and moving learned vectors from one to another."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.learn.space import first_coordinates, fit_space


def embeddings(count: int, dimensions: int = 12, rank: int | None = None, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if rank is None:
        return rng.normal(size=(count, dimensions))
    return rng.normal(size=(count, rank)) @ rng.normal(size=(rank, dimensions)) + rng.normal(size=dimensions)


def test_the_components_are_those_of_the_covariance() -> None:
    data = embeddings(200)
    space = fit_space(data, k=4)
    values, vectors = np.linalg.eigh(np.cov(data.T))
    for row, vector in zip(space.rows, vectors.T[::-1], strict=False):
        assert abs(row @ vector) == pytest.approx(1)
    assert space.project(data).var(0, ddof=1) == pytest.approx(values[::-1][:4])
    assert space.project(data).mean(0) == pytest.approx(np.zeros(4), abs=1e-12)


def test_too_few_samples_are_padded_with_zeros() -> None:
    data = embeddings(3)
    space = fit_space(data, k=8)
    assert np.count_nonzero(np.linalg.norm(space.rows, axis=1)) == 2
    distances = np.linalg.norm(data[:, None] - data, axis=-1)
    items = space.project(data)
    assert np.linalg.norm(items[:, None] - items, axis=-1) == pytest.approx(distances)  # all that there is, is kept
    assert np.all(fit_space(data[:1], k=8).project(data[:1]) == 0)


def test_before_anything_is_fitted_the_first_coordinates_are_kept() -> None:
    data = embeddings(5, dimensions=6)
    assert np.array_equal(first_coordinates(6, k=4).project(data), data[:, :4])
    assert np.array_equal(first_coordinates(6, k=8).project(data), np.pad(data, ((0, 0), (0, 2))))


def test_the_signs_do_not_depend_on_the_order() -> None:
    data = embeddings(50)
    assert fit_space(data, 5).rows == pytest.approx(fit_space(data[::-1], 5).rows)


def test_a_lifted_vector_ranks_as_before_in_another_space() -> None:
    data = embeddings(400, rank=5)
    old, new = fit_space(data[:40], k=8), fit_space(data, k=8)
    z = np.random.default_rng(1).normal(size=8) * (np.linalg.norm(old.rows, axis=1) > 0)
    moved = new.rows @ old.lift(z)
    before, after = old.project(data) @ z, new.project(data) @ moved
    assert before - before.mean() == pytest.approx(after - after.mean())  # a constant changes no ranking
    assert old.rows @ new.lift(moved) == pytest.approx(z)
