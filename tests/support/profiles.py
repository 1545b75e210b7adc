"""How Hypothesis looks for examples: `--hypothesis-profile` names another of these."""

from __future__ import annotations

from hypothesis import Phase, settings

# The same examples on every run, so that a change is judged by what it changed.
settings.register_profile("repeatable", derandomize=True, deadline=None)
# Ten times as many, and others on every run; a failure prints what repeats it.
settings.register_profile("explore", max_examples=1000, deadline=None, print_blob=True)
# Where it only counts whether there is a failure.
settings.register_profile("unshrunk", settings.get_profile("repeatable"), phases=[Phase.explicit, Phase.generate])

settings.load_profile("repeatable")


def scaled(examples: int) -> int:
    """So many examples on every run, and more where more are wanted."""
    return examples * settings().max_examples // 100
