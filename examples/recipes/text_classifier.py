"""Swap the encoder under a classifier of texts, and keep the classifier.

One pipeline from raw texts to labels is fitted on an old encoder, and stitched to a new
one: `stitch(model, select_anchors(model, texts), encoder=new)`.

    python text_classifier.py [FILE] [--old use --new minilm] [--cache FOLDER]

FILE has a header and the columns "text" and "label", and may have a column "split" with
"train" and "test".  A .tsv file is separated by tabs and has no quotes; all others are
CSV.  Of a label like COARSE:fine the first part is taken.  The default is
trec_questions.tsv in the folder SKINVARIANT_DATA.
"""

import argparse
import csv
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from encoders import TEXT_ENCODERS, text_encoder
from joblib import Memory
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch
from swap import show_comparison, show_encoding, voting_model

from skinvariant import select_anchors, stitch

PAIRS = [("use", "minilm"), ("minilm", "use"), ("glove", "use"), ("glove", "minilm")]


def read_texts(path):
    """Read texts and labels, to train and to test."""
    tabs = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, **tabs if Path(path).suffix == ".tsv" else {}))
    if "split" in rows[0]:
        parts = [[r for r in rows if r["split"] == s] for s in ("train", "test")]
    else:
        parts = train_test_split(rows, test_size=0.2, random_state=0)
    train, test = parts
    return Bunch(
        train=[row["text"] for row in train],
        y_train=[row["label"].partition(":")[0] for row in train],
        test=[row["text"] for row in test],
        y_test=[row["label"].partition(":")[0] for row in test],
    )


def show_predictions(old, new, texts, n_texts=4):
    """Print predictions for raw texts, before and after the swap."""
    model = voting_model(old).fit(texts.train, texts.y_train)
    stitched = stitch(model, select_anchors(model, texts.train), encoder=new)
    some = texts.test[:n_texts]
    rows = zip(some, model.predict(some), stitched.predict(some), strict=True)
    for text, before, after in rows:
        print(f"{before:<6}{after:<6}{text}")


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    folder = os.environ.get("SKINVARIANT_DATA")
    default = Path(folder) / "trec_questions.tsv" if folder else None
    parser.add_argument("file", nargs="?", type=Path, default=default)
    parser.add_argument("--old", choices=TEXT_ENCODERS)
    parser.add_argument("--new", choices=TEXT_ENCODERS)
    parser.add_argument("--cache", type=Path, help="keep here what was encoded")
    args = parser.parse_args()
    if args.file is None:
        parser.error("give a FILE, or set SKINVARIANT_DATA")
    if (args.old is None) != (args.new is None):
        parser.error("give --old and --new, or neither")
    return args


def main(args, folder):
    """Encode once, then compare each pair of encoders."""
    texts, memory = read_texts(args.file), Memory(args.cache or folder, verbose=0)
    pairs = [(args.old, args.new)] if args.old else PAIRS
    names = dict.fromkeys(name for pair in pairs for name in pair)
    encoders = {name: text_encoder(name, memory) for name in names}
    show_encoding(encoders, texts)
    for old, new in pairs:
        print(f"\nfrom {old} to {new}")
        show_comparison(encoders[old], encoders[new], texts)
    old, new = pairs[0]
    print(f"\npredictions on {old}, and stitched to {new}")
    show_predictions(encoders[old], encoders[new], texts)


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        main(arguments(), folder)
