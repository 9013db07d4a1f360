"""The worked example of data and classes over ranks, as its first line says to run it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits_on_ranks.py"


@pytest.mark.slow
def test_the_example_learns_the_digits_on_two_processes() -> None:
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(EXAMPLE)]
    ran = subprocess.run(
        words, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert ran.returncode == 0, ran.stderr
    said, share = ran.stdout.split(": ")
    assert said == "2 ranks, 5 of 10 classes on rank 0"
    assert float(share.split()[0]) > 0.93
