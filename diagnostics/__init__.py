"""How gradients flow through time: quantities, verdicts and reports for recurrent networks.

Every public name is listed in ``_HOME`` with the module that holds it, and is imported when it is
first used (PEP 562): ``python -m diagnostics --help`` must not wait for NumPy or matplotlib.
"""

import importlib
from typing import Any

_HOME = {
    "diagnostics.comparing.comparison": "Comparison compare",
    "diagnostics.diagnosis": "diagnose",
    "diagnostics.monitor.monitor": "Monitor",
    "diagnostics.others.torch_layers": "load_torch",
    "diagnostics.quantities.base": "Cost Quantity",
    "diagnostics.quantities.clip_effect": (
        "ClipDirection GraphClipping clip_direction graph_clipping"
    ),
    "diagnostics.quantities.clipping": "Clipping clipping_statistics",
    "diagnostics.quantities.credit": "Credit credit",
    "diagnostics.quantities.decay_rate": "DecayRate decay_rate",
    "diagnostics.quantities.example_grad_norms": "ExampleGradNorms example_grad_norms",
    "diagnostics.quantities.gate_statistics": "GateStatistics gate_statistics",
    "diagnostics.quantities.gradient_flow": "GradientFlow gradient_flow",
    "diagnostics.quantities.influence": "InfluenceMap influence_map",
    "diagnostics.quantities.lag_gain": "LagGain lag_gain",
    "diagnostics.quantities.linearisation": "Linearisation linearisation",
    "diagnostics.quantities.loss_scaling": "LossScaling loss_scaling underflow_horizon",
    "diagnostics.quantities.lyapunov": "LyapunovSpectrum lyapunov_spectrum",
    "diagnostics.quantities.numeric_health": "NumericHealth numeric_health",
    "diagnostics.quantities.precision": "Precision precision",
    "diagnostics.quantities.self_checks": "SelfChecks self_checks",
    "diagnostics.quantities.singular_values": (
        "ProductBound SingularValues product_bound singular_values"
    ),
    "diagnostics.quantities.step_jacobians": "StepJacobians step_jacobians",
    "diagnostics.quantities.timeline": "Course Timeline",
    "diagnostics.quantities.timescales": (
        "MemoryTimescales effective_memory gradient_timescale memory_timescales"
    ),
    "diagnostics.quantities.truncation": "TbpttError tbptt_error",
    "diagnostics.quantities.update_ratio": "UpdateRatio update_ratio",
    "diagnostics.report": "Report Subject load_report",
    "diagnostics.rules": "Verdict",
    "diagnostics.zoo": "calibrate",
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
