"""Two layers of latents: images come back, in as many bits as both layers' ELBO says, and the first image takes fewer initial bits."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import minivae as mv
from minivae import VAE, Stream, UsageError, use_backend
from minivae.compress import BitsBack, BitSwap, coder_of, compress, decompress
from minivae.compress.pixels import PIXELS
from minivae.models import CVAE, HierarchicalVAE
from minivae.training import losses

from .conftest import images_of


def two_layers(likelihood="bernoulli", shape=(5, 4, 1), **options):
    model = HierarchicalVAE(shape, Stream(3), latent=5, top=2, between=(6,), hidden=(6,), likelihood=likelihood, **options)
    for p in model.parameters():
        p.data *= 2
    return model


@pytest.mark.parametrize("likelihood", list(PIXELS))
@pytest.mark.parametrize("options", [{}, {"shape": (8, 9, 3), "arch": "conv"}, {"head": "log_sigma"}], ids=str)
def test_images_come_back_by_kernels_and_by_references(likelihood, options):
    coder, x = BitSwap(two_layers(likelihood, **options)), images_of(likelihood, 9, options.get("shape", (5, 4, 1)))
    file = compress(coder, x, 4)
    assert_array_equal(np.concatenate(list(decompress(coder, file))), x)
    with use_backend("numpy"):
        slow = coder.encode(x, 4)
    for a, b in zip(slow, coder.encode(x, 4), strict=True):
        assert_array_equal(a.words, b.words)


@pytest.mark.parametrize("scale", [0.1, 10, 100])
def test_priors_far_from_the_posterior(scale):
    """What p(z1 | z2) thinks impossible has one slot, and comes back."""
    model = two_layers()
    for p in model.downwards.parameters():
        p.data *= np.float32(scale)
    coder, x = BitSwap(model), images_of(n=40)
    assert_array_equal(coder.decode(coder.encode(x, 7)), x)


@pytest.fixture(scope="module")
def trained():
    x = images_of("bernoulli", 5400, (6, 6, 1))
    x[:, :, :3] = x[:, :1, :1]
    model = HierarchicalVAE((6, 6, 1), Stream(0), latent=6, top=2, between=(10,), hidden=(20,))
    mv.fit(model, mv.data.Dataset("x", x[:600], None, x[600:], None), epochs=20, batch_size=50, lr=3e-3)
    return model, x[600:]


def test_the_length_is_the_elbo_of_both_layers(trained):
    """As in test_bits_back.py: the spread of -ELBO by one draw is the standard error; 0.1 nats for integers and bins of 2^-10."""
    model, x = trained
    chain = []
    BitSwap(model, 10).encode(x, len(x), chain)
    net = (chain[0][-1] - chain[0][0]) / len(x) * np.log(2)
    nats = np.array([losses(model, x, seed)["loss"] for seed in range(20)])
    assert abs(net - nats.mean()) < 5 * nats.std() + 0.1


def test_initial_bits_are_those_of_the_first_layer(trained):
    """At most 24 bits a latent are popped before x is there; z2 is popped from what x has left, if that is enough."""
    model, x = trained
    swap, chain = BitSwap(model), []
    (block,) = swap.encode(x[:1], 1, chain)
    untouched = len(chain) and 32 * len(block.words) - (chain[0][1] - chain[0][0]) - 32
    assert untouched <= swap.first * swap.posterior_bits + 64


def test_each_coder_takes_its_own_models():
    assert type(coder_of(two_layers())) is BitSwap
    assert type(coder_of(VAE((4, 4, 1), Stream(0), latent=2), 5, 10, 12)) is BitsBack
    with pytest.raises(UsageError, match="a CVAE cannot code images; train a VAE or a HierarchicalVAE"):
        coder_of(CVAE((4, 4, 1), Stream(0), condition=2))
    with pytest.raises(UsageError, match="BitsBack codes with a VAE, and this is a HierarchicalVAE"):
        BitsBack(two_layers())


def test_a_weight_between_the_layers_is_part_of_the_digest():
    model = two_layers()
    before = BitSwap(model).digest
    model.downwards.layers[0].w.data[0, 0] += 0.01
    assert BitSwap(model).digest != before
