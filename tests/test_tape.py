"""The tape: recording, the walk back, versions, memory; and derivatives of derivatives."""

import gc
import threading
import weakref

import numpy as np
import pytest

from minirnn.engine import (
    Tensor,
    concat,
    einsum,
    enable_grad,
    grad,
    is_grad_enabled,
    no_grad,
    pad,
    record,
    tape,
)


def leaf(*numbers):
    return Tensor(np.array(numbers), requires_grad=True)


def square(x):
    """``x * x`` with a vjp that knows arrays only, like a fused kernel's."""
    data = x._data
    return record([data * data], [x], lambda d: (np.multiply(d, 2 * data),), name="square")[0]


# Recording.


def test_an_operation_with_several_outputs_gets_none_for_those_without_a_gradient():
    x = leaf(1.0, 2.0)
    got = []

    def vjp(*douts):
        got.extend(douts)
        return (3 * douts[1],)

    outputs = record([x._data + 1, x._data + 2, x._data + 3], [x], vjp, name="three")
    outputs[1].sum().backward()
    assert got[0] is None and got[2] is None
    assert got[1].tolist() == [1.0, 1.0]
    assert x.grad.tolist() == [3.0, 3.0]


def test_a_tensor_that_is_used_twice_gets_the_sum():
    x = leaf(3.0)
    y = x * x
    (y * y + y + y + x).sum().backward()  # x^4 + 2 x^2 + x
    assert x.grad.tolist() == [4 * 27 + 4 * 3 + 1.0]


def test_a_tensor_that_is_a_parent_twice_gets_the_sum():
    x = leaf(3.0)
    record([x._data * 5], [x, x], lambda d: (2 * d, 3 * d), name="twice")[0].backward()
    assert x.grad.tolist() == [5.0]


def test_sums_never_write_into_an_array_that_a_vjp_returned():
    x, seen = leaf(1.0, 1.0), np.ones(2)
    y = record([x._data], [x], lambda d: (seen,), name="keeps")[0]
    (y + x + x + x).sum().backward()
    assert seen.tolist() == [1.0, 1.0] and x.grad.tolist() == [4.0, 4.0]


def test_arrays_that_a_vjp_gives_away_are_summed_in_and_handed_out():
    x, w, b = leaf(1.0, 1.0), leaf(1.0, 1.0), leaf(1.0, 1.0)
    made = []

    def vjp(d):
        made[:] = [2.0 * d, 3.0 * d]
        return [*made, None]

    older = w + b
    y = record([x._data], [x, w, b], vjp, fresh=True)[0]
    seed = np.ones(2)
    (y + older).backward(seed, retain_graph=True)
    assert x.grad is made[0] and x.grad.tolist() == [2.0, 2.0]
    assert w.grad is made[1] and w.grad.tolist() == [4.0, 4.0]
    # The vjp gave nothing to b: what it has is the seed, which is not ours to hand out.
    assert not np.shares_memory(b.grad, seed) and b.grad.tolist() == seed.tolist() == [1.0, 1.0]
    first = x.grad
    y.backward(seed)
    assert x.grad.tolist() == [4.0, 4.0] and first.tolist() == [2.0, 2.0]


def test_gradients_of_two_leaves_do_not_share_memory():
    a, b = leaf(1.0), leaf(2.0)
    d = np.ones(1)
    (a + b).backward(d)
    assert not np.shares_memory(a.grad, b.grad) and not np.shares_memory(a.grad, d)
    g, h = grad(a + b, [a, b])
    assert not np.shares_memory(g.numpy(), h.numpy())


def test_nothing_is_kept_where_no_parent_requires_grad():
    y = record([np.ones(2)], [Tensor([1.0, 2.0])], lambda d: (d,), name="op")[0]
    assert not y.requires_grad and y._vjp is None


def test_a_vjp_with_the_wrong_number_of_gradients_is_an_error():
    x = leaf(1.0)
    y = record([x._data], [x, x], lambda d: (d,), name="short")[0]
    with pytest.raises(ValueError, match="short: its vjp must return one gradient per parent, 2"):
        y.backward()


def test_a_gradient_of_the_wrong_shape_or_dtype_is_an_error():
    x = leaf(1.0, 2.0)
    for wrong in (np.ones(3), np.ones(2, np.float32)):
        y = record([x._data], [x], lambda d, wrong=wrong: (wrong,), name="op")[0]
        with pytest.raises(ValueError, match="arrived at a tensor of shape"):
            y.sum().backward()


# no_grad.


def test_no_grad_records_nothing_and_nests_with_enable_grad():
    x = leaf(1.0)
    with no_grad():
        assert not (x * 2).requires_grad and not is_grad_enabled()
        with enable_grad():
            assert (x * 2).requires_grad
        assert not is_grad_enabled()
    assert is_grad_enabled()


def test_no_grad_decorates_functions_and_refuses_generators():
    @no_grad()
    def double(x):
        return x * 2

    assert not double(leaf(1.0)).requires_grad and is_grad_enabled()
    with pytest.raises(TypeError, match="generator function"):

        @no_grad()
        def numbers():
            yield 1


def test_no_grad_ends_with_an_exception():
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert is_grad_enabled()


def test_no_grad_of_one_thread_is_not_that_of_another():
    seen = []

    def record_something():
        seen.append((is_grad_enabled(), (leaf(1.0) * 2).requires_grad))

    with no_grad():
        thread = threading.Thread(target=record_something)
        thread.start()
        thread.join()
    assert seen == [(True, True)]


def test_a_function_that_no_grad_decorates_may_run_in_two_threads_at_once():
    entered, may_leave = threading.Event(), threading.Event()

    @no_grad()
    def call(function):
        return function()

    def stay():
        entered.set()
        may_leave.wait(10)

    def let_the_other_leave():
        may_leave.set()
        thread.join(10)

    thread = threading.Thread(target=call, args=(stay,))
    with no_grad():
        thread.start()
        assert entered.wait(10)
        call(let_the_other_leave)
        assert not is_grad_enabled()
    assert is_grad_enabled()


def test_backward_works_inside_no_grad():
    x = leaf(2.0)
    y = x * x
    with no_grad():
        y.backward()
    assert x.grad.tolist() == [4.0]


# Backward at the wrong time.


def test_a_second_backward_over_a_freed_tape_is_an_error():
    x = leaf(1.0)
    y = x * x
    y.backward()
    with pytest.raises(RuntimeError, match=r"freed by an earlier backward.*retain_graph=True"):
        y.backward()
    with pytest.raises(RuntimeError, match="freed by an earlier backward"):
        grad(y, x)
    with pytest.raises(RuntimeError, match="freed by an earlier backward"):
        (y * 2).backward()


def test_what_does_not_lead_through_the_freed_part_still_works():
    x, w = leaf(1.0), leaf(3.0)
    y = x * x
    y.backward()
    assert grad(y * w, w)[0].item() == 1.0


def test_retain_graph_allows_another_backward_and_gradients_accumulate():
    x = leaf(3.0)
    y = x * x
    y.backward(retain_graph=True)
    first = x.grad
    y.backward()
    assert x.grad.tolist() == [12.0]
    assert first.tolist() == [6.0]  # what was read before is not written into


def test_a_write_between_forward_and_backward_is_an_error_that_names_the_operation():
    w, x = leaf(2.0), leaf(3.0)
    y = w * x
    w.assign(np.array([5.0]))
    with pytest.raises(RuntimeError, match=r"operand 0 of \* .* written by assign"):
        y.backward()


@pytest.mark.parametrize(
    "alias",
    [
        Tensor.detach,
        lambda t: t[:],
        lambda t: t[np.array(0)],
        lambda t: t.reshape(1, 1),
        lambda t: t.transpose(0, 0),
        lambda t: t.unbind()[0],
        lambda t: t.split(1)[0],
        lambda t: t.flip(0),
        lambda t: t.squeeze().detach(),
    ],
)
def test_a_write_is_found_through_every_view_of_the_memory(alias):
    x, w = Tensor([2.0]), leaf(3.0)
    y = alias(x) * w
    x.assign(np.array([5.0]))
    with pytest.raises(RuntimeError, match="written by assign"):
        y.sum().backward()


@pytest.mark.parametrize(
    "result",
    [
        lambda t: einsum("i->i", t),
        lambda t: t.expand((1,)),
        lambda t: t.clip(None, None),
        lambda t: t.sum(0, keepdim=True),
        lambda t: concat([t]),
        lambda t: t.max(0, keepdim=True),
        lambda t: pad(t, (0, 0)),
    ],
)
def test_results_that_are_no_views_have_their_own_memory(result):
    x = Tensor([2.0])
    y = result(x)
    assert not np.shares_memory(x.numpy(), y.numpy())


def test_a_write_before_forward_or_to_another_tensor_is_fine():
    w, x, other = leaf(2.0), leaf(3.0), leaf(1.0)
    w.assign(np.array([5.0]))
    y = w * x
    other.assign(np.array([7.0]))
    y.backward()
    assert x.grad.tolist() == [5.0]


def test_writing_a_result_makes_it_a_constant():
    x = leaf(2.0)
    y = x * x
    z = y * 3
    y.assign(np.array([1.0]))
    assert not y.requires_grad
    with pytest.raises(RuntimeError, match="written by assign"):
        z.backward()
    (y * x).backward()
    assert x.grad.tolist() == [1.0]


# Memory.


@pytest.fixture
def no_collector():
    """Switch the garbage collector off: what dies then, dies by reference counts."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_backward_frees_the_tape_without_the_garbage_collector(no_collector):
    x = leaf(1.0, 2.0)
    y = (x * 2).tanh()
    z = (y + x).sum()
    buffer = np.zeros(3)
    held = weakref.ref(buffer)
    w = record([z._data], [z], lambda d, buffer=buffer: (d,), name="holds a buffer")[0]
    nodes = [weakref.ref(t) for t in (y._parents[0], y)]
    inner = weakref.ref(y)
    del y, z, buffer
    w.backward()
    assert held() is None and inner() is None
    assert [node() for node in nodes] == [None, None]


def test_a_tape_that_is_dropped_dies_without_the_garbage_collector(no_collector):
    x = leaf(1.0)
    y = (x * x).exp()
    inner = weakref.ref(y._parents[0])
    (g,) = grad(y, x, create_graph=True)
    outer = weakref.ref(g._parents[0])
    del y, g
    assert inner() is None and outer() is None


def test_buffers_die_one_by_one_as_backward_passes():
    x = leaf(1.0)
    buffers = [np.zeros(1), np.zeros(1)]
    held = [weakref.ref(b) for b in buffers]
    seen = []

    def second_vjp(d, buffer=buffers[1]):
        return (d,)

    def first_vjp(d, buffer=buffers[0]):
        seen.append(held[1]() is None)
        return (d,)

    y = record([x._data], [x], first_vjp, name="first")[0]
    y = record([y._data], [y], second_vjp, name="second")[0]
    del buffers, second_vjp, first_vjp
    y.backward()
    assert seen == [True] and held[0]() is None


def test_a_chain_of_100_000_operations_works_both_ways_and_is_freed(no_collector):
    """Neither the walk nor the deallocation may recurse; each would overflow the stack."""
    n = 100_000
    x = leaf(1.0)
    y = x
    for _ in range(n):
        y = y + x
    y.backward()
    assert x.grad.tolist() == [n + 1.0]
    for _ in range(n):
        y = x if y is None else y * 1.0
    del y
    assert gc.collect() == 0


def test_a_long_chain_works_with_grad_and_retain_graph():
    x = leaf(1.0)
    y = x
    for _ in range(20_000):
        y = y * 1.0
    assert grad(y, x, retain_graph=True)[0].item() == 1.0
    assert grad(y, x)[0].item() == 1.0


def test_one_graph_can_be_walked_by_two_threads():
    x = leaf(*np.linspace(-1.0, 1.0, 50))
    y = x
    for _ in range(300):
        y = (y * x).tanh() + x
    expected = grad(y.sum(), x, retain_graph=True)[0].numpy()
    found = []

    def walk():
        found.append(grad(y.sum(), x, retain_graph=True)[0].numpy())

    threads = [threading.Thread(target=walk) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for g in found:
        np.testing.assert_array_equal(g, expected)


# Derivatives of derivatives through an operation that knows arrays only.


def replayed(x, w):
    """``x * w * w``, fused: a vjp for arrays, a replay for graphs."""
    a, b = x._data, w._data

    def vjp(d):
        return np.multiply(d, b * b), np.multiply(d, 2 * a * b)

    return record([a * b * b], [x, w], vjp, replay=lambda x, w: (x * w * w,), name="fused")[0]


def test_create_graph_replays_a_fused_operation():
    x, w = leaf(2.0), leaf(3.0)
    dx, dw = grad(replayed(x * x, w), [x, w], create_graph=True)  # x^2 w^2
    assert (dx.item(), dw.item()) == (2 * 2 * 9.0, 4 * 2 * 3.0)
    ddx, ddw = grad(dx, [x, w], retain_graph=True)
    assert (ddx.item(), ddw.item()) == (2 * 9.0, 4 * 2 * 3.0)


def test_a_replayed_operation_may_have_one_tensor_as_two_parents():
    x = leaf(2.0)
    (dx,) = grad(replayed(x, x), x, create_graph=True)  # x^3
    assert dx.item() == 12.0
    assert grad(dx, x)[0].item() == 12.0


def test_create_graph_through_a_vjp_for_arrays_says_what_is_missing():
    x = leaf(2.0)
    with pytest.raises(RuntimeError, match=r"square: its vjp works on arrays only.*replay="):
        grad(square(x), x, create_graph=True)


def test_a_vjp_gets_arrays_unless_a_graph_is_asked_for():
    x = leaf(2.0)
    kinds = []

    def vjp(d):
        kinds.append(type(d))
        return (d * 1.0,)

    y = record([x._data], [x], vjp, name="op")[0]
    grad(y, x, retain_graph=True)
    grad(y, x, create_graph=True)
    assert kinds == [np.ndarray, Tensor]


def test_versions_only_grow():
    x = leaf(1.0)
    versions = [x.version]
    for _ in range(3):
        x.assign(np.array([2.0]))
        versions.append(x.version)
    assert versions[0] == 0 and versions == sorted(set(versions))
    assert x.detach().version == x.version
    assert tape.last_write >= x.version
