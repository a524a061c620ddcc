"""Swap the image network under a classifier of images, and keep the classifier.

One pipeline from pixels to labels is fitted on EfficientNet-Lite0, which was trained on
ImageNet, and stitched to Lite1.  Both spaces have 1280 columns, so a plain head can be
used on the other network without an error; it does no better than chance.

    python image_classifier.py [--old 0 --new 1] [--size 96]

The images are 1500 and 500 of cifar10_images_lossless.npz in the folder
SKINVARIANT_DATA; without it, scikit-learn's digits.  They are enlarged to --size
pixels, a multiple of 32: more are more accurate and take longer.
"""

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from encoders import image_encoder
from joblib import Memory
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch
from swap import show_comparison, show_encoding


def read_cifar10(path, n_train=1500, n_test=500):
    """Read images and labels, to train and to test."""
    with np.load(path) as file:
        return Bunch(
            train=file["X_train"][:n_train],
            y_train=file["y_train"][:n_train],
            test=file["X_test"][:n_test],
            y_test=file["y_test"][:n_test],
        )


def read_digits():
    """Make images in colour, of 0 to 255, of scikit-learn's digits."""
    digits = load_digits()
    grey = (digits.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey[..., None], 3, axis=3)
    parts = train_test_split(images, digits.target, test_size=300, random_state=0)
    train, test, y_train, y_test = parts
    return Bunch(train=train, y_train=y_train, test=test, y_test=y_test)


def main(args, folder):
    """Encode once, then compare."""
    data, memory = os.environ.get("SKINVARIANT_DATA"), Memory(folder, verbose=0)
    if data:
        images = read_cifar10(Path(data) / "cifar10_images_lossless.npz")
    else:
        images = read_digits()
    old, new = (image_encoder(n, args.size, memory) for n in (args.old, args.new))
    show_encoding({f"lite{args.old}": old, f"lite{args.new}": new}, images)
    print(f"\nfrom lite{args.old} to lite{args.new}")
    show_comparison(old, new, images)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--old", type=int, choices=(0, 1, 2), default=0)
    parser.add_argument("--new", type=int, choices=(0, 1, 2), default=1)
    parser.add_argument("--size", type=int, default=96)
    with TemporaryDirectory() as folder:
        main(parser.parse_args(), folder)
