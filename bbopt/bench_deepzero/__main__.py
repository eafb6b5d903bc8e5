"""Entry of `python -m bbopt.bench_deepzero`."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS

from bbopt.bench_deepzero.run import main

if __name__ == "__main__":
    raise SystemExit(main())
