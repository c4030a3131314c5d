"""Advice for models that were converted for the Coral already: never what has been done."""

from __future__ import annotations

from dataclasses import replace

from edgeconv.targets.coral.placement.predict import Prediction

_CONVERT = "--target coral"
_APPROXIMATE = "--allow-approximate"
_LAYOUT = "--io-layout nhwc"

_NO_REWRITE = (
    "no exact rewrite maps it here: cut the model before it (--cut), or replace it in the network"
)
_OWN_TRANSPOSE = (
    "the network itself moves its channels: leave them last there, or cut the model before it "
    "(--cut)"
)


def for_converted(prediction: Prediction) -> Prediction:
    """Return a prediction of a model that ``--target coral`` made, with advice that is left."""
    return replace(
        prediction,
        ops=tuple(replace(item, advice=left(item.advice)) for item in prediction.ops),
        cuts=tuple(replace(item, advice=left(item.advice)) for item in prediction.cuts),
        objections=tuple(replace(item, advice=left(item.advice)) for item in prediction.objections),
    )


def left(advice: str) -> str:
    """Return what is left to do of advice, of a model that ``--target coral`` made."""
    if _APPROXIMATE in advice:
        return f"add {_APPROXIMATE}, which replaces it by a close function"
    if _LAYOUT in advice:
        return _OWN_TRANSPOSE
    return _NO_REWRITE if _CONVERT in advice else advice
