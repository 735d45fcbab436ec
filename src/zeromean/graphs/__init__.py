"""Normalizers in ONNX graphs: built alone, put in front of a model, folded in, and found again."""
