"""Searching by rankings, measured: the paper's functions, noise, simulated people, other methods on the same rankings.

    python -m bbopt.bench_ranking               # some minutes
    python -m bbopt.bench_ranking --out DIR     # the same, resumable, with DIR/ranking.json and a picture, DIR/ranking.png

The sphere and Rosenbrock in 100 dimensions, slates of 15, from N(0, I), as in arXiv:2303.03751, by full rankings and by the
best 5, 3 and 1; beside it CMA-ES and `openes` on the same rankings, and forward differences of the values with the same line
search. Then people with hidden tastes in 3, 12 and 24 parameters, who rank, bin or name the worst, with Plackett-Luce noise;
few answers, beside `preference-gp`; and how long an ask takes. "notes" are numbers of an earlier, independent
implementation; what is theory is said in `bbopt.zeroth_order.rank_gradient`.

The last line is the verdict; the exit status is 1 when a threshold is missed: efficiencies within 3 % of the notes; at most
44, 60 and 155 iterations on the sphere for the best 15, 5 and 1, none more than 12 % above theory; at most 1.15 times the
evaluations of differences; no rise without noise; at most 60 and 85 iterations with noise of 0.5 and 1 in the gradient
slates; at most 28 answers of noisy people with bins 2-4-2 in 12 parameters; at most 0.5 CPU seconds per ask.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS

import argparse
import json
import sys
from pathlib import Path

from bbopt.bench_ranking_parts import PARTS, Data


def main(words: list[str] | None = None) -> int:
    """Measure what is not there yet, print tables and the verdict."""
    parser = argparse.ArgumentParser(
        prog="python -m bbopt.bench_ranking", description="searching by rankings, measured"
    )
    parser.add_argument(
        "--out", type=Path, help="folder of ranking.json, whose parts are not measured again, and of a picture"
    )
    parser.add_argument(
        "--part", action="append", choices=list(PARTS), help="measure this part alone (may be repeated)"
    )
    given = parser.parse_args(words)
    kept: dict[str, Data] = {}
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        file = given.out / "ranking.json"
        kept = json.loads(file.read_text()) if file.exists() else {}
    missed: list[str] = []
    for name in given.part or PARTS:
        part = PARTS[name]
        if name not in kept:
            kept[name] = part.measure()
            if given.out is not None:
                partial = file.with_suffix(".partial")
                partial.write_text(json.dumps(kept, indent=1))
                partial.replace(file)
        sys.stdout.write("\n".join([*part.show(kept[name]), "", ""]))
        sys.stdout.flush()
        missed += part.missed(kept[name])
    if given.out is not None and {"sphere", "rosenbrock", "people", "few"} <= kept.keys():
        from bbopt.bench_ranking_picture import draw  # needs matplotlib

        draw(kept, given.out / "ranking.png")
        sys.stdout.write(f"picture: {given.out / 'ranking.png'}\n")
    sys.stdout.write(f"verdict: {'missed: ' + '; '.join(missed) if missed else 'good'}\n")
    return int(bool(missed))


if __name__ == "__main__":
    raise SystemExit(main())
