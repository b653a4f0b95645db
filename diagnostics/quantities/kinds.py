"""The kinds of quantities that a report may hold, by the name that they have there."""

from diagnostics.quantities.base import Quantity
from diagnostics.quantities.clip_effect import ClipDirection, GraphClipping
from diagnostics.quantities.clipping import Clipping
from diagnostics.quantities.credit import Credit
from diagnostics.quantities.decay_rate import DecayRate
from diagnostics.quantities.gate_statistics import GateStatistics
from diagnostics.quantities.gradient_flow import GradientFlow
from diagnostics.quantities.influence import InfluenceMap
from diagnostics.quantities.lag_gain import LagGain
from diagnostics.quantities.linearisation import Linearisation
from diagnostics.quantities.loss_scaling import LossScaling
from diagnostics.quantities.lyapunov import LyapunovSpectrum
from diagnostics.quantities.numeric_health import NumericHealth
from diagnostics.quantities.precision import Precision
from diagnostics.quantities.self_checks import SelfChecks
from diagnostics.quantities.singular_values import ProductBound, SingularValues
from diagnostics.quantities.timeline import Course, Timeline
from diagnostics.quantities.timescales import MemoryTimescales
from diagnostics.quantities.training import Training
from diagnostics.quantities.truncation import TbpttError
from diagnostics.quantities.update_ratio import UpdateRatio

QUANTITIES: dict[str, type[Quantity]] = {
    "clip_direction": ClipDirection,
    "clipping": Clipping,
    "course": Course,
    "credit": Credit,
    "decay_rate": DecayRate,
    "gate_statistics": GateStatistics,
    "gradient_flow": GradientFlow,
    "graph_clipping": GraphClipping,
    "influence": InfluenceMap,
    "lag_gain": LagGain,
    "linearisation": Linearisation,
    "loss_scaling": LossScaling,
    "lyapunov": LyapunovSpectrum,
    "memory_timescales": MemoryTimescales,
    "numeric_health": NumericHealth,
    "precision": Precision,
    "product_bound": ProductBound,
    "self_checks": SelfChecks,
    "singular_values": SingularValues,
    "tbptt_error": TbpttError,
    "timeline": Timeline,
    "training": Training,
    "update_ratio": UpdateRatio,
}
