//! Viseme model files as ONNX and TFLite: for engines that are compared with ours, and for those that stand in for it.
