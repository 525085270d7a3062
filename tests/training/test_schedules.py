"""Every schedule equals the one of transformers, at every step; bad settings are refused."""

import jax
import numpy as np
import pytest

from jaxablate.core.errors import UserError
from jaxablate.training.schedules import Schedule

TOTAL, WARMUP, DECAY = 40, 8, 12


def reference(kind):
    optimization = pytest.importorskip("transformers").optimization
    torch = pytest.importorskip("torch")
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    match kind:
        case "constant":
            schedule = optimization.get_constant_schedule(optimiser)
        case "constant_with_warmup":
            schedule = optimization.get_constant_schedule_with_warmup(optimiser, WARMUP)
        case "linear":
            schedule = optimization.get_linear_schedule_with_warmup(optimiser, WARMUP, TOTAL)
        case "cosine":
            schedule = optimization.get_cosine_schedule_with_warmup(optimiser, WARMUP, TOTAL)
        case "wsd":
            schedule = optimization.get_wsd_schedule(
                optimiser, WARMUP, DECAY, TOTAL, decay_type="linear"
            )
    rates = []
    for _ in range(TOTAL + 1):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("kind", ["constant", "constant_with_warmup", "linear", "cosine", "wsd"])
def test_schedule_equals_transformers(kind):
    warmup = 0 if kind == "constant" else WARMUP
    schedule = Schedule(
        kind=kind, peak=0.3, total_steps=TOTAL, warmup_steps=warmup, decay_steps=DECAY
    )
    got = jax.vmap(schedule)(np.arange(TOTAL + 1))
    np.testing.assert_allclose(got, reference(kind), rtol=1e-5, atol=1e-7)


def test_a_rate_depends_on_the_step_alone():
    schedule = Schedule(kind="cosine", peak=1.0, total_steps=10, warmup_steps=2, final_share=0.1)
    assert float(schedule(7)) == float(jax.jit(schedule)(np.int32(7)))
    assert float(schedule(10)) == float(schedule(99)) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"total_steps": 0}, "total_steps must be >= 1, got 0"),
        ({"warmup_steps": 11}, "warmup_steps must be between 0 and total_steps .10., got 11"),
        ({"warmup_steps": 4, "decay_steps": 7}, "decay_steps must be between 0 and .*6.*got 7"),
        ({"final_share": 1.5}, "final_share must be between 0 and 1, got 1.5"),
        ({"peak": 0.0}, "peak learning rate must be > 0, got 0.0"),
        ({"kind": "constant", "warmup_steps": 1}, "use 'constant_with_warmup'"),
        ({"kind": "cosin"}, "unknown schedule 'cosin'; .* did you mean 'cosine'"),
    ],
)
def test_settings_outside_their_range_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Schedule(**{"kind": "linear", "peak": 1.0, "total_steps": 10, **settings})
