"""Images of one encoder's latents, drawn by the decoder of another.

What is measured: the mean squared error per pixel, pixels in [0, 1], of test images
that are encoded by one autoencoder (columns of a matrix) and decoded by what was
trained on another (rows).  On the diagonal both are the same: *own*; beside it the
decoder never saw the encoder: *stitched*.  No decoder sees more than one encoder, and
of the new encoder nothing is used but how it sees the anchors.

Encoders: dense of width 32 and 64, convolutional of width 64, dense variational of
width 32 (its mean is the latent), each from its own seed; trained once in a run, with
their own ("absolute") decoders.  A seed is a draw of anchors, and the initial weights
and batches of all that is trained after the encoders.

"frozen": of these encoders only the latents are used.  A relative decoder is one
hidden layer on the relative space: of one metric, of the product of four, of the
product without Chebyshev, or of the product with two metrics that no affine map
changes.  Latents are centred on the anchors, and relative values standardised on the
anchors' own, in either space anew.  While a decoder trains, Gaussian noise as large as
the relative values is added to them: a decoder that may lean on directions in which
its own encoder hardly varies draws well from it alone.  "product_without_noise", of
the first seed, shows what that is worth.

"end_to_end": encoders are trained from scratch through the relative space, the anchors
encoded anew in each batch, with the same noise; dense, two of width 32 and one of 64,
each with a decoder of its own.  It costs too much for more than the first seed.

Beside them: absolute decoders fed with the other encoder's latents as they are, where
widths match (else null), or with latents translated by a map that was fitted on the
same anchors.

``python examples/paper/reconstruction.py mnist``, or ``fashion_mnist``, ``cifar10``.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed
from ledger import data_file, digits_images, options, rounded, run
from torch import nn

from skinvariant import InvariantAggregator
from skinvariant.nn import ProductLayer, RelativeLayer, make_head
from skinvariant.translation import SpaceTranslator

FILES = {
    "mnist": "mnist_images.npz",
    "fashion_mnist": "fashion_mnist_images.npz",
    "cifar10": "cifar10_images_lossless.npz",
}
METRICS = ("cosine", "euclidean", "manhattan", "chebyshev")
RELATIVE = {metric: (metric,) for metric in METRICS} | {
    "product": METRICS,
    "product_without_chebyshev": METRICS[:3],
}
AFFINE = (*METRICS, "mahalanobis", "change_of_basis")
TRANSLATIONS = ("orthogonal", "ridge", "kernel")
# methods on frozen latents, and those through which encoders are trained
FROZEN = (
    "absolute",
    *(f"translation_{how}" for how in TRANSLATIONS),
    *(*RELATIVE, "product_affine"),
)
TRAINED = ("absolute", *RELATIVE)
HIDDEN = 256
BATCH = 256
# in standard deviations of the anchors' relative values
NOISE = 1.0
# of the divergence from the normal distribution, summed over axes, to the mean square
BETA = 6e-5


class Spec(NamedTuple):
    """An encoder to be trained."""

    kind: str
    width: int
    seed: int
    variational: bool = False

    @property
    def name(self):
        """Return what tells it from the others."""
        kind = f"variational {self.kind}" if self.variational else self.kind
        return f"{kind} {self.width}, seed {self.seed}"


ENCODERS = (
    Spec("dense", 32, 0),
    Spec("dense", 64, 1),
    Spec("convolutional", 64, 2),
    Spec("dense", 32, 3, variational=True),
)
END_TO_END = (Spec("dense", 32, 0), Spec("dense", 32, 1), Spec("dense", 64, 2))
# a decoder, and an encoder of the same width
PICTURED = (0, 3)
PICTURED_METHODS = (*RELATIVE, "product_affine", "translation_ridge", "absolute")


class Size(NamedTuple):
    """How much is done."""

    n_anchors: int = 300
    steps: int = 800
    decoder_steps: int = 400
    end_to_end: tuple = END_TO_END
    end_to_end_seeds: int = 1
    jobs: int = 2


QUICK = Size(70, 100, 40, END_TO_END[:2], jobs=1)


# --- networks ---------------------------------------------------------------------


def make_encoder(kind, shape, width):
    """Return layers from images to latents."""
    if kind == "dense":
        return nn.Sequential(nn.Flatten(), make_head(np.prod(shape), width, (HIDDEN,)))
    n_pixels = shape[1] // 4 * (shape[2] // 4)
    return nn.Sequential(
        nn.Conv2d(shape[0], 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * n_pixels, width),
    )


def make_decoder(kind, width, shape):
    """Return layers from latents, or relative vectors, to images."""
    if kind == "dense":
        layers = make_head(width, int(np.prod(shape)), (HIDDEN,))
        return nn.Sequential(layers, nn.Unflatten(1, shape))
    small = (16, shape[1] // 4, shape[2] // 4)
    return nn.Sequential(
        nn.Linear(width, int(np.prod(small))),
        nn.ReLU(),
        nn.Unflatten(1, small),
        nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, shape[0], 4, stride=2, padding=1),
    )


class Autoencoder(nn.Module):
    """An encoder and its absolute decoder, perhaps variational."""

    def __init__(self, spec, shape):
        super().__init__()
        self.variational = spec.variational
        n_outputs = spec.width * (2 if spec.variational else 1)
        self.encoder = make_encoder(spec.kind, shape, n_outputs)
        self.decoder = make_decoder(spec.kind, spec.width, shape)

    def encode(self, images):
        """Return the latents; the mean, if variational."""
        latents = self.encoder(images)
        return latents.chunk(2, dim=1)[0] if self.variational else latents

    def loss(self, images, rng):
        """Return the squared error, with the divergence if variational."""
        if not self.variational:
            return nn.functional.mse_loss(self.decoder(self.encoder(images)), images)
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        noise = torch.randn(mean.shape, generator=rng)
        drawn = self.decoder(mean + noise * (log_variance / 2).exp())
        divergence = (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
        return nn.functional.mse_loss(drawn, images) + BETA * divergence


class RelativeAutoencoder(nn.Module):
    """An encoder that is trained through its own relative space."""

    def __init__(self, spec, shape, metrics, anchors):
        super().__init__()
        self.encoder = make_encoder(spec.kind, shape, spec.width)
        how = {"pre": "center", "post": "standardize"}
        latents = self.encoder(anchors)
        layers = [RelativeLayer(latents, metric, **how) for metric in metrics]
        self.product = ProductLayer(layers, nn.Flatten())
        self.anchors = anchors
        self.decoder = make_decoder("dense", len(metrics) * len(anchors), shape)

    def encode(self, images):
        """Return the relative space of images."""
        return self.product(self.encoder(images), self.encoder(self.anchors))

    def loss(self, images, rng):
        """Return the squared error under noise."""
        relative = self.encode(images)
        noise = torch.randn(relative.shape, generator=rng)
        drawn = self.decoder(relative + NOISE * noise)
        return nn.functional.mse_loss(drawn, images)


class RelativeDecoder(nn.Module):
    """A decoder of relative spaces that stay as they are."""

    def __init__(self, width, shape, noise):
        super().__init__()
        self.decoder = make_decoder("dense", width, shape)
        self.noise = noise

    def loss(self, relative, images, rng):
        """Return the squared error under noise."""
        noise = torch.randn(relative.shape, generator=rng)
        drawn = self.decoder(relative + self.noise * noise)
        return nn.functional.mse_loss(drawn, images)


def seeded(seed, make, *args):
    """Make a network with initial weights of its own seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make(*args)


def train(network, arrays, steps, seed):
    """Train a network by its own loss, for about so many steps; return it, frozen."""
    rng = torch.Generator().manual_seed(seed)
    n_batches = -(-len(arrays[0]) // BATCH)
    epochs = max(1, round(steps / n_batches))
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=4e-3, total_steps=epochs * n_batches
    )
    for _ in range(epochs):
        for rows in torch.randperm(len(arrays[0]), generator=rng).split(BATCH):
            optimizer.zero_grad()
            network.loss(*(array[rows] for array in arrays), rng).backward()
            optimizer.step()
            schedule.step()
    return network.requires_grad_(False)


# --- measurements -----------------------------------------------------------------


def train_autoencoder(spec, images, steps):
    """Train one encoder with its absolute decoder."""
    torch.set_num_threads(1)
    network = seeded(spec.seed, Autoencoder, spec, images.shape[1:])
    return train(network, [images], steps, spec.seed)


def errors(draw, test, n_encoders):
    """Compare what each decoder draws of each encoder's latents with the images."""

    def error(i, j):
        drawn = draw(i, j)
        return None if drawn is None else float(((drawn - test) ** 2).mean())

    each = range(n_encoders)
    return [[error(i, j) for j in each] for i in each]


class Frozen:
    """What is drawn of the latents of trained encoders, for one draw of anchors."""

    def __init__(self, networks, train_images, test, size, seed):
        self.networks, self.images, self.test = networks, train_images, test
        self.size, self.seed = size, seed
        spaces = [(net.encode(train_images), net.encode(test)) for net in networks]
        self.spaces = [(train.numpy(), test.numpy()) for train, test in spaces]
        order = np.random.default_rng(seed).permutation(len(train_images))
        self.anchors = order[: size.n_anchors]

    def drawing(self, method):
        """Return who draws by a method."""
        if method == "absolute":
            return self.absolute
        if method.startswith("translation_"):
            return partial(self.translated, method.removeprefix("translation_"))
        if method == "product_without_noise":
            return self.relative(METRICS, noise=0.0)
        return self.relative(AFFINE if method == "product_affine" else RELATIVE[method])

    def absolute(self, i, j):
        """Draw the latents as they are, where the widths match."""
        latents = torch.from_numpy(self.spaces[j][1])
        if self.spaces[i][0].shape[1] == latents.shape[1]:
            return self.networks[i].decoder(latents)
        return None

    def translated(self, method, i, j):
        """Draw the latents as translated into the decoder's space."""
        if i == j:
            return self.absolute(i, j)
        (target, _), (source, rows) = self.spaces[i], self.spaces[j]
        translator = SpaceTranslator(method)
        translator.fit(source[self.anchors], target[self.anchors])
        latents = torch.from_numpy(translator.transform(rows))
        return self.networks[i].decoder(latents)

    def relative(self, metrics, noise=NOISE):
        """Train a decoder on each relative space; return who draws by them."""
        projectors, decoders = [], []
        for i, (space, _) in enumerate(self.spaces):
            projector = InvariantAggregator(
                metrics=metrics, anchors=self.anchors, pre="center", post="standardize"
            )
            relative = torch.from_numpy(projector.fit_transform(space))
            shape, seed = self.images.shape[1:], 100 * self.seed + i
            network = seeded(seed, RelativeDecoder, relative.shape[1], shape, noise)
            arrays = [relative, self.images]
            decoders.append(train(network, arrays, self.size.decoder_steps, seed))
            projectors.append(projector)

        def draw(i, j):
            space, rows = self.spaces[j]
            rebased = projectors[i].rebase(space[self.anchors])
            return decoders[i].decoder(torch.from_numpy(rebased.transform(rows)))

        return draw


def measure_frozen(networks, train_images, test, size, method, seed):
    """Measure a method on frozen latents; return errors, and some drawings."""
    torch.set_num_threads(1)
    draw = Frozen(networks, train_images, test, size, seed).drawing(method)
    i, j = PICTURED
    drawn = draw(i, i)[:6], draw(i, j)[:6]
    return errors(draw, test, len(networks)), drawn


def measure_end_to_end(train_images, test, size, method, seed):
    """Train encoders through one relative space, or none; swap their decoders."""
    torch.set_num_threads(1)
    shape, networks = train_images.shape[1:], []
    order = np.random.default_rng(seed).permutation(len(train_images))
    anchors = train_images[order[: size.n_anchors]]
    for spec in size.end_to_end:
        start = 100 * seed + spec.seed
        if method == "absolute":
            network = seeded(start, Autoencoder, spec, shape)
        else:
            args = spec, shape, RELATIVE[method], anchors
            network = seeded(start, RelativeAutoencoder, *args)
        networks.append(train(network, [train_images], size.decoder_steps, start))
    encoded = [network.encode(test) for network in networks]
    inputs = [network.encode(test[:1]).shape[1] for network in networks]

    def draw(i, j):
        return networks[i].decoder(encoded[j]) if inputs[i] == inputs[j] else None

    return errors(draw, test, len(networks))


# --- experiment -------------------------------------------------------------------


def read(args):
    """Read images as tensors of shape (n, channels, height, width); train and test."""
    if args.quick:
        images = digits_images()[:2]
    else:
        file = np.load(data_file(FILES[args.data]))
        images = [file[name].astype(np.float32) / 255 for name in ("X_train", "X_test")]
    return [
        torch.from_numpy(np.moveaxis(part.reshape(*part.shape[:3], -1), 3, 1).copy())
        for part in images
    ]


def experiment(args):
    """Yield the matrix of errors of each method and seed."""
    args.data = "digits" if args.quick else args.data
    size, (train_images, test) = QUICK if args.quick else Size(), read(args)
    parallel = Parallel(n_jobs=size.jobs, return_as="generator")
    networks = list(
        parallel(
            delayed(train_autoencoder)(spec, train_images, size.steps)
            for spec in ENCODERS
        )
    )
    frozen = [(method, seed) for seed in range(args.seeds) for method in FROZEN]
    frozen.append(("product_without_noise", 0))
    end_to_end = [
        (method, s) for s in range(size.end_to_end_seeds) for method in TRAINED
    ]
    given = train_images, test, size
    results = parallel(
        [delayed(measure_frozen)(networks, *given, *task) for task in frozen]
        + [delayed(measure_end_to_end)(*given, *task) for task in end_to_end]
    )
    row, drawn = partial(make_row, args.data), {}
    encoders = [spec.name for spec in ENCODERS]
    for method, seed in frozen:
        matrix, images = next(results)
        drawn |= {method: images} if seed == 0 else {}
        yield row("frozen", method, seed, encoders, matrix)
    if args.out is not None:
        draw_pictures(args, test, drawn)
    encoders = [spec.name for spec in size.end_to_end]
    for method, seed in end_to_end:
        yield row("end_to_end", method, seed, encoders, next(results))


def make_row(data, training, method, seed, encoders, matrix):
    """Make a row of the record, with the means of what is on and off the diagonal."""
    values = np.array(matrix, dtype=float)
    stitched = values[~np.eye(len(values), dtype=bool) & ~np.isnan(values)]
    return {
        "data": data,
        "training": training,
        "method": method,
        "seed": seed,
        "own": rounded(np.diag(values).mean(), 5),
        "stitched": rounded(stitched.mean(), 5),
        "worst": rounded(stitched.max(), 5),
        "encoders": encoders,
        "mse": [[None if v is None else rounded(v, 5) for v in row] for row in matrix],
    }


def draw_pictures(args, test, drawn):
    """Draw test images, and what the methods make of them, own beside stitched."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image

    n_images = len(drawn["absolute"][0])
    rows = {"source": (test, test)} | {name: drawn[name] for name in PICTURED_METHODS}
    size = (6.4, 0.45 * len(rows) + 0.5)
    figure, axes = plt.subplots(len(rows), 2 * n_images, figsize=size, dpi=110)
    for line, (name, pair) in zip(axes, rows.items(), strict=True):
        label = name.replace("_", " ").replace("product with", "product\nwith")
        style = {"rotation": 0, "ha": "right", "va": "center", "fontsize": 7}
        line[0].set_ylabel(label, **style)
        for column, axis in enumerate(line):
            image = pair[column % 2][column // 2].clamp(0, 1).movedim(0, 2)
            axis.imshow(image.squeeze().numpy(), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
    for column, axis in enumerate(axes[0]):
        axis.set_title(("own", "stitched")[column % 2], fontsize=7)
    i, j = (ENCODERS[k].name for k in PICTURED)
    title = f"decoders of ({i}); own: its latents, stitched: those of ({j})"
    figure.suptitle(title, fontsize=8, y=0.99)
    figure.subplots_adjust(0.19, 0.01, 0.99, 0.9, wspace=0.08, hspace=0.08)
    figure.canvas.draw()
    picture = Image.fromarray(np.array(figure.canvas.buffer_rgba())).convert("RGB")
    path = args.out / f"reconstruction_{args.data}.png"
    picture.quantize(256).save(path, optimize=True)  # a third of the file
    plt.close(figure)


def main():
    """Read the options and run."""
    parser = options(__doc__)
    parser.add_argument("data", nargs="?", choices=sorted(FILES), help="the data set")
    run("reconstruction_{data}", experiment, parser)


if __name__ == "__main__":
    main()
