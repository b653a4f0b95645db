"""Optimizers: against formulas written out by hand, against PyTorch, and their saved state."""

import contextlib

import numpy as np
import pytest

from minirnn.engine import Tensor
from minirnn.kernels import spread, threads
from minirnn.kernels._jit import JIT_DISABLED
from minirnn.layers.module import Module
from minirnn.layers.optim import SGD, Adagrad, Adam, AdamW, RMSprop
from minirnn.layers.reference import use_reference

SHAPES = [(4, 3), (5,), ()]
CLASSES = {c.__name__: c for c in (SGD, RMSprop, Adagrad, Adam, AdamW)}

# Every option of every rule at least once, and the combinations that share a line of code.
SETTINGS = [
    ("SGD", {}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.02, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
    ("RMSprop", {"centered": True}),
    ("RMSprop", {"centered": True, "momentum": 0.7, "maximize": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.05, "initial_accumulator_value": 0.3}),
    ("Adagrad", {"weight_decay": 0.2, "eps": 1e-3, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.5, 0.7), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"amsgrad": True, "maximize": True}),
    ("Adam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.3, "amsgrad": True}),
]
IDS = [f"{name}-{'-'.join(options) or 'defaults'}" for name, options in SETTINGS]


def leaves(rng, dtype=np.float64):
    return [Tensor(np.asarray(rng.standard_normal(s), dtype), requires_grad=True) for s in SHAPES]


def run(optimizer, params, gradients):
    for row in gradients:
        for parameter, gradient in zip(params, row, strict=True):
            parameter.grad = None if gradient is None else gradient.astype(parameter.dtype)
        optimizer.step()


def random_gradients(rng, steps):
    return [[np.asarray(rng.standard_normal(s)) for s in SHAPES] for _ in range(steps)]


@pytest.mark.torch
@pytest.mark.parametrize(("name", "options"), SETTINGS, ids=IDS)
def test_twenty_steps_are_pytorchs(torch, rng, name, options):
    params = leaves(rng)
    theirs = [torch.tensor(p.numpy(), requires_grad=True) for p in params]
    ours = CLASSES[name](params, **options)
    reference = getattr(torch.optim, name)(theirs, **options)
    gradients = random_gradients(rng, 20)
    gradients[3][1] = None  # a parameter that sits out a step counts none
    for row in gradients:
        for t, g in zip(theirs, row, strict=True):
            t.grad = None if g is None else torch.tensor(g)
        reference.step()
    run(ours, params, gradients)
    for p, t in zip(params, theirs, strict=True):
        # The same formula in another order of operations: rounding over 20 steps.
        np.testing.assert_allclose(p.numpy(), t.detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize(("name", "options"), SETTINGS, ids=IDS)
def test_a_state_saved_by_pytorch_goes_on_here(torch, rng, name, options):
    params = leaves(rng)
    theirs = [torch.tensor(p.numpy(), requires_grad=True) for p in params]
    reference = getattr(torch.optim, name)(theirs, **options)
    gradients = random_gradients(rng, 6)
    for row in gradients[:3]:
        for t, g in zip(theirs, row, strict=True):
            t.grad = torch.tensor(g)
        reference.step()
    for p, t in zip(params, theirs, strict=True):
        p.assign(t.detach().numpy())
    ours = CLASSES[name](params)
    ours.load_state_dict(reference.state_dict())
    for row in gradients[3:]:
        for t, g in zip(theirs, row, strict=True):
            t.grad = torch.tensor(g)
        reference.step()
    run(ours, params, gradients[3:])
    for p, t in zip(params, theirs, strict=True):
        np.testing.assert_allclose(p.numpy(), t.detach().numpy(), rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- formulas written out


def sgd(p, gradients, lr=0.1, momentum=0.9, dampening=0.5):
    buf = None
    for g in gradients:
        buf = g if buf is None else momentum * buf + (1 - dampening) * g
        p = p - lr * buf
    return p


def nesterov(p, gradients, lr=0.1, momentum=0.9):
    buf = 0.0
    for g in gradients:
        buf = momentum * buf + g
        p = p - lr * (g + momentum * buf)
    return p


def rmsprop(p, gradients, lr=0.01, alpha=0.9, eps=1e-6, momentum=0.5):
    v = mean = buf = 0.0
    for g in gradients:
        v = alpha * v + (1 - alpha) * g**2
        mean = alpha * mean + (1 - alpha) * g
        buf = momentum * buf + g / (np.sqrt(v - mean**2) + eps)
        p = p - lr * buf
    return p


def adagrad(p, gradients, lr=0.1, eps=1e-10):
    total = 0.0
    for g in gradients:
        total = total + g**2
        p = p - lr * g / (np.sqrt(total) + eps)
    return p


def adamw(p, gradients, lr=0.01, b1=0.8, b2=0.95, eps=1e-8, decay=0.1):
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        p = p - lr * decay * p
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        p = p - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return p


@pytest.mark.parametrize(
    ("make", "formula"),
    [
        (lambda p: SGD(p, 0.1, momentum=0.9, dampening=0.5), sgd),
        (lambda p: SGD(p, 0.1, momentum=0.9, nesterov=True), nesterov),
        (lambda p: RMSprop(p, 0.01, 0.9, 1e-6, momentum=0.5, centered=True), rmsprop),
        (lambda p: Adagrad(p, 0.1), adagrad),
        (lambda p: AdamW(p, 0.01, (0.8, 0.95), weight_decay=0.1), adamw),
    ],
    ids=["sgd", "nesterov", "rmsprop", "adagrad", "adamw"],
)
def test_ten_steps_follow_the_formula(rng, make, formula):
    (p,) = [Tensor(rng.standard_normal((3, 2)), requires_grad=True)]
    gradients = [rng.standard_normal((3, 2)) for _ in range(10)]
    expected = formula(p.numpy().copy(), gradients)
    run(make([p]), [p], [[g] for g in gradients])
    # The same formula in another order of operations; centred RMSprop cancels a few digits.
    np.testing.assert_allclose(p.numpy(), expected, rtol=1e-11)


@pytest.mark.skipif(JIT_DISABLED, reason="compares kernels with formulas; there are no kernels")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "options"), SETTINGS, ids=IDS)
def test_the_kernel_gives_the_bits_of_the_formula(name, options, dtype):
    results = []
    for context in (contextlib.nullcontext, use_reference):
        rng = np.random.default_rng(3)
        params = leaves(rng, dtype)
        optimizer = CLASSES[name](params, **options)
        with context():
            run(optimizer, params, random_gradients(rng, 5))
        kept = [s[k] for s in optimizer.state.values() for k in sorted(s)]
        results.append([p.numpy() for p in params] + kept)
    for fused, formula in zip(*results, strict=True):
        np.testing.assert_array_equal(fused, formula)


@pytest.mark.parametrize("size", [1, 63, 64, 1000])
def test_the_number_of_threads_changes_no_bit_of_a_step(rng, monkeypatch, size):
    start, gradients = rng.standard_normal(size), [[rng.standard_normal(size)] for _ in range(2)]
    monkeypatch.setattr(spread, "REGION", 0)
    results = []
    for count in (1, 2):
        monkeypatch.setattr(threads, "_threads", count)
        p = Tensor(start, requires_grad=True)
        run(Adam([p], weight_decay=0.1, amsgrad=True), [p], gradients)
        results.append(p.numpy())
    np.testing.assert_array_equal(*results)


def test_a_bad_gradient_leaves_every_parameter_of_its_group_as_it_was():
    p, q = Tensor([1.0], requires_grad=True), Tensor([1.0], requires_grad=True)
    p.grad, q.grad = np.array([1.0]), np.array([1.0, 2.0])
    with pytest.raises(ValueError, match=r"Adam: a gradient must have.*\(1,\).*got \(2,\)"):
        Adam([p, q], 0.1).step()
    assert (p.item(), q.item()) == (1.0, 1.0)


def test_a_constant_gradient_does_not_take_centred_rmsprop_to_nan():
    p = Tensor([1.0], requires_grad=True)
    run(RMSprop([p], alpha=0.5, centered=True), [p], [[np.array([0.1])]] * 80)
    assert np.isfinite(p.numpy()).all()


@pytest.mark.parametrize("bad", [1e38, np.inf, np.nan])
@pytest.mark.parametrize("name", CLASSES)
def test_an_exploded_gradient_makes_no_warning(name, bad):
    p = Tensor(np.ones(2, np.float32), requires_grad=True)
    run(CLASSES[name]([p], 10.0), [p], [[np.array([bad, -1.0])]] * 2)
    assert np.isfinite(p.numpy()[1])


def test_a_model_that_was_cast_goes_on_in_its_new_dtype():
    p = Tensor(np.ones(2, np.float32), requires_grad=True)
    optimizer = Adam([p])
    run(optimizer, [p], [[np.ones(2)]])
    module = Module()
    module.p = p
    module.to(np.float64)
    run(optimizer, [p], [[np.ones(2)]])
    assert p.dtype == optimizer.state[0]["exp_avg"].dtype == np.float64


# ---------------------------------------------------------------- manners


def test_a_step_writes_in_a_way_that_the_tape_notices():
    p = Tensor([2.0], requires_grad=True)
    loss = (p * p).sum()
    before = p.version
    p.grad = np.array([1.0])
    SGD([p], 0.1).step()
    assert p.version > before
    with pytest.raises(RuntimeError, match="written"):
        loss.backward()


@pytest.mark.parametrize("name", CLASSES)
def test_a_step_leaves_gradients_and_what_the_user_holds_alone(name):
    start = np.array([1.0, 2.0])
    p = Tensor(start, requires_grad=True)
    gradient = np.array([3.0, 4.0])
    p.grad = gradient
    CLASSES[name]([p], 0.1, weight_decay=0.5, maximize=True).step()
    assert gradient.tolist() == [3.0, 4.0]
    assert p.grad is gradient
    assert start.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("name", CLASSES)
def test_float32_stays_float32_even_with_numpy_scalars_as_options(name, rng):
    params = leaves(rng, np.float32)
    optimizer = CLASSES[name](params, np.float64(0.1), weight_decay=np.float64(0.1))
    optimizer.lr = np.float64(0.05)
    run(optimizer, params, random_gradients(rng, 2))
    assert all(p.dtype == np.float32 for p in params)
    kept = [v for s in optimizer.state.values() for v in s.values() if isinstance(v, np.ndarray)]
    assert all(array.dtype == np.float32 for array in kept)


def test_parameters_without_a_gradient_stay_as_they_are():
    p, q = Tensor([1.0], requires_grad=True), Tensor([1.0], requires_grad=True)
    p.grad = np.array([1.0])
    Adam([p, q], 0.1).step()
    assert p.item() != 1.0 and q.item() == 1.0 and q.version == 0


def test_gradients_in_any_memory_order_are_read_right(rng):
    p = Tensor(np.zeros((3, 4)), requires_grad=True)
    gradient = rng.standard_normal((4, 3)).T
    p.grad = gradient
    SGD([p], 1.0).step()
    np.testing.assert_array_equal(p.numpy(), -gradient)


def test_groups_have_options_of_their_own_and_lr_sets_all():
    p, q = Tensor([1.0], requires_grad=True), Tensor([1.0], requires_grad=True)
    optimizer = SGD([{"params": [p], "lr": 1.0}, {"params": [q]}], lr=0.5)
    p.grad = q.grad = np.array([1.0])
    optimizer.step()
    assert (p.item(), q.item()) == (0.0, 0.5)
    assert optimizer.lr == 1.0
    optimizer.lr = 0.25
    optimizer.step()
    assert (p.item(), q.item()) == (-0.25, 0.25)
    optimizer.zero_grad()
    assert p.grad is None and q.grad is None


@pytest.mark.parametrize(("name", "options"), SETTINGS, ids=IDS)
def test_a_run_that_is_saved_and_loaded_goes_on_bit_for_bit(rng, name, options):
    params = leaves(rng)
    optimizer = CLASSES[name](params, **options)
    gradients = random_gradients(rng, 8)
    run(optimizer, params, gradients[:4])
    saved = optimizer.state_dict()
    twins = [Tensor(p.numpy().copy(), requires_grad=True) for p in params]
    run(optimizer, params, gradients[4:])
    twin = CLASSES[name](twins)
    twin.load_state_dict(saved)
    run(twin, twins, gradients[4:])
    for p, q in zip(params, twins, strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())


def test_loading_a_state_that_does_not_fit_changes_nothing(rng):
    params = leaves(rng)
    optimizer = Adam(params, 0.1)
    run(optimizer, params, random_gradients(rng, 2))
    good = optimizer.state_dict()
    before = repr(good)
    bad = optimizer.state_dict()
    bad["state"][1]["exp_avg"] = np.zeros(7)
    with pytest.raises(ValueError, match=r"parameter 1: exp_avg must have.*\(5,\), got \(7,\)"):
        optimizer.load_state_dict(bad)
    with pytest.raises(ValueError, match=r"must have \[3\] parameters, got \[2\]"):
        optimizer.load_state_dict(Adam(params[:2]).state_dict())
    with pytest.raises(ValueError, match="'state' and 'param_groups'"):
        optimizer.load_state_dict({"state": {}})
    assert repr(optimizer.state_dict()) == before


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda p: SGD([], 0.1), ValueError, "SGD: params is empty"),
        (lambda p: SGD(p, 0.1), TypeError, r"pass \[tensor\]"),
        (lambda p: SGD(3, 0.1), TypeError, r"model\.parameters\(\)"),
        (lambda p: SGD([np.ones(3)], 0.1), TypeError, "must be Tensors, got ndarray"),
        (lambda p: SGD([p, p], 0.1), ValueError, "given twice"),
        (lambda p: SGD([p * 2.0], 0.1), ValueError, "must be leaves"),
        (lambda p: SGD([p], -0.1), ValueError, "SGD: lr must be 0 or more, got -0.1"),
        (lambda p: SGD([p], 0.1, nesterov=True), ValueError, "nesterov needs momentum"),
        (lambda p: Adam([p], betas=(0.9, 1.0)), ValueError, r"AdamW?: betas.*\[0, 1\)"),
        (lambda p: AdamW([p], eps=-1.0), ValueError, "AdamW: eps must be 0 or more"),
        (lambda p: SGD([{"params": [p], "speed": 1}], 0.1), ValueError, r"unknown.*'speed'"),
    ],
)
def test_wrong_arguments_are_refused_by_name(make, error, words):
    with pytest.raises(error, match=words):
        make(Tensor([1.0], requires_grad=True))


def test_a_learning_rate_below_zero_cannot_be_set():
    optimizer = SGD([Tensor([1.0], requires_grad=True)], 0.1)
    with pytest.raises(ValueError, match="lr must be 0 or more"):
        optimizer.lr = -1.0
    assert optimizer.lr == 0.1
