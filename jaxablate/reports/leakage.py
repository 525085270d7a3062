"""What a probe measured: for each mask, whether an answer's logits follow what comes after them."""

from dataclasses import dataclass
from pathlib import Path

from jaxablate.core.errors import UserError
from jaxablate.core.files import read_json
from jaxablate.reports.shapes import match
from jaxablate.runs.folder import METRICS, read_manifest

KIND = "probe"
_SHAPE = {
    "probe": str,
    "results": [
        {
            "name": str,
            "leaks": bool,
            "future_change": float,
            "prompt_change": float,
            "teacher_forced_loss": float,
            "decode_loss": float,
        }
    ],
}


@dataclass(frozen=True, kw_only=True)
class Leak:
    """One mask on one model.

    Attributes:
        future_change: largest change of a scored logit when its target and all later tokens change.
        prompt_change: largest change at the prompt's first token when its last one changes.
        one_pass: loss of random responses, all tokens at once, in nats a token.
        decoded: that of the same tokens one by one.
    """

    model: str
    mask: str
    leaks: bool
    future_change: float
    prompt_change: float
    one_pass: float
    decoded: float


def load_leaks(folder: str | Path, model: str) -> tuple[Leak, ...]:
    """The masks of a leakage probe's run; none of a run that is not done.

    Raises:
        UserError: for a folder without a probe, or with files that are not as they should be.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest["kind"] != KIND:
        raise UserError(f"{folder}: holds a run of {manifest['kind']!r}, wanted {KIND!r}")
    if manifest.get("status") != "done":
        return ()
    path = folder / METRICS
    metrics = read_json(path)
    match(metrics, _SHAPE, "", path)
    return tuple(
        Leak(
            model=model,
            mask=result["name"],
            leaks=result["leaks"],
            future_change=result["future_change"],
            prompt_change=result["prompt_change"],
            one_pass=result["teacher_forced_loss"],
            decoded=result["decode_loss"],
        )
        for result in metrics["results"]
    )
