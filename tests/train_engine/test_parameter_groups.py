"""AdamW's groups: every trained parameter once, by part and by whether it decays."""

from __future__ import annotations

import pytest
from step_ranks import build

from weave_train.engine.parameter_groups import parameter_groups, set_learning_rate


@pytest.mark.parametrize(("stage", "num_groups"), [("align", 2), ("finetune", 4), ("full-finetune", 6)])
def test_every_trained_parameter_is_in_one_group(stage, num_groups) -> None:
    core = build(stage).core
    groups = parameter_groups(core, weight_decay=0.1, lr_scale={})
    assert len(groups) == num_groups
    members = [id(value) for group in groups for value in group["params"]]
    trained = [value for value in core.parameters() if value.requires_grad]
    assert sorted(members) == sorted(id(value) for value in trained)
    names = {id(value): name for name, value in core.named_parameters()}
    for group in groups:
        for value in group["params"]:
            decays = value.ndim >= 2 and not names[id(value)].endswith(".bias")
            assert group["weight_decay"] == (0.1 if decays else 0.0)


def test_a_part_has_its_share_of_the_rate() -> None:
    groups = parameter_groups(build("full-finetune").core, weight_decay=0.1, lr_scale={"vision": 0.1})
    set_learning_rate(groups, 2e-5)
    assert [group["lr"] for group in groups] == pytest.approx([2e-5] * 4 + [2e-6] * 2)
