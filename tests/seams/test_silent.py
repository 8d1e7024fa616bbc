"""What once gave wrong numbers without a word: each case is right now, or is refused in one sentence."""

import numpy as np
import pytest

import minivae as mv
from minivae import Op, ShapeError, Tensor, UsageError, gradients, nn, ops
from minivae.training import SGD, Adam


def op(vjp, name="seam"):
    Op.registry.pop(name, None)
    return Op(name, numpy=(lambda x, *rest: (x * x, (x,)), vjp))


SQUARED = np.array([[2.0, 5.0]])


@pytest.mark.parametrize(
    ("vjp", "message"),
    [
        (lambda g, x: 2 * g * x, r"returned a ndarray of shape \(1, 2\); need a tuple"),
        (lambda g, x: [2 * g * x], "returned a list; need a tuple"),
        (lambda g, x: (), "returned 0 gradients for 1 inputs"),
        (lambda g, x: (2 * g * x, g), "returned 2 gradients for 1 inputs"),
        (lambda g, x: ((2 * g * x)[:, :1],), r"returned a gradient of shape \(1, 1\) for an input of shape \(1, 2\)"),
        (lambda g, x: ((2 * g * x)[0],), r"returned a gradient of shape \(2,\) for an input of shape \(1, 2\)"),
        (lambda g, x: (3.0,), r"returned a float for an input of shape \(1, 2\)"),
    ],
)
def test_what_a_vjp_returns_is_checked(vjp, message):
    x = Tensor(SQUARED)
    with pytest.raises(ShapeError, match=f"the vjp of the op seam {message}"):
        gradients(op(vjp)(x).sum(), [x])


def test_a_right_vjp_and_its_broadcasts_pass():
    x = Tensor(SQUARED)
    (g,) = gradients(op(lambda g, x: (2 * g * x,))(x).sum(), [x])
    np.testing.assert_array_equal(g, 2 * SQUARED)
    (g,) = gradients(op(lambda g, x: (np.ones((7, 1, 1)) * 2 * g * x,))(x).sum(), [x])  # as if x had been stretched
    np.testing.assert_array_equal(g, 14 * SQUARED)


def test_an_option_by_position_has_no_gradient_and_an_array_must_have_one():
    x, y = Tensor(SQUARED), Tensor(np.ones(2))
    assert gradients(op(lambda g, x: (2 * g * x,))(x, 3).sum(), [x])[0].shape == (1, 2)
    with pytest.raises(ShapeError, match="returned 1 gradients for 2 inputs"):
        gradients(op(lambda g, x: (2 * g * x,))(x, y).sum(), [x])


def test_the_names_of_ops_are_unique():
    before = Tensor([1.0]) + Tensor([2.0])
    with pytest.raises(UsageError, match="the name 'add' is taken, by minivae"):
        Op("add", numpy=(lambda a, b: (a - b, ()), lambda g: (g, -g)))
    assert (Tensor([1.0]) + Tensor([2.0])).item() == before.item() == 3

    def cell():
        return Op("of a notebook", numpy=(lambda x: (x, ()), lambda g: (g,)))

    assert cell() is not cell()  # the same definition may run again


class Counted:
    """An op, and how often and for what its vjp was asked."""

    def __init__(self):
        Op.registry.pop("counted", None)
        self.needs = []
        self.op = Op("counted", numpy=(lambda a, b: (a * b, (a, b)), self.vjp))

    def vjp(self, g, a, b, needs):
        self.needs.append(tuple(needs))
        return g * b if needs[0] else None, g * a if needs[1] else None


def test_only_what_lies_between_the_loss_and_the_wanted_is_swept():
    """A GAN's generator is no business of its critic's step."""
    first = Counted()
    w, v, x = (Tensor(np.full(3, n)) for n in (2.0, 3.0, 5.0))
    h = first.op(w, x)  # as a generator
    second = Counted()
    loss = second.op(h, v).sum()
    assert gradients(loss, [v])[0].tolist() == [10, 10, 10]
    assert (first.needs, second.needs) == ([], [(False, True)])
    assert gradients(loss, [w])[0].tolist() == [15, 15, 15]
    assert (first.needs, second.needs) == ([(True, False)], [(False, True), (True, False)])
    assert [g.tolist() for g in gradients(loss, [h, v, h])] == [[3, 3, 3], [10, 10, 10], [3, 3, 3]]
    assert len(first.needs) == 1


@pytest.mark.parametrize("edit", ["a raw input", "a leaf", "by an optimizer", "a large buffer", "one that lies strewn"])
def test_an_array_edited_after_the_forward_is_refused(edit):
    x, w = np.linspace(1, 2, 6).reshape(2, 3), Tensor(np.ones((3, 2)))
    if edit == "a large buffer":
        x = np.random.default_rng(0).normal(size=(500, 3))
    if edit == "one that lies strewn":
        x = np.asfortranarray(np.linspace(1, 2, 6).reshape(2, 3))
    optimizer = SGD([w], 0.1) if edit == "by an optimizer" else None
    loss = (ops.matmul(x, w) ** 2).sum()
    right = gradients(loss, [w])[0]
    np.testing.assert_allclose(gradients(loss, [w])[0], right)  # asking again is no edit
    if optimizer is not None:
        optimizer.step([right])
    elif edit == "a leaf":
        w.data[0, 0] += 1
    else:
        x[...] = x + 1
    v = Tensor(np.ones((2, 2)))
    with pytest.raises(UsageError, match="that the op matmul took was changed since"):
        gradients(loss, [w])
    assert gradients(ops.matmul(x, w).sum(), [w])[0].shape == (3, 2)  # a new graph takes the new numbers
    assert gradients(v.sum(), [v])[0].tolist() == [[1, 1], [1, 1]]


def test_an_optimizer_that_would_move_nothing_says_so():
    w = Tensor(np.ones(3, np.float32))
    first, second = Adam([w], 0.1), Adam([w], 0.1)
    second.step([np.ones(3, np.float32)])
    assert w.data[0] < 1
    with pytest.raises(UsageError, match="parameter 0 of 1 no longer lies where this optimizer steps: another optimizer was made"):
        first.step([np.ones(3, np.float32)])
    layer = nn.Dense(3, 2, mv.Stream(0))
    optimizer = SGD(layer.parameters(), 0.1)
    layer.to(dtype=np.float64)
    with pytest.raises(UsageError, match=r"moved by model\.to"):
        optimizer.step([np.ones((3, 2)), np.ones(2)])
    layer.to("cpu")
    SGD(layer.parameters(), 0.1).step([np.ones((3, 2)), np.ones(2)])
    with pytest.raises(UsageError, match="got a parameter twice"):
        SGD([w, w], 0.1)
    with pytest.raises(UsageError, match="got a constant"):
        SGD([mv.stop_gradient(np.ones(2))], 0.1)
    with pytest.raises(ShapeError, match=r"gradient 0 is \(1,\), its parameter is \(3,\)"):
        Adam([w], 0.1).step([np.ones(1, np.float32)])


class Nest(nn.Module):
    """Parameters in every kind of container; one weight tied, one constant, one layer shared."""

    def __init__(self):
        rng = mv.Stream(0)
        self.scales = [Tensor(np.ones(2, np.float32)), Tensor(np.full(3, 2, np.float32))]
        self.heads = {"mean": nn.Dense(2, 3, rng), "deep": [{"x": nn.Dense(3, 1, rng)}, (Tensor(np.zeros(1, np.float32)),)]}
        self.tied = self.scales[1]
        self.again = self.heads["mean"]
        self.table = mv.stop_gradient(np.arange(4, dtype=np.float32))


def test_a_module_finds_everything_in_its_tree():
    nest = Nest()
    names = ["scales.0", "scales.1", "heads.mean.w", "heads.mean.b", "heads.deep.0.x.w", "heads.deep.0.x.b", "heads.deep.1.0"]
    assert sorted(nest.named_parameters()) == sorted(names)
    assert len(nest.parameters()) == len({id(p) for p in nest.parameters()}) == 7
    assert list(nest.named_buffers()) == ["table"]
    other = Nest()
    for p in other.parameters():
        p.data[...] = 9
    other.table.data[...] = 7
    nest.load_state(other.state())
    assert all((p.data == 9).all() for p in nest.parameters())
    assert nest.tied is nest.scales[1]
    assert (nest.table.data == 7).all()
    nest.to(dtype=np.float64)
    assert {p.dtype.name for p in [*nest.parameters(), nest.table]} == {"float64"}
    nest.train(False)
    assert not nest.heads["deep"][0]["x"].training
    bag = nn.Module()
    bag.layers = {nn.Dense(2, 1, mv.Stream(0))}
    with pytest.raises(UsageError, match="layers is a set of parameters or layers"):
        bag.parameters()


def test_an_evaluation_leaves_every_layer_in_its_mode():
    model = mv.VAE((4, 4, 1), mv.Stream(0), latent=2, hidden=[6])
    model.encoder.layers.insert(2, nn.BatchNorm(6))
    model.encoder.layers.insert(3, nn.Dropout(0.5, mv.Stream(1)))
    model.encoder.layers[3].train(False)  # frozen by hand
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), np.uint8)
    before = [layer.training for layer in model.modules()]
    first = mv.losses(model, images)
    assert [layer.training for layer in model.modules()] == before
    assert mv.losses(model, images) == first  # no running moment has moved
    mv.inference.reconstruct(model, images)
    with pytest.raises(ShapeError):
        mv.losses(model, images[:, :3])
    assert [layer.training for layer in model.modules()] == before


def test_a_learned_prior_runs_once_a_step():
    model = mv.models.CVAE((4, 4, 1), mv.Stream(0), condition=3, prior_kind="learned", latent=2, hidden=[6])
    calls, network = [], model.prior_network

    class Watched(nn.Module):
        def forward(self, x):
            calls.append(1)
            return network(x)

    model.prior_network = Watched()
    x, labels = np.zeros((5, 4, 4, 1), np.float32), np.array([0, 1, 2, 0, 1])
    for objective in (mv.objectives.Elbo(), mv.objectives.Iwae(3), mv.objectives.FreeBits(), mv.objectives.TotalCorrelation()):
        calls.clear()
        objective(model, x, mv.Stream(0), labels)
        assert len(calls) == 1, objective


def test_batch_norm_of_one_example_is_refused():
    with pytest.raises(ShapeError, match=r"x is \(1, 3\); need at least 2 values per channel"):
        nn.BatchNorm(3)(np.ones((1, 3), np.float32))
