//! Kernels: the inner loops. The portable ones are the truth.
