//! What a stream promises.

use viseme_engine::kernels;
use viseme_engine::model::conformer::Model;
use viseme_engine::session::{self, PushError, Session};
use viseme_engine::stream::{Chunks, Options, Stream, StreamError};
use viseme_engine::testing;
use viseme_format::spec::*;

const SIDE: usize = 88;

/// A model whose convolution is causal.
fn spec(weights: Weights) -> ModelSpec<'static> {
    let mut spec = testing::spec(&testing::TINY, weights);
    if let Family::Conformer(conformer) = &mut spec.family {
        conformer.encoder.conv_left = conformer.encoder.conv_kernel - 1;
    }
    spec
}

fn causal() -> Vec<u8> {
    testing::model(&spec(Weights::Int8), 3).unwrap()
}

fn chunks(look_ahead: usize, left: usize) -> Chunks {
    Chunks {
        look_ahead,
        left: Some(left),
    }
}

fn options(chunks: Chunks) -> Options {
    Options {
        chunks,
        ..Options::default()
    }
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|v| v.to_bits()).collect()
}

/// All logits of a clip through a stream.
fn streamed(stream: &mut Stream<'_>, crops: &[u8]) -> Vec<u32> {
    let mut all = Vec::new();
    for (t, crop) in crops.chunks(SIDE * SIDE).enumerate() {
        all.extend(bits(stream.push_crop(crop, 40_000 * t as u64).unwrap()));
    }
    let mut rest = stream.finish();
    loop {
        let logits = rest.next();
        if logits.is_empty() {
            return all;
        }
        all.extend(bits(logits));
    }
}

/// The same from a session that sees the clip as a whole.
fn whole(model: &Model<'_>, chunks: Chunks, crops: &[u8]) -> Vec<u32> {
    let options = session::Options {
        max_frames: Some(64),
        chunks: Some(chunks),
        ..session::Options::default()
    };
    let mut arena = vec![0; Session::arena_bytes(model, &options).unwrap()];
    let mut session = Session::new(model, &mut arena, options).unwrap();
    for (t, crop) in crops.chunks(SIDE * SIDE).enumerate() {
        session.push_crop(crop, 40_000 * t as u64).unwrap();
    }
    session.finish();
    bits(session.logits())
}

#[test]
fn a_stream_gives_the_bits_of_the_whole_clip() {
    let file = causal();
    let model = Model::open(&file).unwrap();
    let crops = testing::crops(1, 43, SIDE);
    for (look_ahead, left) in [
        (0, 9),
        (1, 0),
        (2, 33),
        (3, 5),
        (4, 16),
        (8, 12),
        (8, 64),
        (32, 8),
    ] {
        let chunks = chunks(look_ahead, left);
        let options = options(chunks);
        let mut arena = vec![0xa5; Stream::arena_bytes(&model, &options).unwrap()];
        let mut stream = Stream::new(&model, &mut arena, options).unwrap();
        let got = streamed(&mut stream, &crops);
        assert_eq!(got.len(), 43 * model.vocabulary());
        assert!(got == whole(&model, chunks, &crops), "{chunks:?}");

        // A second clip in the same memory, whatever the first was.
        stream.reset();
        let other = testing::crops(2, 20, SIDE);
        assert!(streamed(&mut stream, &other) == whole(&model, chunks, &other));
    }
}

/// One chunk as long as the clip, which sees everything, is the full context of a session without chunks.
#[test]
fn a_chunk_that_holds_the_clip_is_full_context() {
    let file = causal();
    let model = Model::open(&file).unwrap();
    let crops = testing::crops(1, 32, SIDE);
    let mut arena = vec![0; model.arena_bytes(32)];
    let options = session::Options {
        max_frames: Some(32),
        ..session::Options::default()
    };
    let mut session = Session::new(&model, &mut arena, options).unwrap();
    for (t, crop) in crops.chunks(SIDE * SIDE).enumerate() {
        session.push_crop(crop, 40_000 * t as u64).unwrap();
    }
    session.finish();
    assert!(bits(session.logits()) == whole(&model, chunks(32, 0), &crops));
}

#[test]
fn every_set_of_kernels_streams_the_same_bits() {
    let file = causal();
    let model = Model::open(&file).unwrap();
    let crops = testing::crops(1, 30, SIDE);
    let run = |kernels| {
        let options = Options {
            chunks: chunks(4, 10),
            kernels,
        };
        let mut arena = vec![0; Stream::arena_bytes(&model, &options).unwrap()];
        streamed(
            &mut Stream::new(&model, &mut arena, options).unwrap(),
            &crops,
        )
    };
    let want = run(&kernels::Portable);
    for kernels in kernels::all() {
        assert!(run(kernels) == want, "{}", kernels.name());
    }
}

#[test]
fn a_saved_stream_goes_on_where_it_was() {
    let file = causal();
    let model = Model::open(&file).unwrap();
    let crops = testing::crops(1, 40, SIDE);
    let options = options(chunks(4, 9));
    let bytes = Stream::arena_bytes(&model, &options).unwrap();
    let (mut arena, mut other) = (vec![0; bytes], vec![0x3c; bytes]);
    let want = streamed(
        &mut Stream::new(&model, &mut arena, options).unwrap(),
        &crops,
    );
    for cut in [0, 1, 7, 8, 22, 39] {
        let (before, after) = crops.split_at(cut * SIDE * SIDE);
        let mut first = Stream::new(&model, &mut arena, options).unwrap();
        let mut all = Vec::new();
        for (t, crop) in before.chunks(SIDE * SIDE).enumerate() {
            all.extend(bits(first.push_crop(crop, 40_000 * t as u64).unwrap()));
        }
        let mut state = vec![0; first.state_bytes()];
        first.save(&mut state).unwrap();
        let mut second = Stream::new(&model, &mut other, options).unwrap();
        second.restore(&state).unwrap();
        assert_eq!(second.logits(), first.logits());
        assert_eq!(second.timestamp(0), first.timestamp(0));
        for (t, crop) in (cut..).zip(after.chunks(SIDE * SIDE)) {
            all.extend(bits(second.push_crop(crop, 40_000 * t as u64).unwrap()));
        }
        let mut rest = second.finish();
        loop {
            let logits = rest.next();
            if logits.is_empty() {
                break;
            }
            all.extend(bits(logits));
        }
        assert!(all == want, "cut at {cut}");
    }
}

#[test]
fn states_of_others_and_damaged_ones_are_refused() {
    let (file, other_file) = (causal(), testing::model(&spec(Weights::Int8), 4).unwrap());
    let (model, other) = (
        Model::open(&file).unwrap(),
        Model::open(&other_file).unwrap(),
    );
    let options = options(chunks(4, 9));
    let mut arena = vec![0; Stream::arena_bytes(&model, &options).unwrap()];
    let mut stream = Stream::new(&model, &mut arena, options).unwrap();
    let crops = testing::crops(1, 6, SIDE);
    for crop in crops.chunks(SIDE * SIDE) {
        stream.push_crop(crop, 5).unwrap();
    }
    let mut state = vec![0; stream.state_bytes()];
    stream.save(&mut state).unwrap();

    let mut arena = vec![0; Stream::arena_bytes(&other, &options).unwrap()];
    let mut of_other = Stream::new(&other, &mut arena, options).unwrap();
    assert_eq!(of_other.restore(&state), Err(StreamError::State));
    let short = &state[..state.len() - 1];
    let sizes = StreamError::StateSize {
        got: short.len(),
        want: state.len(),
    };
    assert_eq!(stream.restore(short), Err(sizes));
    // Every bit of the header: refused, or a state that runs on without a panic.
    for bit in 0..72 * 8 {
        let mut damaged = state.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        if stream.restore(&damaged).is_ok() {
            for crop in crops.chunks(SIDE * SIDE) {
                let _ = stream.push_crop(crop, u64::MAX);
            }
            let mut rest = stream.finish();
            while !rest.next().is_empty() {}
        }
    }
    // Noise in the memory itself changes the logits at most.
    state[80..].iter_mut().for_each(|b| *b = 0xff);
    stream.restore(&state).unwrap();
    stream.push_crop(&crops[..SIDE * SIDE], 7).unwrap();
}

#[test]
fn chunks_come_out_in_time_with_their_timestamps() {
    let file = causal();
    let model = Model::open(&file).unwrap();
    let options = options(chunks(4, 9));
    let mut arena = vec![0; Stream::arena_bytes(&model, &options).unwrap()];
    let mut stream = Stream::new(&model, &mut arena, options).unwrap();
    let crops = testing::crops(1, 18, SIDE);
    for (t, crop) in crops.chunks(SIDE * SIDE).enumerate() {
        let rows = stream.push_crop(crop, 1000 * t as u64).unwrap().len() / model.vocabulary();
        // The front-end waits for one neighbour, the encoder for a chunk of four.
        assert_eq!(
            rows,
            if t >= 4 && t.is_multiple_of(4) { 4 } else { 0 },
            "{t}"
        );
        if rows > 0 {
            assert_eq!((stream.done(), stream.frames()), (t, 4));
            let times: Vec<_> = (0..5).map(|row| stream.timestamp(row)).collect();
            let first = 1000 * (t as u64 - 4);
            let want = [0, 1000, 2000, 3000].map(|offset| Some(first + offset));
            assert_eq!(times, [&want[..], &[None]].concat());
        }
    }
    let mut rest = stream.finish();
    assert_eq!(rest.next().len(), 2 * model.vocabulary());
    assert_eq!(rest.stream().timestamp(1), Some(17_000));
    assert!(rest.next().is_empty());
    let refused = stream.push_crop(&crops[..SIDE * SIDE], 99_000);
    assert_eq!(refused.unwrap_err(), PushError::Finished);
}

#[test]
fn what_cannot_be_streamed_is_refused_with_a_word() {
    let looks_ahead = testing::model(&testing::spec(&testing::TINY, Weights::Int8), 3).unwrap();
    let floats = testing::model(&spec(Weights::F32), 3).unwrap();
    let good = causal();
    let ask = |file: &[u8], chunks| {
        let model = Model::open(file).unwrap();
        Stream::arena_bytes(&model, &options(chunks)).map(|_| ())
    };
    assert_eq!(ask(&looks_ahead, chunks(4, 9)), Err(StreamError::NotCausal));
    assert_eq!(ask(&floats, chunks(4, 9)), Err(StreamError::NotQuantised));
    assert_eq!(ask(&good, chunks(33, 9)), Err(StreamError::Chunks));
    assert_eq!(ask(&good, chunks(4, 8193)), Err(StreamError::Chunks));
    assert_eq!(ask(&good, chunks(4, usize::MAX)), Err(StreamError::Chunks));
    let model = Model::open(&good).unwrap();
    let needed = Stream::arena_bytes(&model, &Options::default()).unwrap();
    let mut arena = vec![0; needed - 1];
    let error = Stream::new(&model, &mut arena, Options::default()).unwrap_err();
    assert_eq!(
        error,
        StreamError::Arena {
            given: needed - 1,
            needed
        }
    );
    assert!(!error.to_string().contains('\n'));
}

/// The bits of a stream in every build and on every machine.
#[test]
fn bits_are_the_same_in_every_build() {
    let file = causal();
    let model = Model::open(&file).unwrap();
    let options = options(chunks(4, 20));
    let mut arena = vec![0; Stream::arena_bytes(&model, &options).unwrap()];
    let mut stream = Stream::new(&model, &mut arena, options).unwrap();
    let logits = streamed(&mut stream, &testing::crops(1, 40, SIDE));
    let bytes = logits.iter().flat_map(|v| v.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    assert_eq!(hash, 0xac46_0e3c_70c6_5dcf, "{hash:#x}");
}
