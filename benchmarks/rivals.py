"""Ways to learn a person's taste, all behind ask, tell and best: the package's own, and those that it is measured against."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr, ndtri

from diptych.prefer import propose, utility
from diptych.prefer.latent import on_sphere
from diptych.prefer.propose import Situation, finished, tempered

Array = NDArray[np.float64]

SUBSPACE = 16
"""Dimensions of the random subspace for methods that cannot work in d."""


class Method(Protocol):
    """One way."""

    def ask(self, count: int) -> Array:
        """Latents (count, d) of the next screen."""
        ...

    def tell(self, good: bool) -> None:
        """The answer to the next latent of the screen."""
        ...

    def best(self, found: Array) -> Array:
        """The latent (d,) that is recommended; ``found`` is the best of those shown, which a person could point at."""
        ...


class Learned:
    """A utility model with a proposal of the package.

    Parameters
    ----------
    d : int
    rng : Generator
    model, proposal : str
    random : bool
        Show noise, whatever is learned.
    """

    def __init__(self, d: int, rng: np.random.Generator, model: str, proposal: str = "tempered", random: bool = False) -> None:
        self._d, self._rng, self._random = d, rng, random
        self.model, self._proposal = utility.make(model), propose.make(proposal)
        self._latents = np.zeros((0, d), np.float32)
        self._screens: list[int] = []
        self._terms: list[SimpleNamespace] = []

    def ask(self, count: int) -> Array:
        """One screen."""
        situation = Situation(self._d, None if self._random else self.model.fitted)
        screen = np.stack([proposed.latent for proposed in self._proposal.propose(situation, count, self._rng)])
        number = self._screens[-1] + 1 if self._screens else 1
        self._latents = np.concatenate([self._latents, screen])
        self._screens += [number] * count
        return screen.astype(np.float64)

    def chance(self) -> float:
        """P(good) of the image that is judged next; NaN where the model does not say."""
        row = len(self._terms)
        fitted = self.model.fitted
        if fitted is None:
            return 0.5
        return float(fitted.predict(self._latents[row : row + 1], self._screens[row])[0])

    def tell(self, good: bool) -> None:
        """One answer."""
        row = len(self._terms)
        self._terms.append(SimpleNamespace(kind="rate", rows=(row,), value=int(good), weight=1.0, screen=self._screens[row]))
        known = row + 1
        self.model.add(SimpleNamespace(latents=self._latents[:known], screen=np.array(self._screens[:known]), terms=self._terms))

    def best(self, found: Array) -> Array:
        """The extrapolated mean."""
        direction = self.model.direction()
        return found if direction is None else finished(direction, Situation(self._d), "best").latent.astype(np.float64)

    def gain(self) -> float:
        """Expected gain of 20 more answers."""
        fitted: Any = self.model.fitted
        return float(fitted.advice(20, tempered.angle(fitted)).gain)


class Random:
    """Noise; the best of what was shown is kept."""

    def __init__(self, d: int, rng: np.random.Generator) -> None:
        self._d, self._rng = d, rng

    def ask(self, count: int) -> Array:
        """One screen."""
        return np.asarray(on_sphere(self._rng.standard_normal((count, self._d))))

    def tell(self, good: bool) -> None:
        """Nothing is learned."""

    def best(self, found: Array) -> Array:
        """The best that was seen."""
        return found


class Legacy(Random):
    """The sampler of an earlier system."""

    def __init__(self, d: int, rng: np.random.Generator) -> None:
        super().__init__(d, rng)
        self._situation = Situation(d, anchor=rng.standard_normal(d))

    def ask(self, count: int) -> Array:
        """One screen."""
        proposed = propose.make("legacy").propose(self._situation, count, self._rng)
        return np.stack([one.latent for one in proposed]).astype(np.float64)


class MeanOfGoods:
    """The mean of what was called good, put on the sphere, at the greedy angle."""

    def __init__(self, d: int, rng: np.random.Generator) -> None:
        self._rng, self._sum, self._screen, self._next = rng, np.zeros(d), np.zeros((0, d)), 0

    def ask(self, count: int) -> Array:
        """One screen."""
        noise = self._rng.standard_normal((count, len(self._sum)))
        if np.any(self._sum):
            unit = self._sum / np.linalg.norm(self._sum)
            noise -= np.outer(noise @ unit, unit)
            noise /= np.linalg.norm(noise, axis=1, keepdims=True)
            noise = math.cos(tempered.UNKNOWN) * unit + math.sin(tempered.UNKNOWN) * noise
        self._screen, self._next = np.asarray(on_sphere(noise)), 0
        return self._screen

    def tell(self, good: bool) -> None:
        """Goods are added up."""
        self._sum += good * self._screen[self._next]
        self._next += 1

    def best(self, found: Array) -> Array:
        """The mean."""
        return np.asarray(on_sphere(self._sum)) if np.any(self._sum) else found


class AbsoluteRidge(MeanOfGoods):
    """Ridge regression on +1 and -1 as they are, without a constant; at the greedy angle.

    Parameters
    ----------
    penalty : float, optional
        In units of a latent's kernel; without it the one of least leave-one-out error.
    """

    PENALTIES = np.logspace(-3, 3, 13)

    def __init__(self, d: int, rng: np.random.Generator, penalty: float | None = None) -> None:
        super().__init__(d, rng)
        self._penalties = self.PENALTIES if penalty is None else np.array([penalty])
        self._rows: list[Array] = []
        self._answers: list[float] = []

    def tell(self, good: bool) -> None:
        """Fitted anew."""
        self._rows.append(self._screen[self._next])
        self._answers.append(1.0 if good else -1.0)
        self._next += 1
        rows, answers = np.stack(self._rows), np.array(self._answers)
        self._sum = rows.T @ self._dual(rows @ rows.T / rows.shape[1], answers)

    def _dual(self, kernel: Array, answers: Array) -> Array:
        best, least = answers, math.inf
        for penalty in self._penalties:
            inverse = np.linalg.inv(kernel + penalty * np.eye(len(kernel)))
            dual = inverse @ answers
            error = float(((dual / np.diag(inverse)) ** 2).sum())
            if error < least:
                best, least = dual, error
        return best


class AbsoluteLogistic(AbsoluteRidge):
    """Logistic regression without a threshold, the prior spread of the logit 3 as in the package's own; at the greedy angle."""

    def _dual(self, kernel: Array, answers: Array) -> Array:
        kernel, dual = 9 * kernel, np.zeros(len(answers))
        for _ in range(30):
            logit = kernel @ dual
            bend = np.maximum(expit(logit) * expit(-logit), 1e-9)
            dual = dual + np.linalg.solve(kernel + np.diag(1 / bend), (answers * expit(-answers * logit) - dual) / bend)
        return dual


class SeparableCma:
    """CMA-ES with a diagonal covariance, a good answer worth more than a bad one."""

    def __init__(self, d: int, rng: np.random.Generator) -> None:
        import cma

        options = {"CMA_diagonal": True, "seed": int(rng.integers(1, 2**31)), "verbose": -9}
        self._strategy = cma.CMAEvolutionStrategy(np.zeros(d), 1.0, options)
        self._waiting: list[Array] = []
        self._asked: list[Array] = []
        self._generation: list[tuple[Array, float]] = []

    def ask(self, count: int) -> Array:
        """One screen, of this generation and the next."""
        taken = []
        for _ in range(count):
            if not self._waiting:
                self._waiting = list(self._strategy.ask())
            taken.append(self._waiting.pop(0))
        self._asked = list(taken)
        return np.asarray(on_sphere(np.stack(taken)))

    def tell(self, good: bool) -> None:
        """A generation is told when it is whole."""
        self._generation.append((self._asked.pop(0), -float(good)))
        if len(self._generation) == self._strategy.popsize:
            self._strategy.tell(*map(list, zip(*self._generation, strict=True)))
            self._generation = []

    def best(self, found: Array) -> Array:
        """The mean of the strategy; before its first generation, the best that was seen."""
        mean = self._strategy.mean
        return np.asarray(on_sphere(mean)) if np.any(mean) else found


class SubspaceGp:
    """BoTorch's PairwiseGP in a random subspace: goods against bads; Thompson sampling over 512 draws."""

    def __init__(self, d: int, rng: np.random.Generator) -> None:
        import botorch

        self._botorch = botorch
        self._rng = rng
        self._basis = np.linalg.qr(rng.standard_normal((d, SUBSPACE)))[0]
        self._points: list[Array] = []
        self._answers: list[bool] = []
        self._model: Any = None

    def ask(self, count: int) -> Array:
        """One screen."""
        self._fit()
        drawn = self._rng.standard_normal((512, SUBSPACE))
        chosen = drawn[:count] if self._model is None else drawn[self._draws(drawn, count).argmax(axis=1)]
        self._points += list(chosen)
        return np.asarray(on_sphere(chosen @ self._basis.T))

    def tell(self, good: bool) -> None:
        """Kept for the next screen's fit."""
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

        told = self._answers
        pairs = [pair for index in range(len(told)) for pair in _against(told, index)]
        if not pairs:
            return
        points = torch.tensor(_cube(np.stack(self._points[: len(told)])), dtype=torch.float64)
        self._model = PairwiseGP(points, torch.tensor(pairs))
        self._botorch.fit.fit_gpytorch_mll(PairwiseLaplaceMarginalLogLikelihood(self._model.likelihood, self._model))

    def _posterior(self, places: Array) -> Any:
        import torch

        return self._model.posterior(torch.tensor(_cube(places), dtype=torch.float64))

    def _draws(self, places: Array, count: int) -> Array:
        import torch

        with torch.no_grad():
            return np.asarray(self._posterior(places).rsample(torch.Size([count]))[..., 0])


class SubspaceOptuna:
    """The preferential sampler of optuna-dashboard in a random subspace; goods against bads among the four before."""

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
        """One screen."""
        taken = [self._study.ask() for _ in range(count)]
        places = [[trial.suggest_float(f"x{axis}", 1e-3, 1 - 1e-3) for axis in range(SUBSPACE)] for trial in taken]
        self._trials += taken
        return self._latents(np.array(places))

    def tell(self, good: bool) -> None:
        """Reported against those before it."""
        self._answers.append(good)
        trials = self._study.get_trials(deepcopy=False)
        for better, worse in _against(self._answers, len(self._answers) - 1):
            self._study.report_preference(trials[self._trials[better].number], trials[self._trials[worse].number])

    def best(self, found: Array) -> Array:
        """The last of those that nothing was preferred to."""
        standing = self._study.best_trials
        if not standing:
            return found
        last = max(standing, key=lambda trial: trial.number)
        return np.asarray(self._latents(np.array([[last.params[f"x{axis}"] for axis in range(SUBSPACE)]]))[0])

    def _latents(self, places: Array) -> Array:
        return np.asarray(on_sphere(ndtri(places) @ self._basis.T))


def _against(told: list[bool], index: int) -> list[tuple[int, int]]:
    """Pairs (better, worse) of an answer with those of the four before it that were of the other kind."""
    return [(index, j) if told[index] else (j, index) for j in range(max(0, index - 4), index) if told[index] != told[j]]


def _cube(places: Array) -> Array:
    """Normal places as numbers from 0 to 1."""
    return np.asarray(ndtr(places))


METHODS: dict[str, Callable[[int, np.random.Generator], Method]] = {
    "diptych": lambda d, rng: Learned(d, rng, "contrastive"),
    "random best-of-n": Random,
    "legacy": Legacy,
    "mean of goods": MeanOfGoods,
    "ridge, penalty 0.001": lambda d, rng: AbsoluteRidge(d, rng, 1e-3),
    "ridge, absolute": AbsoluteRidge,
    "logistic, absolute": AbsoluteLogistic,
    "xgboost, absolute": lambda d, rng: Learned(d, rng, "xgboost"),
    "separable CMA-ES": SeparableCma,
    "PairwiseGP, 16-d": SubspaceGp,
    "Optuna preferential, 16-d": SubspaceOptuna,
    "own ridge (reference)": lambda d, rng: Learned(d, rng, "ridge"),
    "own logistic (reference)": lambda d, rng: Learned(d, rng, "logistic"),
    "random design (reference)": lambda d, rng: Learned(d, rng, "ridge", random=True),
}
NEEDS = {
    "xgboost, absolute": ("xgboost",),
    "separable CMA-ES": ("cma",),
    "PairwiseGP, 16-d": ("botorch",),
    "Optuna preferential, 16-d": ("optuna", "optuna_dashboard"),
}
"""Packages that some rivals need."""
