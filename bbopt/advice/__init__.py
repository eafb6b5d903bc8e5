"""Advice on a study: when to stop, how good its model is, which parameters matter, and what the model looks like.

    import bbopt

    print(bbopt.advice.stopping(opt).summary())
    print(bbopt.advice.quality(opt).summary())
    print(bbopt.advice.importance(opt).summary())
    bbopt.advice.slices(opt), bbopt.advice.contour(opt, "width", "bolts")

Every function returns data, arrays in the user's units and sign, with a `summary()` in words; `bbopt.advice.figures` draws
them, and `write_advice` makes one page of it all. `studied(opt)` fits the model once for several calls.
"""

from bbopt.advice import figures
from bbopt.advice.lines import Slice, slices
from bbopt.advice.model_quality import MetricQuality, Quality, quality
from bbopt.advice.page import write_advice
from bbopt.advice.plane import Contour, contour
from bbopt.advice.remaining import Stopping, stopping
from bbopt.advice.sensitivity import Importance, importance
from bbopt.advice.study_model import StudyModel, studied

__all__ = [
    "Contour", "Importance", "MetricQuality", "Quality", "Slice", "Stopping", "StudyModel", "contour", "figures",
    "importance", "quality", "slices", "stopping", "studied", "write_advice",
]  # fmt: skip
