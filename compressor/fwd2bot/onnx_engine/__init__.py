"""ONNX Runtime as the engine of the second pass on a CPU."""
