//! A streaming session: push frames, poll logits.
