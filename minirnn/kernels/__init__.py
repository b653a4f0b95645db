"""Numba kernels: the register tile, products, and passes over a sequence for any cell."""

from minirnn.kernels.threads import get_num_threads, set_num_threads

__all__ = ["get_num_threads", "set_num_threads"]
