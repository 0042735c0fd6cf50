"""The forward model of a thick sample: slices that each multiply the wave, with free propagation between them.

::

    psi_1 = P O_1,   psi_{s+1} = O_{s+1} A_z psi_s,   lambda = |A psi_S|^2 + b

O_1 is where the beam enters. A_z is the Fresnel propagation over the distance z between two slices, and A that from the
last slice to the detector (multislice: Cowley and Moodie, Acta Cryst. 10, 609, 1957; in ptychography: Maiden, Humphry
and Rodenburg, J. Opt. Soc. Am. A 29, 1606, 2012). The gradients are the adjoints of these steps, in reverse order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.physics.forward import ForwardModel, Views, exit_waves
from diptych.ptycho.physics.patches import gather
from diptych.ptycho.physics.propagators import NearField
from diptych.ptycho.physics.thick.spacing import scale_of

if TYPE_CHECKING:
    from diptych.ptycho.geometry import Geometry


@dataclass(frozen=True, eq=False)
class SlicedViews(Views):
    """:class:`~diptych.ptycho.physics.forward.Views` of S slices; ``patches`` and ``modes`` are those of the first.

    Parameters
    ----------
    layers : tuple of (B, N, N) complex tensors
        Each slice in the windows.
    incident : tuple of (B or 1, P, N, N) complex tensors
        The wave that falls on each slice.
    """

    layers: tuple[Tensor, ...] = ()
    incident: tuple[Tensor, ...] = ()

    def exit_waves(self) -> Tensor:
        """The wave behind the last slice, (B, P, N, N)."""
        return exit_waves(self.incident[-1], self.layers[-1])


@dataclass(eq=False)
class SlicedForward(ForwardModel):
    """The forward model of slices (S, H, W); of one object (H, W) it is the :class:`ForwardModel` that it extends.

    Parameters
    ----------
    between : NearField or None
        Propagation from one slice to the next.
    """

    between: NearField | None = None

    @classmethod
    def of(cls, forward: ForwardModel, between: NearField) -> SlicedForward:
        """A forward model whose object may have slices."""
        return cls(**{each.name: getattr(forward, each.name) for each in fields(ForwardModel)}, between=between)

    def views(self, image: Tensor, probe: Tensor, batch: NDArray[np.int64], fractions: Tensor | None = None) -> Views:
        """Windows of the slices, and the waves that fall on them; see :meth:`ForwardModel.views`."""
        if image.ndim == 2:
            return super().views(image, probe, batch, fractions)
        first = super().views(image[0], probe, batch, fractions)
        layers = (first.patches, *(gather(each, self.corners[batch], self.size) for each in image[1:]))
        incident = [first.modes]
        for layer in layers[:-1]:
            incident.append(self._on(exit_waves(incident[-1], layer)))
        return SlicedViews(
            batch, first.patches, first.modes, first.ramps, first.spectrum, layers=layers, incident=tuple(incident)
        )

    def add_object_adjoint(self, views: Views, waves: Tensor, canvas: Tensor) -> None:
        """Add the adjoint of ``slices -> exit waves``, linearised at ``views``, to ``canvas`` (S, H, W) in place.

        Overwrites ``waves`` (B, P, N, N) with those behind the first slice, which the adjoints of the probe and of the
        shifts take.
        """
        if not isinstance(views, SlicedViews):
            super().add_object_adjoint(views, waves, canvas)
            return
        assert self.between is not None
        for s in reversed(range(len(views.layers))):
            super().add_object_adjoint(replace(views, modes=views.incident[s]), waves, canvas[s])
            if s:
                waves.mul_(views.layers[s].conj_physical()[:, None])
                waves.copy_(self.between.adjoint(waves))

    def transparency(self, image: Tensor) -> Tensor:
        """Sum over patterns of |O|^2 in the window, (N, N) real; of slices, that of their product."""
        return super().transparency(image if image.ndim == 2 else image.prod(0))

    def probes(self, probe: Tensor, slices: int) -> list[Tensor]:
        """The probe (P, N, N) in the plane of each slice, as it would be without a sample."""
        wave, found = self.propagator.enter(probe), [probe]
        for _ in range(slices - 1):
            wave = self._on(wave)
            found.append(self.propagator.leave(wave.clone()))
        return found

    def _on(self, waves: Tensor) -> Tensor:
        """Entered waves (..., N, N) in the plane of the next slice."""
        assert self.between is not None
        return self.between.forward(waves)


def between_slices(
    geometry: Geometry | None, size: int, distance_m: float, dtype: torch.dtype, device: torch.device, where: str
) -> NearField:
    """Propagation over the distance between two slices, at the object pixel of the geometry.

    Raises
    ------
    InputError
        If the geometry does not state the object pixel and the wavelength; ``where`` names what asked.
    """
    wavelength, pixel = scale_of(geometry, size, where)
    return NearField.over(distance_m, wavelength, pixel, size, dtype, device)


def shared_out(image: Tensor, light: Tensor, slices: int) -> Tensor:
    """An object (H, W) shared out evenly: slices (S, H, W), all equal, whose product it is.

    Each is the S-th root. The phase is continued from pixel to pixel where light fell, before it is divided: a jump of
    2 pi would become an edge of 2 pi / S in every slice.

    Parameters
    ----------
    image : (H, W) complex tensor
        The object.
    light : (H, W) tensor
        Illumination; the darker pixels, below a tenth of the strongest, keep their phase in (-pi, pi].
    slices : int
        S.
    """
    middle = torch.angle((image * light).sum())
    phase = torch.angle(image * torch.polar(torch.ones_like(middle), -middle)).double().cpu().numpy()
    phase = continued_phase(phase, (light > 0.1 * light.max()).cpu().numpy())
    whole = torch.from_numpy(phase).to(image.device) + middle.double()
    root = torch.polar(image.abs().double() ** (1 / slices), whole / slices).to(image.dtype)
    return root[None].repeat(slices, 1, 1)


def continued_phase(phase: NDArray[np.float64], lit: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A phase map (H, W) without jumps of 2 pi between neighbours in ``lit``; as it is where it has none."""
    jumps = [np.abs(np.diff(phase, axis=axis)) > math.pi for axis in (0, 1)]
    inside = [lit[1:] & lit[:-1], lit[:, 1:] & lit[:, :-1]]
    if not any((jump & both).any() for jump, both in zip(jumps, inside, strict=True)):
        return phase
    from skimage import restoration

    unwrap: Any = restoration.unwrap_phase
    found = unwrap(np.ma.masked_array(phase, ~lit), rng=0)
    # Whole turns only, so that the wave stays the same.
    turns = np.rint((np.asarray(found.filled(0.0)) - phase) / (2 * math.pi))
    return np.asarray(phase + 2 * math.pi * np.where(lit, turns, 0.0))


def evened_out(slices: Tensor, weights: Tensor) -> Tensor:
    """Slices (S, H, W) with one mean log modulus and one mean phase in all; their product stays.

    The counts leave a factor of each slice free, as long as that of their product is 1.

    Parameters
    ----------
    slices : (S, H, W) complex tensor
        The slices.
    weights : (S, H, W) tensor
        Illumination of each.
    """
    shares = (weights / weights.sum((-2, -1), keepdim=True)).double()
    modulus = (shares * slices.abs().double().clamp(min=1e-6).log()).sum((-2, -1))
    phase = torch.angle((shares * slices).sum((-2, -1)))
    factors = torch.polar((modulus.mean() - modulus).exp(), phase.mean() - phase)
    return (slices * factors[:, None, None]).to(slices.dtype)
