"""Products of a plain layer, y = x W^T + b and its gradients, through the tile.

So that a training step calls no BLAS: NumPy's has threads of its own, which wait in a loop for more
work after each product and take the core from the threads of the recurrence (measured: an LSTM
training step of 24 ms takes 100 to 155 ms beside them).
"""

import numpy as np

from minirnn.kernels import product, threads
from minirnn.kernels.flat import readable, unit_rows
from minirnn.kernels.pack import lanes_of, pack_plain, pack_transposed
from minirnn.kernels.tile import WIDEST
from minirnn.kernels.workspace import Lease, address, lend


def _round_up(count: int, lanes: int) -> int:
    return -(-count // lanes) * lanes


def pack_forward(weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """Pack W (O, I) and b (O,) for y = x W^T + b."""
    lanes = lanes_of(weight.dtype)
    columns = np.full(_round_up(weight.shape[0], lanes), -1, np.int64)
    columns[: weight.shape[0]] = np.arange(weight.shape[0])
    return pack_transposed(weight, columns, bias, WIDEST * lanes)


def pack_backward(weight: np.ndarray) -> np.ndarray:
    """Pack W (O, I) for dx = dy W."""
    return pack_plain(weight, np.arange(weight.shape[0]), WIDEST * lanes_of(weight.dtype))


def run(jobs: list[list[int]], flops: float, scratch: np.ndarray | None) -> None:
    """Do jobs that do not depend on each other.  scratch: (threads, bytes), or None."""
    table = product.job_table(jobs)
    place, stride = (0, 0) if scratch is None else (address(scratch), scratch.strides[0])
    described = address(table)

    def share(thread: int, count: int) -> None:
        product.run_jobs(described, len(jobs), thread, count, place + thread * stride)

    threads.run(share, threads.worth(flops))


def apply(x: np.ndarray, panels: np.ndarray, outputs: int) -> np.ndarray:
    """Return x W^T + b, (N, O), as the first columns of wider rows.

    x: (N, I); panels: from `pack_forward`.
    """
    x = unit_rows(x)
    out = lend((x.shape[0], _round_up(outputs, lanes_of(x.dtype))), x.dtype)
    if x.shape[0]:
        job = product.rows_job(x.dtype.name, x, x.shape[1], panels, out.shape[1], out)
        run([job], 2.0 * x.size * outputs, None)
    return out[:, :outputs]


def gradients(
    x: np.ndarray, dy: np.ndarray, panels: np.ndarray | None, weights: bool
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """Return dx (N, I), dW (O, I) and db (O,).

    x: (N, I), dy: (N, O); panels: from `pack_backward`, or None if dx is not asked for; weights:
    whether dW and db are.
    """
    rows, inputs, outputs = x.shape[0], x.shape[1], dy.shape[1]
    dtype, wide = x.dtype, _round_up(x.shape[1], lanes_of(x.dtype))
    lease = Lease()
    x, dy = unit_rows(x), readable(dy, lease) if weights else unit_rows(dy)
    jobs, scratch, dx, dw, db = [], None, None, None, None
    if panels is not None:
        dx = lend((rows, wide), dtype)
        jobs.append(product.rows_job(dtype.name, dy, outputs, panels, wide, dx))
    if weights:
        # What stands in further columns of dy reaches rows of dW and entries of db that are cut.
        dw, db = lend((dy.shape[1], wide), dtype), lend((dy.shape[1],), dtype, 0.0)
        place = np.zeros(1, np.int64)
        jobs.append(product.transposed_job(
            dtype.name, dy, 1, place, x, inputs, dw, sums=db, units=outputs
        ))  # fmt: skip
        bytes_needed = product.transposed_scratch(inputs, dtype.itemsize)
        scratch = lease.take((threads.available(), bytes_needed), np.uint8)
    if rows and jobs:
        run(jobs, 2.0 * len(jobs) * x.size * outputs, scratch)
    lease.release()
    for array in (dw, db):
        if array is not None and not rows:
            array.fill(0.0)
    return (
        None if dx is None else dx[:, :inputs],
        None if dw is None else dw[:outputs, :inputs],
        None if db is None else db[:outputs],
    )
