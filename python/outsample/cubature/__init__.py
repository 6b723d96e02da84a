"""Offline fitting of empirical cubature: labels, choice of points, training of points and readout."""

from outsample.cubature.fit import DEFAULT_NETWORKS, DEFAULT_NOISE, DEFAULT_SIZES, Effort, effort, fit_cubature

__all__ = ["DEFAULT_NETWORKS", "DEFAULT_NOISE", "DEFAULT_SIZES", "Effort", "effort", "fit_cubature"]
