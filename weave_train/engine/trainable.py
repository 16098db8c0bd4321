"""Rules by parameter name, on top of a stage: what is trained after all, and at which share of the rate.

    stage finetune      projector.*  language_model.*                 trained
    rule 1              language_model.model.embed_tokens.*           freeze
    rule 2              language_model.model.layers.0.*               lr_scale 0.1
    rule 3              vision.vit.blocks.22.*                        train, lr_scale 0.1

The first rule that matches a parameter decides. A rule that decides nothing is an error: a glob that was
meant to freeze a layer and freezes none would never be noticed.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from weave_data.errors import ConfigError
from weave_train.config import TrainableRule

__all__ = ["Choice", "choose"]


@dataclass(frozen=True)
class Choice:
    """What becomes of one parameter.

    Attributes:
        is_trained: At all.
        lr_scale: Factor of its part's learning rate.
    """

    is_trained: bool
    lr_scale: float = 1.0


def choose(
    by_stage: Mapping[str, bool], rules: Sequence[TrainableRule], *, unreachable: Mapping[str, str]
) -> dict[str, Choice]:
    """Decide about every parameter.

    Args:
        by_stage: Parameter names, and whether the stage trains them.
        rules: In order.
        unreachable: Parameters that no rule can train, and why.

    Raises:
        ConfigError: A rule matches nothing, or has no effect; or nothing is trained. All of them at once.
    """
    choices = {name: Choice(is_trained) for name, is_trained in by_stage.items()}
    open_names = list(by_stage)
    problems = []
    for index, rule in enumerate(rules):
        matching = [name for name in by_stage if fnmatchcase(name, rule.match)]
        mine = [name for name in open_names if fnmatchcase(name, rule.match)]
        problem = _problem(rule, matching, mine, by_stage=by_stage, unreachable=unreachable)
        if problem is not None:
            problems.append(f"trainable[{index}].match: {rule.match!r} {problem}")
        open_names = [name for name in open_names if name not in set(mine)]
        scale = 1.0 if rule.lr_scale is None else rule.lr_scale
        for name in mine:
            is_trained = not rule.freeze and (by_stage[name] or (rule.train and name not in unreachable))
            choices[name] = Choice(is_trained, scale)
    if not problems and not any(choice.is_trained for choice in choices.values()):
        problems.append("trainable: nothing is left to train; freeze less")
    if problems:
        raise ConfigError(problems)
    return choices


def _problem(
    rule: TrainableRule,
    matching: Sequence[str],
    mine: Sequence[str],
    *,
    by_stage: Mapping[str, bool],
    unreachable: Mapping[str, str],
) -> str | None:
    if not matching:
        return f"matches no parameter; the nearest is {_nearest(rule.match, by_stage)!r}"
    if not mine:
        return "matches only what earlier rules decide; the first match wins: put it before them"
    if rule.freeze:
        return None
    blocked = [name for name in mine if name in unreachable]
    if rule.train and blocked:
        return f"can't train {blocked[0]!r}: {unreachable[blocked[0]]}"
    if not rule.train and not any(by_stage[name] for name in mine):
        return f"matches only what the stage freezes, {mine[0]!r} first; add train: true to train it"
    return None


def _nearest(glob: str, names: Mapping[str, bool]) -> str:
    # names end alike ('.weight'), globs don't: a glob is compared with as much of a name as it is long
    plain = glob.replace("*", "").rstrip(".")
    heads: dict[str, str] = {}
    for name in names:
        heads.setdefault(name[: len(plain) + 4], name)
    (closest,) = difflib.get_close_matches(plain, heads, n=1, cutoff=0.0)
    return heads[closest]
