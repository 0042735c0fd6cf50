"""One compiled pass over a batch of patterns: loss and gradients without a step back to Python.

For far-field patterns of the sizes of :mod:`~diptych.ptycho.physics.compiled.transform`. Each pattern is processed from
its exit wave to its share of the gradients while it is in the cache. Importing this module needs Numba and pyFFTW.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.physics.compiled.fftw import aligned
from diptych.ptycho.physics.compiled.kernels import LEAST_COUNTS, Reals, Waves, compiled_function, logarithm, spread
from diptych.ptycho.physics.compiled.transform import Transform, base_of, fft2, transform
from diptych.ptycho.physics.frame_factors import LEAST, MOST

__all__ = ["Denominators", "Patterns", "Point", "Rule", "Sums", "base_of", "likelihood_pass", "projection_pass", "work"]


class Patterns(NamedTuple):
    """What was measured; M patterns.

    ``masked`` is uint8, (0, N, N), (1, N, N) or (M, N, N): not 0 at pixels without a weight. ``held`` (M, h) are flat
    indices of more of them, ``watched`` (M, w) of pixels whose expected counts are kept, as those of ``held`` are.
    ``background`` is (0, N, N) or (1, N, N). ``factors`` of the intensity are fitted and written, (M,), or (0,).
    ``down`` and ``along`` are the shares of the light of a pixel that its neighbours along y and x get, at distances
    from 0 on, (r + 1,), both (0,) where a detector has no point spread.
    """

    corners: NDArray[np.int64]
    counts: Reals
    masked: NDArray[np.uint8]
    held: NDArray[np.int64]
    watched: NDArray[np.int64]
    background: Reals
    factors: Reals
    down: Reals
    along: Reals


class Point(NamedTuple):
    """Where the pass is made.

    The object is (H, W). With shifts, ``ramps`` (B, 2, N) are the factors of the spectra ``spectrum`` (P, N, N) of the
    modes for each pattern of the batch, 1 / N^2 included, and ``frequency`` (N,) is cycles per pixel; without, ramps
    are (0, 2, N).
    """

    image: Waves
    spectrum: Waves
    ramps: Waves
    frequency: NDArray[np.float64]


class Sums(NamedTuple):
    """What the pass adds to, or writes.

    ``image`` (H, W): gradient. ``modes`` (P, N, N): the conjugate of that of the modes; with shifts, its inverse FFT.
    ``shifts`` (B, 2): derivatives along y and x, or (0, 2). ``watched`` and ``held``, (M, w) and (M, h): expected
    counts.
    """

    image: Waves
    modes: Waves
    shifts: NDArray[np.float64]
    watched: Reals
    held: Reals


class Work(NamedTuple):
    """Memory for one pattern, aligned for FFTW, and what its FFTs need.

    ``waves`` and ``shifted``, the modes as they multiply the object, are (P, N, N); ``expected`` and ``weights`` are
    (N, N).
    """

    waves: Waves
    shifted: Waves
    expected: Reals
    weights: Reals
    by: Transform


class Rule(NamedTuple):
    """How PIE changes amplitudes: by ``step`` times the Poisson ratio with ``dark`` counts on both sides, less 1 and at
    most ``largest``, or times the ratio of the amplitudes, less 1.
    """

    poisson: bool
    dark: np.float32
    largest: np.float32
    step: np.float32


class Denominators(NamedTuple):
    """Of PIE's updates. ``light`` (N, N), the sum over modes of |P|^2, is added to ``lit`` (H, W) in each window, |O|^2
    in the window to ``seen``, (N, N), or (0, 0) where the probe is not updated.
    """

    light: Reals
    lit: Reals
    seen: Reals


def work(count: int, size: int) -> Work:
    """Memory for passes with ``count`` modes of ``size`` x ``size`` px."""
    real = np.empty((2, size, size), np.float32)
    return Work(aligned(count, size, size), aligned(count, size, size), real[0], real[1], transform(size))


@compiled_function
def _exit_waves(patterns: Patterns, point: Point, work: Work, m: int, b: int) -> None:
    """The modes as they are shifted for pattern m, in ``work.shifted``; fields at the detector times N in
    ``work.waves``.
    """
    size, y, x = work.expected.shape[0], patterns.corners[m, 0], patterns.corners[m, 1]
    for p in range(work.waves.shape[0]):
        shifted, wave = work.shifted[p], work.waves[p]
        if point.ramps.shape[0] > 0:
            along = point.ramps[b, 1]
            for i in range(size):
                row, spectrum, across = shifted[i], point.spectrum[p, i], point.ramps[b, 0, i]
                for j in range(size):
                    row[j] = spectrum[j] * (across * along[j])
            fft2(shifted, work.by, False)
        for i in range(size):
            row, mode, patch = wave[i], shifted[i], point.image[y + i, x : x + size]
            for j in range(size):
                row[j] = mode[j] * patch[j]
        fft2(wave, work.by, True)


@compiled_function
def _expect(patterns: Patterns, work: Work, m: int) -> np.float32:
    """Expected counts of pattern m in ``work.expected``, from fields that are N times too large; returns the factor of
    its intensity.
    """
    size = work.expected.shape[0]
    scale = np.float32(1) / np.float32(size * size)
    for i in range(size):
        row = work.expected[i]
        for p in range(work.waves.shape[0]):
            wave = work.waves[p, i]
            for j in range(size):
                light = scale * (wave[j].real * wave[j].real + wave[j].imag * wave[j].imag)
                row[j] = light if p == 0 else row[j] + light
    if patterns.down.shape[0] > 0:
        spread(work.expected, patterns.down, patterns.along, work.weights)
    factor = np.float32(1)
    if patterns.factors.shape[0] > 0:
        factor = _factor(patterns, work.expected, m)
        patterns.factors[m] = factor
        for i in range(size):
            for j in range(size):
                work.expected[i, j] *= factor
    if patterns.background.shape[0] > 0:
        for i in range(size):
            for j in range(size):
                work.expected[i, j] += patterns.background[0, i, j]
    return factor


@compiled_function
def _factor(patterns: Patterns, plain: Reals, m: int) -> np.float32:
    """The most likely factor of a pattern whose counts would be ``plain`` (N, N) without background: the ratio of the
    totals over the fitted pixels.
    """
    size, held = plain.shape[0], patterns.held[m]
    measured, predicted = 0.0, 0.0
    for i in range(size):
        for j in range(size):
            measured += np.float64(_signal(patterns, m, i, j))
            predicted += np.float64(plain[i, j])
    if patterns.masked.shape[0] > 0:
        masked = patterns.masked[m if patterns.masked.shape[0] > 1 else 0]
        for i in range(size):
            for j in range(size):
                if masked[i, j]:
                    measured -= np.float64(_signal(patterns, m, i, j))
                    predicted -= np.float64(plain[i, j])
    for h in range(held.shape[0]):
        i, j = held[h] // size, held[h] % size
        if patterns.masked.shape[0] == 0 or not patterns.masked[m if patterns.masked.shape[0] > 1 else 0, i, j]:
            measured -= np.float64(_signal(patterns, m, i, j))
            predicted -= np.float64(plain[i, j])
    return np.float32(min(max(measured / max(predicted, 1e-30), LEAST), MOST))


@compiled_function
def _signal(patterns: Patterns, m: int, i: int, j: int) -> np.float32:
    shown = patterns.background[0, i, j] if patterns.background.shape[0] > 0 else np.float32(0)
    return np.float32(patterns.counts[m, i, j] - shown)


@compiled_function
def _keep(expected: Reals, pixels: NDArray[np.int64], out: Reals) -> None:
    size = expected.shape[0]
    for h in range(pixels.shape[0]):
        out[h] = expected[pixels[h] // size, pixels[h] % size]


@compiled_function
def _terms(patterns: Patterns, work: Work, m: int, dark: np.float32, factor: np.float32) -> float:
    """Sum of the loss over the fitted pixels of pattern m, whose intensity has a ``factor``; ``work.weights`` are those
    of its field, over N^2.
    """
    size, expected, weights = work.expected.shape[0], work.expected, work.weights
    ratio, logs = np.empty(size, np.float32), np.empty(size, np.float32)
    bits, scale = ratio.view(np.int32), factor / np.float32(size * size)
    for i in range(size):
        found, count, weight = expected[i], patterns.counts[m, i], weights[i]
        for j in range(size):
            predicted = found[j] + dark
            weight[j] = scale * (predicted - count[j]) / predicted
            ratio[j] = predicted / max(count[j], LEAST_COUNTS)
            found[j] = ratio[j] - np.float32(1)
        logarithm(ratio, bits, logs)
        for j in range(size):
            found[j] = (found[j] - logs[j]) * max(count[j], LEAST_COUNTS)
    _leave_out(patterns, expected, m)
    _leave_out(patterns, weights, m)
    loss = 0.0
    for i in range(size):
        found = expected[i]
        for j in range(size):
            loss += np.float64(found[j])
    return loss


@compiled_function
def _leave_out(patterns: Patterns, values: Reals, m: int) -> None:
    """Set the values (N, N) at the masked and the held-out pixels of pattern m to 0."""
    size, held = values.shape[0], patterns.held[m]
    if patterns.masked.shape[0] > 0:
        masked = patterns.masked[m if patterns.masked.shape[0] > 1 else 0]
        for i in range(size):
            for j in range(size):
                if masked[i, j]:
                    values[i, j] = np.float32(0)
    for h in range(held.shape[0]):
        values[held[h] // size, held[h] % size] = np.float32(0)


@compiled_function
def _steps(patterns: Patterns, work: Work, m: int, rule: Rule) -> None:
    """Relative change of each amplitude of a pattern over N^2, in ``work.weights``; see
    :meth:`diptych.ptycho.engines.pie.Pie`.
    """
    size = work.expected.shape[0]
    scale = rule.step / np.float32(size * size)
    for i in range(size):
        found, count, weight = work.expected[i], patterns.counts[m, i], work.weights[i]
        if rule.poisson:
            for j in range(size):
                ratio = (count[j] + rule.dark) / (found[j] + rule.dark) - np.float32(1)
                weight[j] = scale * min(max(ratio, np.float32(-1)), rule.largest)
        else:
            for j in range(size):
                ratio = max(count[j], np.float32(0)) / max(found[j], np.float32(1e-12))
                weight[j] = scale * (np.sqrt(ratio) - np.float32(1))
    _leave_out(patterns, work.weights, m)


@compiled_function
def _adjoints(patterns: Patterns, point: Point, sums: Sums, work: Work, m: int, b: int) -> None:
    """Add the share of pattern m to the gradients."""
    size, y, x = work.expected.shape[0], patterns.corners[m, 0], patterns.corners[m, 1]
    if patterns.down.shape[0] > 0:
        spread(work.weights, patterns.down, patterns.along, work.expected)
    for p in range(work.waves.shape[0]):
        wave = work.waves[p]
        for i in range(size):
            row, weight = wave[i], work.weights[i]
            for j in range(size):
                row[j] = row[j] * weight[j]
        fft2(wave, work.by, False)
        for i in range(size):
            row, mode, patch = wave[i], work.shifted[p, i], point.image[y + i, x : x + size]
            into = sums.image[y + i, x : x + size]
            for j in range(size):
                into[j] += row[j] * mode[j].conjugate()
                row[j] = row[j].conjugate() * patch[j]
        if point.ramps.shape[0] > 0:
            _unshift(point, sums, work, p, b)
        for i in range(size):
            row, into = wave[i], sums.modes[p, i]
            for j in range(size):
                into[j] += row[j]


@compiled_function
def _unshift(point: Point, sums: Sums, work: Work, p: int, b: int) -> None:
    """From the conjugate change of a mode, in ``work.waves``, to its spectrum as it was before the shift; the
    derivatives along the shift are added.
    """
    size, wave, across, along = work.expected.shape[0], work.waves[p], point.ramps[b, 0], point.ramps[b, 1]
    fft2(wave, work.by, False)
    for i in range(size):
        row, factor = wave[i], across[i]
        for j in range(size):
            row[j] = row[j] * (factor * along[j])
    if sums.shifts.shape[0] == 0:
        return
    turn = 2 * np.pi
    for i in range(size):
        row, spectrum = wave[i], point.spectrum[p, i]
        total, weighted = 0.0, 0.0
        for j in range(size):
            change = np.float64(row[j].real * spectrum[j].imag + row[j].imag * spectrum[j].real)
            total += change
            weighted += change * point.frequency[j]
        sums.shifts[b, 0] += turn * point.frequency[i] * total
        sums.shifts[b, 1] += turn * weighted


@compiled_function
def likelihood_pass(
    patterns: Patterns, point: Point, sums: Sums, work: Work, batch: NDArray[np.int64], dark: np.float32
) -> float:
    """Half the deviance of a batch (B,) of patterns, nats; its gradients are added to ``sums``. ``dark`` counts are
    added to the expected ones.
    """
    loss = 0.0
    for b in range(batch.shape[0]):
        m = batch[b]
        _exit_waves(patterns, point, work, m, b)
        factor = _expect(patterns, work, m)
        _keep(work.expected, patterns.watched[m], sums.watched[m])
        _keep(work.expected, patterns.held[m], sums.held[m])
        loss += _terms(patterns, work, m, dark, factor)
        _adjoints(patterns, point, sums, work, m, b)
    return loss


@compiled_function
def _add_denominators(patterns: Patterns, point: Point, under: Denominators, m: int) -> None:
    size, y, x = under.light.shape[0], patterns.corners[m, 0], patterns.corners[m, 1]
    for i in range(size):
        light, total = under.light[i], under.lit[y + i, x : x + size]
        for j in range(size):
            total[j] += light[j]
    for i in range(under.seen.shape[0]):
        patch, total = point.image[y + i, x : x + size], under.seen[i]
        for j in range(size):
            total[j] += patch[j].real * patch[j].real + patch[j].imag * patch[j].imag


@compiled_function
def projection_pass(
    patterns: Patterns,
    point: Point,
    sums: Sums,
    work: Work,
    batch: NDArray[np.int64],
    rule: Rule,
    under: Denominators,
) -> None:
    """The adjoints of the changes that ``rule`` makes to the fields of a batch (B,), added to ``sums``, and the
    denominators of the updates.
    """
    for b in range(batch.shape[0]):
        m = batch[b]
        _exit_waves(patterns, point, work, m, b)
        _expect(patterns, work, m)
        _keep(work.expected, patterns.watched[m], sums.watched[m])
        _keep(work.expected, patterns.held[m], sums.held[m])
        _steps(patterns, work, m, rule)
        _adjoints(patterns, point, sums, work, m, b)
        _add_denominators(patterns, point, under, m)
