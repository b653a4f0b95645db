"""How much of the matrix of cells, dtypes and widths a run covers."""

import os

# `make test` leaves out what is marked `conformance`; `make conformance` sets this.
FULL_MATRIX = os.environ.get("MINIRNN_CONFORMANCE", "") not in ("", "0")
