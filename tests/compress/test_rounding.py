"""What integers in the place of floats cost: little, less with every bit, and the precisions are those of the file."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import minivae as mv
from minivae import VAE, DataError, Stream, UsageError, nn
from minivae.compress import BitsBack, Portable, coder_for, compress, decompress, in_integers, read_header
from minivae.compress.portable import Precision
from minivae.compress.rounding import InIntegers
from minivae.training import losses

from .conftest import images_of, model_of
from .test_bit_swap import two_layers


def trained(likelihood, **options):
    x = images_of(likelihood, 2600, (6, 6, 1))
    x[:, :, :3] = x[:, :1, :1]  # something to learn
    model = VAE((6, 6, 1), Stream(0), latent=4, hidden=(20,), likelihood=likelihood, **options)
    mv.fit(model, mv.data.Dataset("x", x[:600], None, x[600:], None), epochs=20, batch_size=50, lr=3e-3)
    return model, x[600:]


@pytest.fixture(scope="module", params=["bernoulli", "beta_binomial"])
def known(request):
    return trained(request.param)


def cost(model, x, *bits):
    """-ELBO in integers less that in floats, nats an image, with the same noise.     -> mean over seeds, its standard error"""
    rounded = in_integers(model, *bits)
    each = [losses(rounded, x, seed)["loss"] - losses(model, x, seed)["loss"] for seed in range(4)]
    return np.mean(each), np.std(each) / 2


def test_rounding_costs_a_thousandth_at_most(known):
    model, x = known
    nats, error = cost(model, x)
    assert abs(nats) + 5 * error < 1e-3 * losses(model, x)["loss"]


def test_more_bits_cost_less(known):
    """Near an optimum the loss is a parabola of errors: 3 bits less cost up to 64 times as much; and at 14 bits nothing is left."""
    model, x = known
    costs = [abs(cost(model, x, bits, bits)[0]) for bits in (3, 6, 14)]
    assert costs[0] > 5 * costs[1]
    assert costs[2] < 2e-5 * losses(model, x)["loss"]


def test_the_message_is_the_rounded_models_elbo():
    """With networks so coarse that they cost 3% and more, the message grows by that too: the coder's own networks are judged.
    z is drawn once an image; of 2,000 images the mean is known to the spread of such draws."""
    model, x = trained("beta_binomial")
    lengths = []
    BitsBack(model, 10, weight_bits=4, activation_bits=4).encode(x, len(x), lengths)
    net = (lengths[0][-1] - lengths[0][0]) / len(x) * np.log(2)
    rounded = np.array([losses(in_integers(model, 4, 4), x, seed)["loss"] for seed in range(10)])
    floats = losses(model, x)["loss"]
    assert abs(net - rounded.mean()) < 5 * rounded.std() + 1e-3 * floats
    assert net - floats > 3e-2 * floats


def test_logits_bound_the_cost():
    """At one z a Bernoulli's -log p has a slope of 1 at most by each logit, so that it moves by the sum of their errors at most."""
    model, x = trained("bernoulli")
    z = np.random.default_rng(0).normal(size=(len(x), 4)).astype(np.float32)
    pixels = mv.data.to_float(x)
    for bits in ((12, 8), (5, 4)):
        rounded = in_integers(model, *bits)
        errors = abs(rounded.decode(z).logits.numpy() - model.decode(z).logits.numpy()).reshape(len(x), -1).sum(axis=1)
        moved = abs(rounded.decode(z).log_prob(pixels).numpy() - model.decode(z).log_prob(pixels).numpy())
        assert (moved <= errors + 1e-4).all()
        assert moved.max() > 0


def test_two_layers_have_four_networks():
    rounded = in_integers(two_layers(), 9, 7)
    assert all(isinstance(getattr(rounded, name), InIntegers) for name in ("encoder", "decoder", "upwards", "downwards"))
    x = images_of(n=50)
    assert losses(rounded, x)["loss"] == pytest.approx(losses(two_layers(), x)["loss"], rel=0.02)


def test_precisions_of_networks_are_in_the_file():
    coder = BitsBack(model_of(), weight_bits=9, activation_bits=5)
    data = compress(coder, images_of(n=9), 4)
    again = coder_for(model_of(), read_header(data))
    assert again.at == Precision(9, 5)
    assert_array_equal(np.concatenate(list(decompress(again, data))), images_of(n=9))
    with pytest.raises(DataError, match="precisions of \\(8, 24, 20, 9, 5\\) bits, and the coder has others"):
        list(decompress(BitsBack(model_of()), data))
    assert BitsBack(model_of(), weight_bits=9).digest != coder.digest


@pytest.mark.parametrize("bits", [(0, 8), (15, 8), (12, 0), (12, 15)])
def test_precisions_out_of_range(bits):
    with pytest.raises(UsageError, match=r"bits of weights and activations are .*; need 1 to 14"):
        in_integers(model_of(), *bits)


def normalized(rng, *layers):
    for layer in layers:
        norm = layer[1]
        norm.gamma.data[...], norm.beta.data[...] = rng.uniform(0.5, 2, norm.gamma.shape), rng.normal(size=norm.beta.shape)
        norm.running_mean[...], norm.running_var[...] = rng.normal(size=norm.gamma.shape), rng.uniform(0.01, 0.1, norm.gamma.shape)
    network = nn.Sequential(*[part for layer in layers for part in layer])
    network.train(False)
    return network


@pytest.mark.parametrize("kind", ["dense", "conv", "conv_transpose"])
def test_a_batch_norm_is_in_the_weights_before_it(kind):
    """Where it multiplies by 10 what was rounded before, the error of 2^-9 would be ten times as large: weights of 2^-14 alone are left."""
    rng, s = np.random.default_rng(0), Stream(0)
    first = {
        "dense": lambda: (nn.Dense(6, 5, s), (40, 6)),
        "conv": lambda: (nn.Conv2d(3, 5, s, padding=1), (4, 6, 6, 3)),
        "conv_transpose": lambda: (nn.ConvTranspose2d(3, 5, s, kernel=4, stride=2, padding=1), (4, 3, 3, 3)),
    }
    layer, shape = first[kind]()
    network = normalized(rng, (layer, nn.BatchNorm(5)))
    a = np.rint(rng.normal(size=shape) * 2**8)
    at = Precision(14, 8)
    floats = network((a / 2**8).astype(np.float32)).numpy()
    error = abs(Portable(network, at=at)(a) / 2**at.sum - floats).max()
    assert error < 2**-15 * abs(a / 2**8).max() * layer.w.size / 5 + 1e-4
    assert len(Portable(network).layers) == 1


def test_a_batch_norm_that_follows_an_activation_stays():
    network = normalized(np.random.default_rng(0), (nn.Dense(6, 5, Stream(0), "relu"), nn.BatchNorm(5)))
    assert len(Portable(network).layers) == 2
