"""Results that come as tables, as from a laboratory: a CSV file goes out with points, and comes back filled in.

Run it: python examples/told_from_csv.py [FOLDER THAT STAYS]
"""

import csv
import os
import sys
import tempfile
from pathlib import Path

import bbopt

ROUNDS = max(1, int(os.environ.get("BBOPT_EXAMPLE_BUDGET", "16")) // 4)  # of four experiments each
TASK = bbopt.Task(
    bbopt.Space(temperature=bbopt.Float(20, 90, step=0.5), acid=bbopt.Categorical(["citric", "acetic"])),
    objectives=[bbopt.Objective("yield", maximize=True)],
)


def laboratory(path: Path) -> None:
    """Fill in the results of all open rows: what people would do in a spreadsheet."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["status"] == "open":
            optimum = {"citric": 61.0, "acetic": 48.0}[row["acid"]]
            row["yield"] = f"{90 - 0.02 * (float(row['temperature']) - optimum) ** 2:.2f}"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # Measurements from before the study are a table too: rows without a number are points that were never asked.
    old = folder / "last_year.csv"
    old.write_text("temperature,acid,yield\n30,citric,70.8\n75,acetic,75.4\n")
    opt = bbopt.Optimizer(TASK, seed=3, store=folder / "runs.db", name="extraction")
    print(f"{len(opt.from_csv(old))} results of last year")

    sheet = folder / "experiments.csv"
    for _ in range(ROUNDS):
        opt.ask(4)  # four experiments at a time
        opt.to_csv(sheet)  # one line per trial; the open ones have no yield yet
        laboratory(sheet)
        opt.from_csv(sheet)  # rows whose number is that of an open trial answer it; known results are left alone
    best = opt.best()
    assert best is not None and best.values is not None
    print(f"{len(opt.trials())} experiments; best yield {best.values['yield']} % with {best.params}")
    opt.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
