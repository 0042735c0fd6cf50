"""Saturated counts as lower limits: the gradient, what stays masked, and the image of clipped scans."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import diptych
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, MaximumLikelihood, joined
from diptych.ptycho.engines.problem import make_problem
from diptych.ptycho.prepare.pixels import find_limit


def clipped(case: Any, limit: float) -> Any:
    scan = case.scan
    return replace(scan, counts=np.minimum(scan.counts, limit), mask=scan.counts < limit)


@pytest.mark.parametrize("poisson", [True, False], ids=["poisson", "amplitude"])
def test_gradient_by_finite_differences(make_case: Any, poisson: bool) -> None:
    case = make_case(modes=2, subpixel=True)
    scan = clipped(case, 2000.0)
    assert find_limit(scan) == 2000
    make: dict[str, Any] = {"device": torch.device("cpu"), "double": True, "subpixel": True, "seed": 3}
    problem = make_problem(scan, held_out=0.02, limit=2000.0, **make)
    assert problem.limits is not None
    assert 0 < int(problem.limits.where.sum()) < int((~scan.mask).sum()), "held-out pixels are not fitted"
    rng = np.random.default_rng(1)
    point = [
        x * (1 + 0.2 * torch.from_numpy(rng.normal(size=x.shape) + 1j * rng.normal(size=x.shape)))
        for x in (case.image, case.probe)
    ]
    settings = LikelihoodSettings(batch=7, poisson=poisson)
    engine = MaximumLikelihood(problem, point[0], point[1], settings)
    masked = MaximumLikelihood(replace(problem, limits=None), point[0], point[1], settings)
    assert engine.loss > masked.loss
    assert engine._fit == masked._fit, "the fit is that of the counts that are known"
    change = [torch.from_numpy(rng.normal(size=x.shape) + 1j * rng.normal(size=x.shape)) for x in point]
    change[1] *= float(point[1].abs().max())
    h = 1e-6
    up, down = (
        engine._evaluate(joined([x + s * h * d for x, d in zip(point, change, strict=True)]))[0] for s in (1, -1)
    )
    gradient = engine._parts(engine._gradient)
    slope = 2 * sum(float(torch.vdot(g.flatten(), d.flatten()).real) for g, d in zip(gradient, change, strict=True))
    assert (up - down) / (2 * h) == pytest.approx(slope, rel=2e-4)


def test_pixels_masked_for_another_reason_are_no_limits(make_case: Any) -> None:
    """A pixel that is masked in every frame is bad, and a single large masked count an event."""
    scan = make_case().scan
    counts, mask = scan.counts.copy(), np.ones(scan.counts.shape, bool)
    counts[:, 3, 4], mask[:, 3, 4] = 1e7, False
    assert find_limit(replace(scan, counts=counts, mask=mask)) is None
    counts[2, 5, 5], mask[2, 5, 5] = 1e6, False
    assert find_limit(replace(scan, counts=counts, mask=mask)) is None
    assert find_limit(replace(scan, counts=counts, mask=mask[0])) is None


def test_the_option_brings_the_limits_to_the_engine(caplog: pytest.LogCaptureFixture) -> None:
    full = diptych.simulate(size=16, patterns=36, step=2.0, dose=1e5, probe_error=0.5, seed=3)
    scan = replace(full, counts=np.minimum(full.counts, full.counts.max() // 10))
    with caplog.at_level(logging.INFO, "diptych"):
        masked, limited = (diptych.reconstruct(scan, epochs=25, saturated=how) for how in ("auto", "limit"))
    assert "are lower limits in the maximum-likelihood stage" in caplog.text
    # At least as much light as the limits say: the mask alone leaves less.
    light = [float(np.sum(np.abs(each.object.values) ** 2 * each.illumination)) for each in (masked, limited)]
    assert light[1] > light[0]
    assert np.abs(limited.object.values - masked.object.values).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.02, 0.1, 0.4])
def test_limits_are_no_worse_than_a_mask(share: float) -> None:
    """At several saturation values, as shares of the largest count; the mask loses what k >= s says."""
    full = diptych.simulate(size=32, patterns=100, dose=1e5, seed=3)
    scan = diptych.simulate(size=32, patterns=100, dose=1e5, seed=3, saturation=int(full.counts.max() * share))

    def error(saturated: str) -> float:
        result = diptych.reconstruct(scan, saturated=saturated)
        assert np.isfinite(result.provenance["held_out_fit"])
        return float(diptych.evaluate(result, truth=scan.truth)["complex_error"])

    assert error("limit") <= 1.03 * error("auto")
