"""What must change no verdict: the loss's size, the batch's order, padding, a later start.

The networks are far from every threshold: more samples may decide what is inconclusive, and
rounding may push what lies on a threshold, and neither is what these tests are about.
"""

import numpy as np
import pytest

import diagnostics as dg
import minirnn
from minirnn import cell, sigmoid, tanh

STEPS, BATCH, INPUTS, UNITS = 50, 8, 3, 8


@cell(gates="ag", state="hm")
def user_made(wx, u, prev):
    """A leaky memory with a gate of its own, as a user may write it: in no registry."""
    a = sigmoid(wx.a + u.a @ prev.h)
    m = a * prev.m + (1 - a) * tanh(wx.g + u.g @ prev.h)
    h = tanh(m)
    return h, m


class Padded(minirnn.Module):
    """A recurrent layer and a readout; sequences may have lengths."""

    def __init__(self, recurrent, lengths=None):
        self.recurrent, self.lengths = recurrent, lengths
        self.readout = minirnn.Linear(recurrent.hidden_size, 2, dtype="float64", seed=5)

    def forward(self, x):
        return self.readout(self.recurrent(x, lengths=self.lengths)[0])


# Name -> cell, weights of the recurrence, bias of gates that keep, size of the input.
NETWORKS = {
    "dying rnn": ("rnn", minirnn.init.orthogonal(0.5), {}, 0.3),
    "orthogonal rnn": ("rnn", minirnn.init.orthogonal(0.99), {}, 0.01),
    "exploding rnn": ("rnn", minirnn.init.orthogonal(1.6), {}, 1e-12),
    "saturated gru": ("gru", minirnn.init.uniform(0.3), {}, 60.0),
    "remembering gru": ("gru", minirnn.init.uniform(0.3), {"z": 6.0}, 0.3),
    "forgetting lstm": ("lstm", minirnn.init.uniform(0.3), {"f": -3.0}, 0.3),
    "remembering lstm": ("lstm", minirnn.init.uniform(0.3), {"f": 6.0}, 0.3),
    "forgetting user-made": (user_made, minirnn.init.uniform(0.3), {"a": -3.0}, 0.3),
    "remembering user-made": (user_made, minirnn.init.uniform(0.1), {"a": 6.0}, 0.3),
}
EXPECTED = {
    "dying rnn": {"R1": "fail", "R2": "ok", "R4": "info", "R5": "fail"},
    "orthogonal rnn": {"R1": "ok", "R2": "ok", "R5": "ok"},
    "exploding rnn": {"R1": "ok", "R2": "fail", "R5": "fail"},
    "saturated gru": {"R6": "fail"},
    "remembering gru": {"R1": "ok", "R8": "ok"},
    "forgetting lstm": {"R1": "fail", "R8": "fail"},
    "remembering lstm": {"R1": "ok", "R7": "info", "R8": "ok"},
    "forgetting user-made": {"R1": "fail", "R8": "fail"},
    "remembering user-made": {"R1": "ok", "R8": "ok"},
}


def made(kind):
    """A network, its input and the readout's targets at the last step."""
    which, weights, biases, scale = NETWORKS[kind]
    layer = minirnn.Recurrent(
        which, INPUTS, UNITS, dtype="float64", seed=2, init={"weight_hh": weights}
    )
    gates = layer.cell.gates
    blocks = [np.full(UNITS, biases.get(k, 0.0)) for k in gates]
    layer.bias_ih_l0.assign(np.concatenate(blocks))
    layer.bias_hh_l0.assign(np.zeros(layer.bias_hh_l0.shape))
    rng = np.random.default_rng(7)
    x = scale * rng.normal(size=(STEPS, BATCH, INPUTS))
    return layer, x, rng.normal(size=(STEPS, BATCH, 2))


def verdicts(layer, x, y, lengths=None, factor=1.0, last=None, need_lag=30):
    """Every rule's verdict, for a loss at the last step."""
    last = len(y) - 1 if last is None else last

    def loss(out, y):
        return factor * ((out[last] - y[last]) ** 2).mean()

    report = dg.diagnose(Padded(layer, lengths), x, y, loss, level="full", need_lag=need_lag)
    return {v.rule: v for v in report.verdicts}


def levels_of(found):
    return {rule: v.level for rule, v in found.items()}


def numbers_of(found, *without):
    """What was judged, without rules that rest on random numbers of the transformed shape."""
    return {rule: v.value for rule, v in found.items() if rule not in without}


@pytest.fixture(scope="module", params=NETWORKS)
def judged(request):
    layer, x, y = made(request.param)
    return request.param, layer, x, y, verdicts(layer, x, y)


def test_clear_cases_are_judged_as_what_they_are(judged):
    kind, *_, found = judged
    assert EXPECTED[kind].items() <= levels_of(found).items(), levels_of(found)
    assert found["R15"].level == "ok"


@pytest.mark.parametrize("power", [-40, 30])
def test_a_loss_times_a_power_of_two_changes_no_bit_of_any_verdict(power, judged):
    """Every gradient is scaled exactly; what a verdict holds are ratios of them."""
    _, layer, x, y, found = judged
    assert verdicts(layer, x, y, factor=2.0**power) == found


@pytest.mark.parametrize("factor", [1e-9, 10.0, 1e9])
def test_the_size_of_the_loss_changes_no_verdict(factor, judged):
    _, layer, x, y, found = judged
    scaled = verdicts(layer, x, y, factor=factor)
    assert levels_of(scaled) == levels_of(found)
    # Ratios of gradients that were rounded once more; R15 is made of roundings itself.
    one, other = numbers_of(scaled, "R15"), numbers_of(found, "R15")
    assert one == pytest.approx(other, rel=1e-12, nan_ok=True)


# R1, R2, R3 and R5 draw random vectors by place in the batch, and R15 random directions.
DRAWN = ("R1", "R2", "R3", "R5", "R15")


def test_the_order_of_the_batch_changes_no_verdict(judged):
    _, layer, x, y, found = judged
    order = np.random.default_rng(1).permutation(BATCH)
    moved = verdicts(layer, x[:, order], y[:, order])
    assert levels_of(moved) == levels_of(found)
    # The same numbers, summed over the batch in another order.
    one, other = numbers_of(moved, *DRAWN), numbers_of(found, *DRAWN)
    assert one == pytest.approx(other, rel=1e-9, nan_ok=True)


def test_a_batch_given_twice_changes_no_verdict(judged):
    _, layer, x, y, found = judged
    twice = verdicts(layer, np.tile(x, (1, 2, 1)), np.tile(y, (1, 2, 1)))
    clear = {rule for rule, v in found.items() if v.level != "inconclusive"}
    # Sixteen samples may decide what eight leave open, and nothing else.
    assert {r: twice[r].level for r in clear} == {r: found[r].level for r in clear}
    one, other = numbers_of(twice, *DRAWN), numbers_of(found, *DRAWN)
    assert one == pytest.approx(other, rel=1e-9, nan_ok=True)


def padded_with(x, y, rows):
    """Input and targets with rows of padding: NaN, which must influence nothing."""
    tail = np.full((rows, *x.shape[1:]), np.nan)
    return np.concatenate([x, tail]), np.concatenate([y, np.zeros((rows, *y.shape[1:]))])


def test_padding_changes_no_verdict(judged):
    _, layer, x, y, found = judged
    given = padded_with(x, y, 9)
    padded = verdicts(layer, *given, lengths=np.full(BATCH, STEPS), last=STEPS - 1)
    assert levels_of(padded) == levels_of(found)
    assert numbers_of(padded, "R15") == pytest.approx(
        numbers_of(found, "R15"), rel=1e-12, nan_ok=True
    )


def test_more_padding_changes_no_verdict_of_sequences_of_many_lengths(judged):
    _, layer, x, y, _ = judged
    lengths = np.array([50, 50, 49, 50, 45, 50, 40, 50])
    last = 39  # a step that all have
    given = padded_with(x, y, 13)
    ragged = verdicts(layer, x, y, lengths=lengths, last=last)
    longer = verdicts(layer, *given, lengths=lengths, last=last)
    assert levels_of(longer) == levels_of(ragged)
    assert numbers_of(longer, "R15") == pytest.approx(
        numbers_of(ragged, "R15"), rel=1e-12, nan_ok=True
    )


def test_steps_after_the_last_loss_change_no_verdict(judged):
    """They have no gradient; what judges the loss's own gradient stays to the last digit."""
    _, layer, x, y, found = judged
    more = np.random.default_rng(9).normal(size=(10, BATCH, INPUTS)) * np.abs(x).mean()
    longer = np.concatenate([x, more]), np.concatenate([y, np.zeros((10, BATCH, 2))])
    after = verdicts(layer, *longer, last=STEPS - 1)
    clear = {rule for rule, v in found.items() if v.level != "inconclusive"}
    assert {r: after[r].level for r in clear} == {r: found[r].level for r in clear}
    for rule in ("R12", "R14"):
        assert after[rule].value == pytest.approx(found[rule].value, rel=1e-12)


# A saturated network is one by its input: zeros before it are another input.
@pytest.mark.parametrize("kind", [kind for kind in NETWORKS if kind != "saturated gru"])
def test_a_later_start_changes_no_verdict(kind):
    """Where nothing but keeping gates has a bias, zero input leaves the states at zero."""
    layer, x, y = made(kind)
    later = np.concatenate([np.zeros((10, BATCH, INPUTS)), x])
    targets = np.concatenate([np.zeros((10, BATCH, 2)), y])
    plain = verdicts(layer, x, y, need_lag=20)
    shifted = verdicts(layer, later, targets, need_lag=20)
    # R12 and R14 judge how much of the whole sequence is reached: that is a longer one now.
    rest = ("R12", "R14")
    assert {k: v for k, v in levels_of(plain).items() if k not in rest} == {
        k: v for k, v in levels_of(shifted).items() if k not in rest
    }


@pytest.mark.parametrize("kind", ["dying rnn", "forgetting lstm", "remembering user-made"])
def test_the_index_of_the_first_step_changes_nothing_for_a_cell_without_a_clock(kind):
    layer, x, _ = made(kind)

    class Later(minirnn.Module):
        def __init__(self, start):
            self.recurrent, self.start = layer, start

        def forward(self, x):
            return self.recurrent(x, start=self.start)

    one, other = (dg.diagnose(Later(start), x) for start in (0, 1000))
    assert one.verdicts == other.verdicts
