"""Heads in the frameworks that people train with: none gives wrong logits, and what is refused is meant to be."""

from pathlib import Path

import pytest
from bench_frameworks import CASES, DTYPES, HEADS, Sets, outcome

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the frameworks warn of themselves

FIXED = {*HEADS} - {"MultiCenterClassifier"}
# Other prototypes are refused, and so is more classes than a learned classifier or a set that extends no other has.
REFUSED = {
    "load_state_dict of other prototypes": FIXED,
    "dcp.load of other prototypes": FIXED,
    "transformers, other prototypes": FIXED,
    "accelerate load_checkpoint_and_dispatch": {"AssignmentHead"},  # accelerate takes no extra state
    "ONNX, run by onnxruntime": {"CosineHead, bfloat16 rows"},  # onnxruntime multiplies no bfloat16 on a CPU
    "ONNX by the old exporter": {"CosineHead, by formula", "CosineHead, bfloat16 rows"},
    "torch.fx": {"CosineHead, by formula"},
    "a checkpoint of 40 classes into the set that extends it": {"SubcenterHead", "MultiCenterClassifier"},
}
NAMED = "sha256", "size mismatch", "ignore_mismatched_sizes", "_extra_state", "as_linear()", "NOT_IMPLEMENTED"


# What takes two seconds for each head is asked of the first alone in bfloat16.
LONG = {"torch.compile in one graph, whole and by chunks", "ONNX, run by onnxruntime"}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    return Sets(Path(tmp_path_factory.mktemp("store")))


@pytest.mark.parametrize("case", CASES)
def test_no_framework_changes_what_a_head_multiplies_with(case: str, sets: Sets) -> None:
    for place, head in enumerate(HEADS):
        for dtype in DTYPES[:1] if place and case in LONG else DTYPES:
            found = outcome(case, head, dtype, sets)
            if head in REFUSED.get(case, ()):
                assert found.startswith("refused: "), (head, dtype, found)
                # transformers says the key above the error that it raises.
                assert any(word in found for word in NAMED), found
            else:
                assert found == "works", (head, dtype, found)
