"""Methods that do not scale to d dimensions, restricted to a random subspace."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from diptych.prefer.spaces.sphere import on_sphere

Array = NDArray[np.float64]

SUBSPACE = 16
"""Dimensions of the subspace."""


class SubspaceGp:
    """BoTorch's PairwiseGP in a random subspace, on pairs of good and bad latents; Thompson sampling over 512 draws."""

    def __init__(self, d: int, rng: np.random.Generator) -> None:
        import botorch

        self._botorch = botorch
        self._rng = rng
        self._basis = np.linalg.qr(rng.standard_normal((d, SUBSPACE)))[0]
        self._points: list[Array] = []
        self._answers: list[bool] = []
        self._model: Any = None

    def ask(self, count: int) -> Array:
        """Latents of the next screen."""
        self._fit()
        drawn = self._rng.standard_normal((512, SUBSPACE))
        chosen = drawn[:count] if self._model is None else drawn[self._draws(drawn, count).argmax(axis=1)]
        self._points += list(chosen)
        return np.asarray(on_sphere(chosen @ self._basis.T))

    def tell(self, good: bool) -> None:
        """Store the answer for the next fit."""
        self._answers.append(good)

    def best(self, found: Array) -> Array:
        """The greatest posterior mean of 4,096 draws."""
        self._fit()
        if self._model is None:
            return found
        drawn = self._rng.standard_normal((4096, SUBSPACE))
        mean = self._posterior(drawn).mean.detach().numpy().ravel()
        return np.asarray(on_sphere(drawn[mean.argmax()] @ self._basis.T))

    def _fit(self) -> None:
        import torch
        from botorch.models.pairwise_gp import PairwiseGP, PairwiseLaplaceMarginalLogLikelihood

        answers = self._answers
        pairs = [pair for index in range(len(answers)) for pair in _against(answers, index)]
        if not pairs:
            return
        points = torch.tensor(_cube(np.stack(self._points[: len(answers)])), dtype=torch.float64)
        self._model = PairwiseGP(points, torch.tensor(pairs))
        self._botorch.fit.fit_gpytorch_mll(PairwiseLaplaceMarginalLogLikelihood(self._model.likelihood, self._model))

    def _posterior(self, points: Array) -> Any:
        import torch

        return self._model.posterior(torch.tensor(_cube(points), dtype=torch.float64))

    def _draws(self, points: Array, count: int) -> Array:
        import torch

        with torch.no_grad():
            return np.asarray(self._posterior(points).rsample(torch.Size([count]))[..., 0])


class SubspaceOptuna:
    """The preferential sampler of optuna-dashboard in a random subspace; pairs with the four previous answers."""

    def __init__(self, d: int, rng: np.random.Generator) -> None:
        import optuna
        from optuna_dashboard.preferential import create_study
        from optuna_dashboard.preferential.samplers.gp import PreferentialGPSampler

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = PreferentialGPSampler(seed=int(rng.integers(2**31)))
        self._study: Any = create_study(n_generate=4, sampler=sampler)
        self._basis = np.linalg.qr(rng.standard_normal((d, SUBSPACE)))[0]
        self._trials: list[Any] = []
        self._answers: list[bool] = []

    def ask(self, count: int) -> Array:
        """Latents of the next screen."""
        taken = [self._study.ask() for _ in range(count)]
        points = [[trial.suggest_float(f"x{axis}", 1e-3, 1 - 1e-3) for axis in range(SUBSPACE)] for trial in taken]
        self._trials += taken
        return self._latents(np.array(points))

    def tell(self, good: bool) -> None:
        """Report pairs with the previous answers."""
        self._answers.append(good)
        trials = self._study.get_trials(deepcopy=False)
        for better, worse in _against(self._answers, len(self._answers) - 1):
            self._study.report_preference(trials[self._trials[better].number], trials[self._trials[worse].number])

    def best(self, found: Array) -> Array:
        """The last trial to which no other was preferred."""
        standing = self._study.best_trials
        if not standing:
            return found
        last = max(standing, key=lambda trial: trial.number)
        return np.asarray(self._latents(np.array([[last.params[f"x{axis}"] for axis in range(SUBSPACE)]]))[0])

    def _latents(self, points: Array) -> Array:
        return np.asarray(on_sphere(ndtri(points) @ self._basis.T))


def _against(answers: list[bool], index: int) -> list[tuple[int, int]]:
    """Pairs (better, worse) of an answer with those of the previous four that differ from it."""
    return [
        (index, j) if answers[index] else (j, index)
        for j in range(max(0, index - 4), index)
        if answers[index] != answers[j]
    ]


def _cube(points: Array) -> Array:
    """Standard normal values as quantiles from 0 to 1."""
    return np.asarray(ndtr(points))
