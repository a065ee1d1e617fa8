"""The model class for lmms-eval over its real interface (`pytest -m peers`, with lmms-eval
installed).
"""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from PIL import Image

from service.models import MODELS
from tests.fakes.model import fake_models

pytestmark = pytest.mark.peers


def test_lmms_eval_finds_the_model_and_gets_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    instance = pytest.importorskip("lmms_eval.api.instance")
    from lmms_eval.models import get_model

    monkeypatch.setitem(MODELS, "colours", fake_models)
    assert [each.value for each in entry_points(group="lmms_eval.models")] == [
        "service.commands.lmms_eval:manifest"
    ]
    model = get_model("precis").create_from_arg_string(
        "model=colours,codec=sq8,batch_size=2", {"device": None}
    )
    docs = [
        {"image": Image.new("RGB", (8, 8), colour)}
        for colour in ("red", "green", "blue")
    ]
    model.task_dict = {"task": {"test": docs}}
    requests = [
        instance.Instance(
            request_type="generate_until",
            arguments=(
                "<image>\nwhat?",
                {"max_new_tokens": 8, "until": "."},
                lambda d: [d["image"]],
                n,
                "task",
                "test",
            ),
            idx=n,
            metadata={"task": "task", "doc_id": n, "repeats": 1},
        )
        for n in range(3)
    ]
    assert model.generate_until(requests) == ["I see red", "I see green", "I see blue"]
    for call in (model.loglikelihood, model.generate_until_multi_round):
        with pytest.raises(NotImplementedError):
            call(requests)
