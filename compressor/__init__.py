"""The LVLM side: first pass, second pass, training, evaluation."""
