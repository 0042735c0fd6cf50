"""Preference-learning methods with a common interface (ask, tell, best): diptych's and those it is compared with."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from subspace import SubspaceGp, SubspaceOptuna

from diptych.prefer import propose, utility
from diptych.prefer.propose import Situation, finished, tempered
from diptych.prefer.spaces.sphere import on_sphere

Array = NDArray[np.float64]


class Method(Protocol):
    """A method."""

    def ask(self, count: int) -> Array:
        """Latents (count, d) of the next screen."""
        ...

    def tell(self, good: bool) -> None:
        """Record the answer to the next latent of the screen."""
        ...

    def best(self, found: Array) -> Array:
        """The latent (d,) that is recommended; ``found`` is the best of those shown."""
        ...


class Learned:
    """A utility model and a proposal of diptych.

    Parameters
    ----------
    d : int
    rng : Generator
    model, proposal : str
    random : bool
        Show random latents, whatever was learned.
    """

    def __init__(
        self, d: int, rng: np.random.Generator, model: str, proposal: str = "tempered", random: bool = False
    ) -> None:
        self._d, self._rng, self._random = d, rng, random
        self.model, self._proposal = utility.make_utility(model), propose.make_proposal(proposal)
        self._latents = np.zeros((0, d), np.float32)
        self._screens: list[int] = []
        self._terms: list[SimpleNamespace] = []

    def ask(self, count: int) -> Array:
        """Latents of the next screen."""
        situation = Situation(self._d, None if self._random else self.model.fitted)
        screen = np.stack([proposed.latent for proposed in self._proposal.propose(situation, count, self._rng)])
        number = self._screens[-1] + 1 if self._screens else 1
        self._latents = np.concatenate([self._latents, screen])
        self._screens += [number] * count
        return screen.astype(np.float64)

    def chance(self) -> float:
        """P(good) of the image that is judged next; NaN where the model does not predict it."""
        row = len(self._terms)
        fitted = self.model.fitted
        if fitted is None:
            return 0.5
        return float(fitted.predict(self._latents[row : row + 1], self._screens[row])[0])

    def tell(self, good: bool) -> None:
        """Record one answer and update the fit."""
        row = len(self._terms)
        self._terms.append(
            SimpleNamespace(kind="rate", rows=(row,), value=int(good), weight=1.0, screen=self._screens[row])
        )
        known = row + 1
        self.model.add(
            SimpleNamespace(latents=self._latents[:known], screen=np.array(self._screens[:known]), terms=self._terms)
        )

    def best(self, found: Array) -> Array:
        """The extrapolated posterior mean."""
        if self.model.fitted is None:
            return found
        direction = self.model.fitted.direction()
        return finished(direction, Situation(self._d), "best").latent.astype(np.float64)

    def gain(self) -> float:
        """Expected gain of 20 more answers."""
        fitted: Any = self.model.fitted
        return float(fitted.advice(20, tempered.angle(fitted)).gain)


class Random:
    """Random latents; recommends the best of those shown."""

    def __init__(self, d: int, rng: np.random.Generator) -> None:
        self._d, self._rng = d, rng

    def ask(self, count: int) -> Array:
        """Latents of the next screen."""
        return np.asarray(on_sphere(self._rng.standard_normal((count, self._d))))

    def tell(self, good: bool) -> None:
        """Ignore the answer."""

    def best(self, found: Array) -> Array:
        """The best latent shown."""
        return found


class Legacy(Random):
    """The sampler of an earlier system."""

    def __init__(self, d: int, rng: np.random.Generator) -> None:
        super().__init__(d, rng)
        self._situation = Situation(d, anchor=rng.standard_normal(d))

    def ask(self, count: int) -> Array:
        """Latents of the next screen."""
        proposed = propose.make_proposal("legacy").propose(self._situation, count, self._rng)
        return np.stack([one.latent for one in proposed]).astype(np.float64)


class MeanOfGoods:
    """The mean of the latents judged good, projected to the sphere; proposals at the greedy angle."""

    def __init__(self, d: int, rng: np.random.Generator) -> None:
        self._rng, self._sum, self._screen, self._next = rng, np.zeros(d), np.zeros((0, d)), 0

    def ask(self, count: int) -> Array:
        """Latents of the next screen."""
        noise = self._rng.standard_normal((count, len(self._sum)))
        if np.any(self._sum):
            unit = self._sum / np.linalg.norm(self._sum)
            noise -= np.outer(noise @ unit, unit)
            noise /= np.linalg.norm(noise, axis=1, keepdims=True)
            noise = math.cos(tempered.UNKNOWN) * unit + math.sin(tempered.UNKNOWN) * noise
        self._screen, self._next = np.asarray(on_sphere(noise)), 0
        return self._screen

    def tell(self, good: bool) -> None:
        """Add a good latent to the sum."""
        self._sum += good * self._screen[self._next]
        self._next += 1

    def best(self, found: Array) -> Array:
        """The projected mean."""
        return np.asarray(on_sphere(self._sum)) if np.any(self._sum) else found


class AbsoluteRidge(MeanOfGoods):
    """Ridge regression on +1 and -1 without a constant; proposals at the greedy angle.

    Parameters
    ----------
    penalty : float, optional
        In units of the kernel of a latent; when not given, the one of least leave-one-out error.
    """

    PENALTIES = np.logspace(-3, 3, 13)

    def __init__(self, d: int, rng: np.random.Generator, penalty: float | None = None) -> None:
        super().__init__(d, rng)
        self._penalties = self.PENALTIES if penalty is None else np.array([penalty])
        self._rows: list[Array] = []
        self._answers: list[float] = []

    def tell(self, good: bool) -> None:
        """Fit again."""
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
    """Logistic regression without a threshold; prior standard deviation of the logit 3; greedy angle."""

    def _dual(self, kernel: Array, answers: Array) -> Array:
        kernel, dual = 9 * kernel, np.zeros(len(answers))
        for _ in range(30):
            logit = kernel @ dual
            bend = np.maximum(expit(logit) * expit(-logit), 1e-9)
            dual = dual + np.linalg.solve(kernel + np.diag(1 / bend), (answers * expit(-answers * logit) - dual) / bend)
        return dual


class SeparableCma:
    """CMA-ES with a diagonal covariance; a good answer has the lower cost."""

    def __init__(self, d: int, rng: np.random.Generator) -> None:
        import cma

        options = {"CMA_diagonal": True, "seed": int(rng.integers(1, 2**31)), "verbose": -9}
        self._strategy = cma.CMAEvolutionStrategy(np.zeros(d), 1.0, options)
        self._waiting: list[Array] = []
        self._asked: list[Array] = []
        self._generation: list[tuple[Array, float]] = []

    def ask(self, count: int) -> Array:
        """Latents of the next screen, from this generation and the next."""
        taken = []
        for _ in range(count):
            if not self._waiting:
                self._waiting = list(self._strategy.ask())
            taken.append(self._waiting.pop(0))
        self._asked = list(taken)
        return np.asarray(on_sphere(np.stack(taken)))

    def tell(self, good: bool) -> None:
        """Update the strategy when a generation is complete."""
        self._generation.append((self._asked.pop(0), -float(good)))
        if len(self._generation) == self._strategy.popsize:
            self._strategy.tell(*map(list, zip(*self._generation, strict=True)))
            self._generation = []

    def best(self, found: Array) -> Array:
        """The mean of the strategy; before the first generation, the best latent shown."""
        mean = self._strategy.mean
        return np.asarray(on_sphere(mean)) if np.any(mean) else found


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
"""Packages that some methods need."""
