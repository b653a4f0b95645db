"""What the demo records beside loss and norm, on recurrences whose truth is known."""

from types import SimpleNamespace

import numpy as np
import pytest

import minirnn
from diagnostics.demo import record
from diagnostics.quantities.clip_effect import clip_direction
from tests.toy_record import ToyRecord, orthogonal, repeated


@pytest.mark.parametrize("rho", [0.5, 0.95, 1.0, 1.2])
def test_the_recorded_rate_is_that_of_a_scaled_rotation(rho, rng):
    seen = ToyRecord(repeated(rho * orthogonal(4, rng), 20), 3, {"h": 4})
    # Every gain is rho^k exactly: rounding of 20 products in float64.
    assert record.decay(seen, step=0) == pytest.approx(rho, rel=1e-12)


def test_a_gradient_that_is_gone_at_once_has_rate_zero():
    seen = ToyRecord(repeated(np.zeros((4, 4)), 12), 2, {"h": 4})
    assert record.decay(seen, step=5) == 0.0


def test_the_size_of_an_update_is_relative_to_all_parameters():
    layer = minirnn.Linear(2, 2, seed=0, dtype=np.float64)
    before = layer.state_dict()
    for name, parameter in layer.named_parameters():
        parameter.assign(before[name] * 1.01)
    # Every entry moves by one percent, so the whole does.
    assert record.relative_change(before, layer) == pytest.approx(0.01, rel=1e-12)


def test_clipping_the_norm_keeps_the_direction_and_clipping_values_does_not():
    layer = minirnn.Linear(2, 1, bias=False, seed=0, dtype=np.float64)
    (minirnn.matmul(np.array([[3.0, 4.0]]), layer.weight.transpose(0, 1))).sum().backward()
    before = record.gradients(layer)
    np.testing.assert_array_equal(before["weight"], [[3.0, 4.0]])
    minirnn.clip_grad_norm(layer.parameters(), 0.5)
    kept = clip_direction(before, record.gradients(layer))
    assert kept.value == pytest.approx(1.0, rel=1e-15)
    minirnn.clip_grad_value(layer.parameters(), 0.3)
    # (0.3, 0.4) becomes (0.3, 0.3): cosine 2.1 / sqrt(2) / 0.3 / 5 = 0.98995.
    turned = clip_direction(before, record.gradients(layer))
    assert turned.value == pytest.approx(0.7 * np.sqrt(2), rel=1e-12)


def test_parameters_without_a_gradient_are_left_out():
    named = [("a", SimpleNamespace(grad=np.ones(2))), ("b", SimpleNamespace(grad=None))]
    assert set(record.gradients(SimpleNamespace(named_parameters=lambda: named))) == {"a"}
