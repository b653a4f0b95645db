"""Start a fresh process for a measurement and read what it printed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def ask(*arguments: object, **variables: str) -> dict[str, Any]:
    """Run ``python -m bench.child ARGUMENTS`` with some variables set.

    Raises
    ------
    RuntimeError
        The process failed; the message ends with what it said.
    """
    command = [sys.executable, "-m", "bench.child", *(str(a) for a in arguments)]
    environment = {**os.environ, **variables}
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed: {ran.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found
