"""All pictures of a report, in the order of the page."""

from diagnostics.page import (
    pictures_of_clipping,
    pictures_of_credit,
    pictures_of_dynamics,
    pictures_of_flow,
    pictures_of_gates,
    pictures_of_numbers,
    pictures_of_steps,
    pictures_of_timeline,
    pictures_of_training,
)
from diagnostics.page.picture import Picture
from diagnostics.report import Report

PICTURES = (
    pictures_of_flow.lag_gain,
    pictures_of_flow.gradient_flow,
    pictures_of_steps.influence,
    pictures_of_credit.credit,
    pictures_of_credit.truncation,
    pictures_of_gates.saturation,
    pictures_of_gates.timescales,
    pictures_of_steps.jacobians,
    pictures_of_dynamics.lyapunov,
    pictures_of_dynamics.eigenvalues,
    pictures_of_timeline.timeline,
    pictures_of_training.timeline,
    pictures_of_clipping.clipping,
    pictures_of_clipping.direction,
    pictures_of_clipping.in_graph,
    pictures_of_training.loss,
    pictures_of_numbers.numeric_health,
    pictures_of_numbers.precision,
)


def pictures(report: Report) -> list[Picture]:
    """Draw every picture that the report has data for."""
    drawn = [draw(report) for draw in PICTURES]
    return [picture for picture in drawn if picture is not None]
