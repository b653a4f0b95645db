"""How much of the matrix of cells, dtypes and widths a run covers."""

import os

# `make test` leaves out what is marked `conformance`; `make conformance` sets this.
FULL_MATRIX = os.environ.get("MINIRNN_CONFORMANCE", "") not in ("", "0")

# One vector width of the three draws cases for every cell; the others do so for a few.
DRAW_EVERY_CELL = FULL_MATRIX and os.environ.get("MINIRNN_VECTOR_BITS") == "512"
