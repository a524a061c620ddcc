"""Benchmarks by name, each through the library that has it."""

import json
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.datasets import fetch_openml, get_data_home
from sklearn.utils import Bunch

from skinvariant._validation import check_choice
from skinvariant.datasets._libraries import load_library, loading

_CLOTHES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"]
_CLOTHES += ["Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
_TOPICS = ["Theory", "Reinforcement_Learning", "Genetic_Algorithms", "Neural_Networks"]
_TOPICS += ["Probabilistic_Methods", "Case_Based", "Rule_Learning"]
_N24NEWS = "https://github.com/billywzh717/N24News"


def _no_revision(name, revision):
    if revision is not None:
        raise ValueError(
            f"revision must be None for {name}, which has none; got {revision!r}"
        )


def _openml(openml_name, target_names, name, subset, data_home, revision):
    load_library("pandas", name)
    with loading(f"{openml_name} from OpenML"):
        stored = fetch_openml(
            openml_name,
            version=1 if revision is None else revision,
            data_home=data_home,
            as_frame=False,
            parser="pandas",
            # classes as pandas reads them: as categories, those of pandas 3 are
            # numbers, on which scikit-learn's parser fails
            read_csv_kwargs={"dtype": None},
        )
    target = np.char.strip(stored.target.astype(str), "'")
    pixels = stored.data.astype(np.uint8)
    side = round(pixels.shape[1] ** 0.5)
    n_train = len(pixels) * 6 // 7  # 60,000 of 70,000, in the original order
    rows = {"train": slice(n_train), "test": slice(n_train, None), "all": slice(None)}
    return Bunch(
        data=pixels.reshape(-1, side, side)[rows[subset]],
        target=target.astype(np.int64)[rows[subset]],
        target_names=list(target_names),
    )


def _cifar(class_name, name, subset, data_home, revision):
    _no_revision(name, revision)
    datasets = load_library("torchvision.datasets", name)
    root = get_data_home(data_home)
    parts = {"train": [True], "test": [False], "all": [True, False]}[subset]
    with loading(f"{name} with torchvision into {root!r}"):
        stored = [
            getattr(datasets, class_name)(root, train=train, download=True)
            for train in parts
        ]
    return Bunch(
        data=np.concatenate([part.data for part in stored]),
        target=np.concatenate([part.targets for part in stored]).astype(np.int64),
        target_names=list(stored[0].classes),
    )


def _hugging_face(hub_name, columns, default, name, subset, data_home, revision):
    """Fetch some `columns` of a data set, by their names in the Bunch."""
    datasets = load_library("datasets", name)
    with loading(f"{hub_name} from the Hugging Face hub"):
        stored = datasets.load_dataset(
            hub_name,
            split={"all": "train+test"}.get(subset, subset),
            cache_dir=None if data_home is None else str(data_home),
            revision=default if revision is None else revision,
        )
    bunch = Bunch()
    for key, column in columns.items():
        values, feature = list(stored[column]), stored.features[column]
        if isinstance(feature, datasets.ClassLabel):
            values = np.asarray(values, dtype=np.int64)
            bunch[f"{key}_names"] = list(feature.names)
        bunch[key] = values
    return bunch


def _cora(name, subset, data_home, revision):
    _no_revision(name, revision)
    datasets = load_library("torch_geometric.datasets", name)
    root = get_data_home(data_home)
    with loading(f"{name} with PyTorch Geometric into {root!r}"):
        graph = datasets.Planetoid(root, "Cora", split="public")[0]
    masks = {part: graph[f"{part}_mask"].numpy() for part in ("train", "val", "test")}
    parts = {part: np.flatnonzero(mask) for part, mask in masks.items()}
    target = graph.y.numpy().astype(np.int64)
    rows = {
        "train": np.concatenate([parts["train"], parts["val"]]),
        "test": parts["test"],
        "all": np.arange(len(target)),
    }[subset]
    return Bunch(
        data=graph.x.numpy()[rows],
        target=target[rows],
        target_names=list(_TOPICS),
        nodes=rows,
        edges=graph.edge_index.numpy().astype(np.int64),
        **{f"{part}_idx": indices for part, indices in parts.items()},
    )


def _n24news(name, subset, data_home, revision):
    _no_revision(name, revision)
    stored = {}
    for part in ("train", "dev", "test"):
        path = data_home and Path(data_home, f"news/nytimes_{part}.json")
        if not path or not path.exists():
            raise FileNotFoundError(
                f"{name} must be downloaded by hand: unpack the archive that "
                f"{_N24NEWS} links to, with its folders news and imgs, and pass its "
                f"folder as data_home; got data_home={data_home!r}"
                + (f", which has no news/{path.name}" if path else "")
            )
        stored[part] = json.loads(path.read_text(encoding="utf-8"))
    sections = sorted({item["section"] for part in stored.values() for item in part})
    number = {section: i for i, section in enumerate(sections)}
    parts = {"train": ["train", "dev"], "test": ["test"], "all": list(stored)}[subset]
    items = [item for part in parts for item in stored[part]]
    folder = Path(data_home, "imgs")
    return Bunch(
        data=[item["abstract"] for item in items],
        target=np.array([number[item["section"]] for item in items], dtype=np.int64),
        target_names=sections,
        headline=[item["headline"] for item in items],
        caption=[item["caption"] for item in items],
        body=[item.get("body") for item in items],
        images=[folder / f"{item['image_id']}.jpg" for item in items],
    )


_DIGITS = [str(digit) for digit in range(10)]
_TREC = {"data": "text", "target": "coarse_label", "target_fine": "fine_label"}
_DBPEDIA = {"data": "content", "target": "label", "title": "title"}
# the branch in which the hub keeps data sets that came with a script as parquet
_PARQUET = "refs/convert/parquet"

BENCHMARKS = {
    "CIFAR-10": (
        partial(_cifar, "CIFAR10"),
        "Photographs of 10 kinds of things, 32 x 32 pixels, in colour: 50,000 to train "
        "and 10,000 to test (Krizhevsky, 2009), by torchvision.",
    ),
    "CIFAR-100": (
        partial(_cifar, "CIFAR100"),
        "Photographs of 100 kinds of things, 32 x 32 pixels, in colour: 50,000 to "
        "train and 10,000 to test (Krizhevsky, 2009), by torchvision.",
    ),
    "Cora": (
        _cora,
        "2,708 papers, which of 1,433 words they contain, who cites whom, and 7 topics "
        "(Yang et al., 2016: the public split), by PyTorch Geometric.",
    ),
    "DBpedia": (
        partial(_hugging_face, "fancyzhx/dbpedia_14", _DBPEDIA, None),
        "Abstracts of Wikipedia on 14 kinds of things: 560,000 to train and 70,000 to "
        "test (Zhang et al., 2015), by Hugging Face datasets.",
    ),
    "Fashion-MNIST": (
        partial(_openml, "Fashion-MNIST", _CLOTHES),
        "Photographs of 10 kinds of clothes, 28 x 28 pixels, grey: 60,000 to train and "
        "10,000 to test (Xiao et al., 2017), by OpenML.",
    ),
    "MNIST": (
        partial(_openml, "mnist_784", _DIGITS),
        "Handwritten digits, 28 x 28 pixels, grey: 60,000 to train and 10,000 to test "
        "(LeCun et al., 1998), by OpenML.",
    ),
    "N24News": (
        _n24news,
        "News of 24 sections with a photograph each: about 61,000 articles (Wang et "
        "al., 2022), downloaded by hand.",
    ),
    "TREC": (
        partial(_hugging_face, "CogComp/trec", _TREC, _PARQUET),
        "Questions by what they ask for, 6 coarse and 50 fine classes: 5,452 to train "
        "and 500 to test (Li and Roth, 2002), by Hugging Face datasets.",
    ),
}


def fetch_benchmark(
    name, *, subset="train", data_home=None, revision=None, return_X_y=False
):
    """Fetch a benchmark by name, through the library that has it.

    Parameters
    ----------
    name : {"CIFAR-10", "CIFAR-100", "Cora", "DBpedia", "Fashion-MNIST", "MNIST", \
            "N24News", "TREC"}
        The benchmark.
    subset : {"train", "test", "all"}, default="train"
        Which part of it; "all": the training samples, then the test samples.
        Validation samples, where there are any, follow the training samples.
    data_home : str or path, default=None
        Where downloads are kept.  None: where the library keeps them; with
        torchvision and PyTorch Geometric, where scikit-learn does.  "N24News" must be
        there already.
    revision : str or int, default=None
        Of "DBpedia" and "TREC" a branch, tag or commit on the hub, of "MNIST" and
        "Fashion-MNIST" a version on OpenML.  None: the usual one.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` alone.

    Returns
    -------
    Bunch or tuple
        With the samples ``data``: a list of str, or an array of images, uint8, of shape
        (n_samples, height, width) or (n_samples, height, width, 3); the class of each
        sample ``target``, of shape (n_samples,), dtype int64; the list of classes
        ``target_names``; and what it is, ``DESCR``.  Further:

        - "Cora": ``data`` are the features of nodes, of shape (n_samples, 1433);
          ``nodes`` are their numbers, ``edges`` those of the whole graph, of shape
          (2, n_edges), in both directions; ``train_idx``, ``val_idx`` and ``test_idx``
          the nodes of each part.  "all": every node, in order.
        - "DBpedia": ``title``.
        - "N24News": ``data`` are the abstracts; ``headline``, ``caption``, ``body`` and
          the paths ``images``.
        - "TREC": ``target`` are the coarse classes; ``target_fine`` and
          ``target_fine_names``.

    Raises
    ------
    ValueError
        If `name` or `subset` is not as documented, or the benchmark has no revisions.
    FileNotFoundError
        If "N24News" is not in `data_home`.
    ImportError
        If the library is not installed.

    See Also
    --------
    encode : Spaces of these samples.

    Notes
    -----
    An error during the download is that of the library that downloads.

    Examples
    --------
    >>> from skinvariant.datasets import fetch_benchmark
    >>> questions = fetch_benchmark("TREC")  # doctest: +SKIP
    >>> len(questions.data), questions.target_names  # doctest: +SKIP
    (5452, ['ABBR', 'ENTY', 'DESC', 'HUM', 'LOC', 'NUM'])
    """
    fetch, description = check_choice("name", name, BENCHMARKS)
    check_choice("subset", subset, dict.fromkeys(("train", "test", "all")))
    bunch = fetch(name, subset, data_home, revision)
    bunch.DESCR = description
    return (bunch.data, bunch.target) if return_X_y else bunch
