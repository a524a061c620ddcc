"""Data to try things on: related spaces, files of spaces, benchmarks and encoders."""

from skinvariant.datasets._benchmarks import fetch_benchmark
from skinvariant.datasets._encoders import encode
from skinvariant.datasets._generators import make_related_spaces
from skinvariant.datasets._npz import load_embeddings

__all__ = ["encode", "fetch_benchmark", "load_embeddings", "make_related_spaces"]
