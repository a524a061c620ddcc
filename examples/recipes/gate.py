"""A gate for deployment: may the model under the new encoder replace the old one?

    python gate.py OLD NEW [--own RIGHT ROWS] [--max-loss 0.02] [--by bound]

OLD and NEW are what both models predict for the same rows, which need no labels: .npy
files of labels or probabilities, or .csv files with a header, of one column of labels
or a column of probabilities for each class.  Of ROWS labelled rows the old model was
right for RIGHT.  The exit code is 0 if little enough accuracy is lost, 1 if more than
allowed may be lost, and 2 if there is no forecast.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

from skinvariant import forecast_swap


def read_predictions(path):
    """Read labels or probabilities, and the names of their columns or None."""
    if path.suffix != ".csv":
        return np.load(path), None
    with open(path, encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    rows = np.array(rows)
    return (rows[:, 0], None) if len(names) == 1 else (rows.astype(float), names)


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--own", nargs=2, type=int, metavar=("RIGHT", "ROWS"))
    parser.add_argument("--max-loss", type=float, default=0.02)
    parser.add_argument("--by", choices=["bound", "estimate"], default="bound")
    parser.add_argument("--report", type=Path, help="write the forecast here, as JSON")
    return parser.parse_args()


def main(args):
    """Print the forecast and the verdict, and return the exit code."""
    try:
        (old, classes), (new, names) = map(read_predictions, (args.old, args.new))
        if classes != names:
            raise ValueError(f"both must have the same columns; got {classes}, {names}")
        forecast = forecast_swap(old, new, own_score=args.own, classes=classes)
        passes = forecast.passes(args.max_loss, by=args.by)
    except (LookupError, OSError, TypeError, ValueError) as error:
        print(f"no forecast: {error}", file=sys.stderr)
        return 2
    print(forecast)
    if args.report:
        forecast.to_json(args.report)
    allowed = f"by the {args.by}, no more than {args.max_loss:.3f} may be lost"
    print(f"{'PASSED' if passes else 'FAILED'}: {allowed}.")
    return 0 if passes else 1


if __name__ == "__main__":
    sys.exit(main(arguments()))
