"""Real models, each with data and a number that tells whether it still does what it was made for."""

from __future__ import annotations

from tests.benchmarks.measures import ddddocr, dnsmos, light, magika, rapidocr, silero
from tests.benchmarks.measures.real import Array, Feed, Real, Run, runner

__all__ = ["Array", "Feed", "Real", "Run", "real_models", "runner"]


def real_models() -> tuple[Real, ...]:
    """All models; nothing is loaded, made or looked for until a model is asked for it."""
    families = (magika, rapidocr, ddddocr, silero, dnsmos, light)
    return tuple(model for family in families for model in family.models())
