"""Networks with known truth around the thresholds of the rules, and what the rules say to them.

`calibrate` judges those whose truth is known beforehand; `train_zoo` trains others, of which the
truth is whether they learn.
"""

from diagnostics.zoo.every import CALIBRATED, calibrate
from diagnostics.zoo.grid import BAND, FAST, UNITS, Grid, Trial

__all__ = ["BAND", "CALIBRATED", "FAST", "UNITS", "Grid", "Trial", "calibrate"]
