"""Training a low-rank update beside frozen weights, as something a training step can assemble.

step = make_train_step(config, ..., assemble=lora_assemble(config, settings, layout))
state = create(flatten(init(settings, config, key=key)), weights(decoder), ...)
"""

from typing import Any

from jaxablate.latent.lora import LoRAConfig, attach, resolve_targets
from jaxablate.models.config import DecoderConfig
from jaxablate.models.decoder import Decoder
from jaxablate.models.layout import build
from jaxablate.models.lora import flatten, unflatten
from jaxablate.training.state import Weights
from jaxablate.training.step import Assemble

__all__ = ["flatten", "lora_assemble", "unflatten"]


def lora_assemble(config: DecoderConfig, settings: LoRAConfig, layout: str = "loop") -> Assemble:
    """Makes the decoder of a step from factors that are trained and weights that are not.

    Dropout acts where the step gives a key, which it does not for a loss that is only measured.

    Args:
        config: the decoder's.
        settings: rank, alpha, targets and dropout.
        layout: of the frozen weights' paths; factors are by layer in both.

    Raises:
        UserError: for more layers than the decoder has.
    """
    resolve_targets(settings, config)

    def assemble(trained: Weights, frozen: Weights, key: Any) -> Decoder:
        lora = unflatten(
            trained, rank=settings.rank, alpha=settings.alpha, dropout=settings.dropout
        )
        decoder = build(config, frozen, layout=layout)
        return attach(decoder, lora, dropout_key=key if settings.dropout else None)

    return assemble
