"""Offline fitting of empirical cubature: labels, choice of points, training of points and readout, calibration."""

from outsample.cubature.calibration import CALIBRATION_COPIES, CALIBRATION_SAMPLES, calibrate_cubature
from outsample.cubature.copies import DEFAULT_NOISE
from outsample.cubature.fit import DEFAULT_NETWORKS, DEFAULT_SIZES, Effort, effort, fit_cubature

__all__ = [
    "CALIBRATION_COPIES",
    "CALIBRATION_SAMPLES",
    "DEFAULT_NETWORKS",
    "DEFAULT_NOISE",
    "DEFAULT_SIZES",
    "Effort",
    "calibrate_cubature",
    "effort",
    "fit_cubature",
]
