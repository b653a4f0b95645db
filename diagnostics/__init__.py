"""How gradients flow through time: quantities, verdicts and reports for recurrent networks.

Every public name is listed in ``_HOME`` with the module that holds it, and is imported when it is
first used (PEP 562): ``python -m diagnostics --help`` must not wait for NumPy or matplotlib.
"""

import importlib
from typing import Any

_HOME = {
    "diagnostics.diagnosis": "diagnose",
    "diagnostics.quantities.base": "Cost Quantity",
    "diagnostics.quantities.clipping": "Clipping clipping_statistics",
    "diagnostics.quantities.decay_rate": "DecayRate decay_rate",
    "diagnostics.quantities.example_grad_norms": "ExampleGradNorms example_grad_norms",
    "diagnostics.quantities.gradient_flow": "GradientFlow gradient_flow",
    "diagnostics.quantities.lag_gain": "LagGain lag_gain",
    "diagnostics.quantities.step_jacobians": "StepJacobians step_jacobians",
    "diagnostics.report": "Report Subject load_report",
    "diagnostics.rules": "Verdict",
}
_NAMES = {name: home for home, names in _HOME.items() for name in names.split()}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    """Import a public name from its home when it is first used."""
    if name not in _NAMES:
        raise AttributeError(
            f"module 'diagnostics' has no public name {name!r}; see diagnostics.__all__"
        )
    value = getattr(importlib.import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
