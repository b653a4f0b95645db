"""What a training run left behind: losses, gradient norms over training, and what it writes."""

from dataclasses import dataclass, field

from numpy.typing import NDArray

from diagnostics.quantities.base import Quantity
from diagnostics.quantities.statistics import Floats


@dataclass(frozen=True, kw_only=True)
class Training(Quantity):
    """One training run of N steps.

    value: loss on text that was not trained on; ci: (2,), bootstrap over its sequences.
    loss: (N,), training loss by step.  flow: (M, T+1), median over sequences of ||delta_t||
    at the training steps flow_steps (M,).  stopped: why the run ended early, or "".
    prompt, sample: what the model was given and what it wrote.  strips[name]: (M,), what was
    recorded at the same steps: "rho", factor per step of a gradient on its way back; "update",
    norm of the update over the norm of the parameters; "cosine", between the gradient before and
    after clipping.
    """

    loss: Floats
    flow: Floats
    flow_steps: NDArray
    stopped: str
    prompt: str
    sample: str
    strips: dict[str, Floats] = field(default_factory=dict)
