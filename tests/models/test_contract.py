"""encode, decode, prior: a stranger's model with no more than these goes through whatever asks a model for anything."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import minivae as mv
from minivae import ShapeError, Stream, Tensor, UsageError, inference, nn, no_grad, ops
from minivae.data import to_float
from minivae.distributions import Bernoulli, Categorical, Gaussian, Laplace, StandardGaussian, kl
from minivae.evaluate import log_likelihood
from minivae.gradcheck import frozen, gradcheck
from minivae.models import CVAE, LIKELIHOODS, VAE, activity, build, describe
from minivae.objectives import OBJECTIVES, Elbo, elbo, iwae
from minivae.quadrature import log_marginal
from minivae.runs import load, save

X = np.random.default_rng(0).uniform(size=(5, 7)).astype(np.float32)


class Twelve(nn.Module):
    def __init__(self, rng):
        self.encoder, self.decoder = nn.Dense(7, 4, rng), nn.Dense(2, 7, rng)

    def encode(self, x):
        return Gaussian(*ops.split(self.encoder(x), 2))

    def decode(self, z):
        return Bernoulli(self.decoder(z))

    prior = StandardGaussian(2)


class Pointed(Twelve):
    """Posterior and prior are Laplace: a closed form of another family."""

    def encode(self, x):
        return Laplace(*ops.split(self.encoder(x), 2))

    prior = Laplace(np.zeros(2, np.float32), 0.0)


class Crossed(Twelve):
    """A Gaussian against a Laplace prior, for which no closed form is known here."""

    prior = Laplace(np.zeros(2, np.float32), 0.0)


class Shifted:
    """A stranger's distribution: a logistic one, by its inverse distribution function.  No base class, no KL, no terms."""

    def __init__(self, mean):
        self.mean = mean

    def log_prob(self, z):
        d = ops.subtract(z, self.mean)
        return (-d - ops.softplus(-d) * 2.0).sum(axis=-1)

    def sample(self, rng, n=()):
        n = (n,) if isinstance(n, int) else tuple(n)
        u = rng.uniform((*n, *self.mean.shape), like=self.mean.data) * 0.999 + 5e-4
        return self.mean + np.log(u / (1 - u))


class Logistic(nn.Module):
    def __init__(self, rng, width=3):
        self.encoder, self.decoder = nn.Dense(7, 2, rng), nn.Dense(2, 7, rng)
        self.width = width

    def encode(self, x):
        return Shifted(self.encoder(x))

    def decode(self, z):
        return Bernoulli(self.decoder(z))

    prior = StandardGaussian(2)


STRANGERS = [Twelve, Pointed, Crossed, Logistic]
stranger = pytest.mark.parametrize("kind", STRANGERS)


@stranger
@pytest.mark.parametrize("objective", [elbo, iwae], ids=["elbo", "iwae"])
def test_gradients_are_right(kind, objective):
    options = {"samples": 3} if objective is iwae else {}
    report = gradcheck(frozen(objective, kind(Stream(1)), X, Stream(5), **options), elements=3, directions=1)
    assert report.ok, report


@stranger
def test_bounds_are_in_order(kind):
    """-elbo <= -iwae <= log p(x), which a grid knows; means over many draws, 5 standard errors."""
    model = kind(Stream(1)).to(dtype=np.float64)
    model.latent = 2  # how many axes the grid has
    x = X[:1].astype(np.float64)
    exact = log_marginal(model, x).log_p[0]
    with no_grad():
        many = np.repeat(x, 300, axis=0)
        bounds = [-elbo(model, many, Stream(s)).loss.item() for s in range(8)]
        tighter = [-iwae(model, many, Stream(s), samples=10).item() for s in range(8)]
        found = log_likelihood(model, many, Stream(3), 300).mean()
    noise = 5 * np.std(bounds, ddof=1) / np.sqrt(8)
    assert np.mean(bounds) < np.mean(tighter) + noise
    assert np.mean(tighter) < exact + 5 * np.std(tighter, ddof=1) / np.sqrt(8)
    assert abs(found - exact) < 0.02


@stranger
def test_the_elbo_is_the_mean_of_its_ratio(kind):
    """E_q[log p(x, z) - log q(z)], whatever estimate of the KL the elbo takes."""
    model = kind(Stream(1))
    many = np.repeat(X[:1], 4000, axis=0)
    with no_grad():
        terms = elbo(model, many, Stream(2))
        q = model.encode(many)
        z = q.sample(Stream(3))
        ratio = (model.decode(z).log_prob(many) + model.prior.log_prob(z) - q.log_prob(z)).data
    mine = -terms.reconstruction.data - terms.kl.data
    assert abs(mine.mean() - ratio.mean()) < 5 * np.sqrt((mine.var() + ratio.var()) / 4000)


@stranger
def test_it_trains_and_is_looked_at_like_ours(kind, tmp_path):
    model = kind(Stream(1))
    trainer = mv.fit(model, np.repeat(X, 8, axis=0), epochs=12, lr=0.02, batch_size=10, progress=False)
    assert trainer.metrics[-1]["train"]["loss"] < trainer.metrics[0]["train"]["loss"]
    assert inference.reconstruct(model, X).shape == X.shape
    assert inference.sample(model, Stream(0), 4).shape == (4, 7)
    use = activity(model, X, Stream(0))
    assert use.active.shape == (2,)
    assert (use.kl is None) == (kind is Logistic)  # nobody knows the parts of a density that is not told by number
    save(model, tmp_path / "model.npz")
    again = load(tmp_path / "model.npz", kind(Stream(9)))
    assert_array_equal(inference.reconstruct(again, X), inference.reconstruct(model, X))


def test_a_code_may_be_a_class():
    """A Categorical posterior against a Categorical prior: the KL has a closed form, and draws are constants."""

    class Classes(Twelve):
        def encode(self, x):
            return Categorical(self.encoder(x))

        def decode(self, z):
            return Bernoulli(self.decoder(np.eye(4, 2, dtype=np.float32)[z.data]))

        prior = Categorical(np.zeros(4, np.float32))

    model = Classes(Stream(0))
    terms = elbo(model, X, Stream(1))
    q = np.exp(model.encode(X).logits.data)
    q /= q.sum(axis=1, keepdims=True)
    assert_allclose(terms.kl.data, np.log(4) + (q * np.log(q)).sum(axis=1), rtol=1e-5)
    many = np.repeat(X[:1], 400, axis=0)
    with no_grad():
        exact = np.logaddexp.reduce([model.decode(stop(k)).log_prob(X[:1]).data[0] - np.log(4) for k in range(4)])
        found = log_likelihood(model, many, Stream(2), 50)
        assert iwae(model, X, Stream(0), samples=3).item() > 0
    assert abs(found.mean() - exact) < 5 * found.std() / np.sqrt(400) + 0.01
    with pytest.raises(UsageError, match="no mean"):
        activity(model, X, Stream(0))


def stop(k):
    return mv.stop_gradient(np.array([k]))


# --- the prior is asked once ---


class Counting(CVAE):
    asked = 0

    @property
    def prior(self):
        type(self).asked += 1
        return super().prior


@pytest.mark.parametrize("name", [name for name, kind in OBJECTIVES.items() if "encode" in kind.needs and name not in ("factor", "vaegan")])
def test_a_step_runs_the_network_of_the_prior_once(name):
    model = Counting((7,), Stream(0), condition=3, prior_kind="learned", latent=2, hidden=(4,))
    Counting.asked = 0
    terms = OBJECTIVES[name]()(model, X, Stream(1), label=np.array([0, 1, 2, 0, 1]), size=10)
    assert np.isfinite(terms.loss.item())
    assert Counting.asked == 1


def test_a_likelihood_runs_it_once_for_all_samples():
    model = Counting((7,), Stream(0), condition=3, prior_kind="learned", latent=2, hidden=(4,)).condition(np.array([0, 1, 2, 0, 1]))
    Counting.asked = 0
    log_likelihood(model, X, Stream(1), 20)
    assert Counting.asked == 1


# --- networks of one's own, data of any shape ---


@pytest.mark.parametrize("shape", [(13,), (1,), (4, 3), (2, 3, 2, 2)])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_data_of_any_shape(shape, likelihood):
    model = VAE(shape, Stream(0), latent=2, hidden=(5,), activation="tanh", likelihood=likelihood)
    x = to_float(np.random.default_rng(1).integers(0, 256, (3, *shape), np.uint8))
    p = model.decode(model.encode(x).sample(Stream(0), 4))
    assert (p.batch_shape, p.event_shape) == ((4, 3), shape)
    report = gradcheck(frozen(elbo, model, x, Stream(5)), elements=2, directions=1)
    assert report.ok, report
    assert model.reconstruct(x).shape == x.shape
    again = build(json.loads(json.dumps(describe(model))), Stream(1))
    again.load_state(model.state())
    assert_array_equal(again.reconstruct(x), model.reconstruct(x))


def own(shape=(2, 3), outputs=4, inputs=2, produced=None):
    rng, n = Stream(0), int(np.prod(shape))
    encoder = nn.Sequential(nn.Flatten(), nn.Dense(n, outputs, rng))
    decoder = nn.Sequential(nn.Dense(inputs, n, rng), nn.Reshape(*(produced or shape)))
    return VAE(shape, latent=2, encoder=encoder, decoder=decoder)


def test_networks_of_ones_own():
    model = own()
    x = np.random.default_rng(1).uniform(size=(3, 2, 3)).astype(np.float32)
    report = gradcheck(frozen(elbo, model, x, Stream(5)), elements=2, directions=1)
    assert report.ok, report
    assert model.decode(np.zeros((4, 3, 2), np.float32)).log_prob(x).shape == (4, 3)
    terms = elbo(model, x, Stream(0))
    assert_allclose(terms.kl.data, kl(model.encode(x), model.prior).data, rtol=1e-6)
    with pytest.raises(UsageError, match="pass an instance to fill"):
        build(describe(model), Stream(0))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: own(outputs=5).encode(x), ShapeError, r"the encoder gives \(3, 5\) for 2 latents; need \(N, 4\)"),
        (lambda x: own(produced=(3, 2)).decode(x[:, 0, :2]), ShapeError, r"the decoder gives \(3, 3, 2\) for 3 codes; need \(3, 2, 3\)"),
        (lambda x: own().encode(x[:, 0]), ShapeError, r"x is \(3, 3\), the model's images are \(2, 3\)"),
        (lambda x: VAE((2, 3)), UsageError, "no rng"),
        (lambda x: VAE((2, 3), Stream(0), encoder=nn.Flatten()), UsageError, "one of encoder and decoder is missing"),
        (lambda x: VAE((13,), Stream(0), arch="conv"), ShapeError, r"image_shape is \(13,\), and 'conv' takes \(height, width, channels\)"),
        (lambda x: VAE((13,), Stream(0), arch="gru"), ShapeError, "'gru' takes"),
        (lambda x: VAE((), Stream(0)), ShapeError, r"image_shape is \(\)"),
        (
            lambda x: mv.models.AE((2, 3), latent=2, encoder=nn.Flatten(), decoder=nn.Flatten()).encode(x),
            ShapeError,
            "AE: the encoder gives",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_numbers(call, error, message):
    with pytest.raises(error, match=message):
        call(np.zeros((3, 2, 3), np.float32))


# --- conditions ---


def test_labels_that_nobody_looked_at_make_no_number():
    """A recorded step takes new labels without the check of condition(); what is out of range is then NaN, and no row of zeros."""
    from minivae.models.cvae import condition_rows

    rows = condition_rows(np.array([0, 2, 3, -1]), 3, np.float32)
    assert_array_equal(rows[:2], [[1, 0, 0], [0, 0, 1]])
    assert np.isnan(rows[2:]).all()
    assert rows.dtype == np.float32


def test_a_recorded_step_takes_new_labels():
    model = CVAE((7,), Stream(0), condition=3, prior_kind="learned", latent=2, hidden=(4,))
    params, labels = model.parameters(), [np.random.default_rng(i).integers(0, 3, 5) for i in range(6)]

    def run(eager):
        noise = Stream(1)
        step = mv.captured(lambda x, c: elbo(model.condition(c), x, noise), params)
        return [(step.eager if eager else step)(X, c)[0].loss.item() for c in labels], step

    expected, _ = run(True)
    found, step = run(False)
    assert step.why_eager == ""
    assert found == expected
    assert len(set(found)) == 6


# --- described and built ---


class Told(Twelve):
    def __init__(self, rng, width=3, temperature=1.0):
        super().__init__(rng)
        self.width, self.temperature = width, temperature

    def config(self):
        return {"width": self.width, "temperature": self.temperature}


class Later(Told):
    """Its config() is inherited and knows nothing of `depth`."""

    def __init__(self, rng, depth, **options):
        super().__init__(rng, **options)
        self.depth = depth


class LaterVAE(VAE):
    def __init__(self, image_shape, rng, sharpness=1.0):
        super().__init__(image_shape, rng, latent=2, hidden=(3,))
        self.sharpness = sharpness


class Mistaken(Told):
    def config(self):
        return {"widht": 3}


def test_a_strangers_class_is_made_again_by_its_path():
    model = Told(Stream(0), width=5, temperature=0.5)
    description = json.loads(json.dumps(describe(model)))
    assert description == {"model": f"{__name__}:Told", "width": 5, "temperature": 0.5}
    again = build(description, Stream(1))
    assert (type(again), again.width, again.temperature) == (Told, 5, 0.5)
    assert type(build(describe(Twelve(Stream(0))), Stream(1))) is Twelve  # the stream is all that it takes


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Logistic(Stream(0), width=8), "takes width, and has no method config"),  # its default may not be what it was made with
        (Later(Stream(0), 2), "takes depth, options, and has no method config"),
        (LaterVAE((7,), Stream(0), 3.0), "takes image_shape, sharpness, and has no method config"),
        (Mistaken(Stream(0)), "cannot be made from what its config.* returned .*widht"),
        (type("Local", (Twelve,), {"__qualname__": "f.<locals>.Local"})(Stream(0)), "nobody can import.*pass an instance"),
        (type("Script", (Twelve,), {"__module__": "__main__"})(Stream(0)), "nobody can import.*pass an instance"),
        (type("Gone", (Twelve,), {"__module__": "no.such.place"})(Stream(0)), "cannot be imported.*pass an instance"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_cannot_be_made_again_says_so(model, message):
    with pytest.raises(UsageError, match=message):
        build(describe(model), Stream(0))


@pytest.mark.parametrize("path", ["os:system", "subprocess:Popen", "builtins:dict", "minivae.nn:no_such"])
def test_a_file_cannot_have_anything_called_but_a_module(path):
    with pytest.raises(UsageError, match=r"no class that derives from Module|cannot be imported"):
        build({"model": path, "command": "true", "args": "true"}, Stream(0))


OLD = [  # what config() of version 0.1 wrote
    {
        "image_shape": [4, 4, 1],
        "latent": 3,
        "arch": "dense",
        "hidden": [5],
        "channels": [],
        "activation": "relu",
        "likelihood": "bernoulli",
    },
    {"image_shape": [8, 8, 1], "latent": 3, "arch": "conv", "hidden": [5], "channels": [2], "activation": "silu", "likelihood": "laplace"},
]


@pytest.mark.parametrize("config", OLD, ids=["dense", "conv"])
@pytest.mark.parametrize(
    "more",
    [
        {"model": "vae"},
        {"model": "ae"},
        {"model": "cvae", "condition": 4, "prior_kind": "learned"},
        {"model": "hierarchical", "top": 1, "between": [3]},
        {},
    ],
)
def test_descriptions_of_version_01_build(config, more):
    model = build(config | {"head": "log_sigma"} | more, Stream(0))
    model = model.condition(np.array([0, 1])) if hasattr(model, "condition") else model
    x = np.zeros((2, *config["image_shape"]), np.float32)
    assert np.isfinite(elbo(model, x, Stream(0)).loss.item())
    assert Elbo()(model, x, Stream(0)).kl.shape == (2,)
    assert isinstance(model.sample_prior(Stream(0), 2), Tensor)
