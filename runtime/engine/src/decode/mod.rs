//! Decoding: logits to words (CTC greedy, prefix beam search, grammars).
