"""Kaldi's log-mel filter banks: python log_mel_reference.py SAMPLES OUT (i16 in, f32 out, a row of 80 each 10 ms)."""

import sys

import kaldi_native_fbank
import numpy as np

samples = np.fromfile(sys.argv[1], np.int16).astype(np.float32)
options = kaldi_native_fbank.FbankOptions()
options.frame_opts.samp_freq = 16000
options.frame_opts.dither = 0
options.frame_opts.window_type = "hanning"
options.frame_opts.snip_edges = True
options.mel_opts.num_bins = 80
options.mel_opts.low_freq = 20
options.mel_opts.high_freq = 8000
fbank = kaldi_native_fbank.OnlineFbank(options)
fbank.accept_waveform(16000, samples.tolist())
fbank.input_finished()
rows = [fbank.get_frame(i) for i in range(fbank.num_frames_ready)]
np.concatenate(rows).astype(np.float32).tofile(sys.argv[2])
