"""Terms that are added to a loss so that gradients keep their length on the way back in time."""

from minirnn.regularise.keep_norm import omega
from minirnn.regularise.lyapunov import exponents, flossing

__all__ = ["exponents", "flossing", "omega"]
