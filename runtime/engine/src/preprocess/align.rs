//! Following the head between two runs of the face detector.
