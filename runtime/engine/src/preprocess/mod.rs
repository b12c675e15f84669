//! Preprocessing shared by training and running: landmarks to mouth crops, and frame timing.
