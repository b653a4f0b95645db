"""The loops over time, for any cell: forward, backward, and the last product of the backward pass.

One call runs a whole pass in every thread: each owns some columns of unit blocks in every stage,
with one barrier per stage, so results do not depend on the number of threads.
"""

from functools import lru_cache

from numba import types

from minirnn.kernels._jit import compiled_address, kernel
from minirnn.kernels.celltype import HEAD, NOW_WORDS, CellType
from minirnn.kernels.memory import barrier, load, store
from minirnn.kernels.product import run_jobs, run_rows
from minirnn.kernels.rows import GATE
from minirnn.kernels.stage import run_backward, run_drain, run_forward

# The integers that describe a pass, by position (times 8: their addresses).
(STEPS, STAGES, BUFFERS, TABLE, NOW, NOW_STRIDE, HEADS, HEAD_STRIDE, CLOCKS, ALIVE, COLUMNS,
 COUNTER, BEFORE, BEFORE_COUNT, AFTER, AFTER_COUNT, SCRATCH, SCRATCH_STRIDE, FIRST, LAST, START,
 ARRIVED, TABLE_STRIDE, DRAIN) = range(0, 24 * 8, 8)  # fmt: skip
WORDS = 24
_STEP = HEAD["step"]
CHUNK = 96  # rows of the product with the input that are made at once, whole steps


@kernel
def _tell(d, now, head, t, thread):  # type: ignore[no-untyped-def]
    """Write where each buffer is at step t.

    A buffer's entry in the table: base, clock, row stride, block stride.
    """
    table = load(d + TABLE) + thread * load(d + TABLE_STRIDE)
    clocks = load(d + CLOCKS)
    line = (load(d + STEPS) + 1) * 8
    for i in range(load(d + BUFFERS)):
        entry = table + i * 32
        row_stride = load(entry + 16)
        row = load(clocks + load(entry + 8) * line + (t + 1) * 8)
        store(now + i * NOW_WORDS, load(entry) + row * row_stride)
        store(now + i * NOW_WORDS + 8, row_stride)
        store(now + i * NOW_WORDS + 16, load(entry + 24))
    store(head + _STEP, load(d + START) + t)


@kernel
def forward(cell, d, thread, threads):  # type: ignore[no-untyped-def]
    """Run the steps first to last, some at a time: the products with the input, then the steps.

    So what the products write is still near when the steps read it.
    """
    now = load(d + NOW) + thread * load(d + NOW_STRIDE)
    head = load(d + HEADS) + thread * load(d + HEAD_STRIDE)
    gate = load(d + CLOCKS) + (GATE * (load(d + STEPS) + 1) + 1) * 8  # first row of each step
    arrivals = 0
    t, last_step = load(d + FIRST), load(d + LAST)
    while t < last_step:
        begin = load(gate + t * 8)
        end, past = t, begin
        while end < last_step and past - begin < CHUNK:
            past += load(load(d + ALIVE) + end * 8)
            end += 1
        if load(d + BEFORE_COUNT):
            run_rows(load(d + BEFORE), begin, past, thread, threads)
            if threads > 1:
                arrivals += threads
                barrier(load(d + COUNTER), arrivals)
        while t < end:
            _tell(d, now, head, t, thread)
            rows = load(load(d + ALIVE) + t * 8)
            for stage in range(load(d + STAGES)):
                columns = load(load(d + COLUMNS) + stage * 8)
                first, last = columns * thread // threads, columns * (thread + 1) // threads
                run_forward(cell, stage, head, now, first, last, 0, rows, 1)
                if threads > 1:
                    arrivals += threads
                    barrier(load(d + COUNTER), arrivals)
            t += 1


@kernel
def arrive(cell, d, thread, threads):  # type: ignore[no-untyped-def]
    """Sum up what reaches the states after step FIRST; step -1: the initial states."""
    now = load(d + NOW) + thread * load(d + NOW_STRIDE)
    head = load(d + HEADS) + thread * load(d + HEAD_STRIDE)
    alive = load(d + ALIVE)
    t = load(d + FIRST)
    _tell(d, now, head, t, thread)
    older = load(alive + (t + 1) * 8)
    rows = older if t < 0 else load(alive + t * 8)
    columns = load(load(d + COLUMNS))
    first, last = columns * thread // threads, columns * (thread + 1) // threads
    run_drain(cell, 0, head, now, first, last, 0, older, 1)
    run_drain(cell, 0, head, now, first, last, older, rows, 0)


@kernel
def backward(cell, d, thread, threads):  # type: ignore[no-untyped-def]
    """Run steps last to first, then the products that give dx and the weights' gradients.

    DRAIN, if given, describes the pass that sums up what reaches the initial states.
    """
    now = load(d + NOW) + thread * load(d + NOW_STRIDE)
    head = load(d + HEADS) + thread * load(d + HEAD_STRIDE)
    scratch = load(d + SCRATCH) + thread * load(d + SCRATCH_STRIDE)
    alive = load(d + ALIVE)
    arrivals = 0
    for t in range(load(d + LAST) - 1, load(d + FIRST) - 1, -1):
        _tell(d, now, head, t, thread)
        rows = load(alive + t * 8)
        older = 0 if load(d + ARRIVED) else load(alive + (t + 1) * 8)  # rows with a step after t
        for stage in range(load(d + STAGES)):
            columns = load(load(d + COLUMNS) + stage * 8)
            first, last = columns * thread // threads, columns * (thread + 1) // threads
            if stage == 0:
                run_backward(cell, stage, head, now, first, last, 0, older, 1)
                run_backward(cell, stage, head, now, first, last, older, rows, 0)
            else:
                run_backward(cell, stage, head, now, first, last, 0, rows, 1)
            if threads > 1:
                arrivals += threads
                barrier(load(d + COUNTER), arrivals)
    if load(d + DRAIN):
        arrive(cell, load(d + DRAIN), thread, threads)
    run_jobs(load(d + AFTER), load(d + AFTER_COUNT), thread, threads, scratch)


@lru_cache(maxsize=1024)
def pass_address(cell: CellType, which: int) -> int:
    """Return the address of a pass, compiled for a cell, for `threads.launch`."""
    words = (types.int64,) * 3
    return compiled_address((forward, backward, arrive)[which], (cell, *words))
