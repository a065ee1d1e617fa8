"""Takes the cache of keys and values out of an exported language model, in place.

    python -m compressor.fwd2bot.onnx_engine.without_cache GRAPH

The first pass reads each prompt once and whole, so it has no use for one, and would be given room
for all keys and values of a batch.
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx

_ATTENTION = "GroupQueryAttention"
# Places among its inputs and outputs, each optional: past key and value, present key and value.
_PAST = (3, 4)
_PRESENT = (1, 2)


def drop_cache(graph: Path) -> None:
    """Rewrites the graph; its weights, in the file beside it, stay as they are."""
    model = onnx.load(graph, load_external_data=False)
    for node in model.graph.node:
        if node.op_type == _ATTENTION:
            for place in _PAST:
                node.input[place] = ""
            for place in _PRESENT:
                node.output[place] = ""
    for values, prefix in (
        (model.graph.input, "past_key_values."),
        (model.graph.output, "present."),
    ):
        kept = [value for value in values if not value.name.startswith(prefix)]
        del values[:]
        values.extend(kept)
    onnx.save(model, graph)


if __name__ == "__main__":
    drop_cache(Path(sys.argv[1]))
