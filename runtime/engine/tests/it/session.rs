//! What a session promises.

use viseme_engine::model::conformer::{Model, arena_bytes};
use viseme_engine::session::{Options, PushError, Session, SessionError};
use viseme_engine::testing;
use viseme_format::spec::*;

const SIDE: usize = 88;

fn file(weights: Weights) -> Vec<u8> {
    testing::model(&testing::spec(&testing::TINY, weights), 3).unwrap()
}

fn options(max_frames: usize) -> Options {
    Options {
        max_frames: Some(max_frames),
        ..Options::default()
    }
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|v| v.to_bits()).collect()
}

fn read(session: &mut Session<'_>, crops: &[u8]) -> Vec<u32> {
    push(session, crops);
    session.finish();
    bits(session.logits())
}

fn push(session: &mut Session<'_>, crops: &[u8]) {
    let first = session.timestamps().len();
    for (t, crop) in crops.chunks(SIDE * SIDE).enumerate() {
        session
            .push_crop(crop, 40_000 * (first + t) as u64)
            .unwrap();
    }
}

fn run(file: &[u8], arena: &mut [u8], max_frames: usize, crops: &[u8]) -> Vec<u32> {
    let model = Model::open(file).unwrap();
    read(
        &mut Session::new(&model, arena, options(max_frames)).unwrap(),
        crops,
    )
}

#[test]
fn bits_depend_on_model_and_crops_only() {
    for weights in [Weights::F32, Weights::Int8, Weights::Int4] {
        let file = file(weights);
        let model = Model::open(&file).unwrap();
        let crops = testing::crops(1, 20, SIDE);
        let needed = model.arena_bytes(20);
        let want = run(&file, &mut vec![0; needed], 20, &crops);
        assert_eq!(want.len(), 20 * model.vocabulary());
        assert!(want.iter().all(|&v| f32::from_bits(v).is_finite()));

        // Memory that was used before, that lies anywhere, of which there is more.
        assert_eq!(want, run(&file, &mut vec![0xff; needed], 20, &crops));
        let mut arena = vec![0xa5; needed + 100];
        for offset in [1, 4, 63] {
            assert_eq!(want, run(&file, &mut arena[offset..], 20, &crops));
        }
        let mut arena = vec![0x7f; model.arena_bytes(64)];
        assert_eq!(want, run(&file, &mut arena, 64, &crops));

        // A second utterance in the same session, whatever the first was.
        let mut session = Session::new(&model, &mut arena, options(33)).unwrap();
        read(&mut session, &testing::crops(2, 33, SIDE));
        session.reset();
        assert_eq!((session.frames(), session.timestamps().len()), (0, 0));
        assert!(session.logits().is_empty());
        push(&mut session, &crops[..7 * SIDE * SIDE]);
        session.logits();
        session.reset();
        assert_eq!(want, read(&mut session, &crops));
    }
}

/// Debug and release builds, and every machine, give these; a change of the engine's arithmetic, of
/// the random models or of the crops moves them, and has to be meant.
#[test]
fn bits_are_the_same_in_every_build() {
    let hash = |weights| {
        let file = file(weights);
        let mut arena = vec![0; Model::open(&file).unwrap().arena_bytes(40)];
        let logits = run(&file, &mut arena, 40, &testing::crops(1, 40, SIDE));
        // FNV-1a over the bits.
        let bytes = logits.iter().flat_map(|v| v.to_le_bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    let hashes = [Weights::F32, Weights::Int8, Weights::Int4].map(hash);
    assert_eq!(
        hashes,
        [
            0xa6fb_fd5f_20d2_7e26,
            0xb095_7e16_c624_1811,
            0x61c2_78b8_a575_e1ea
        ],
        "{hashes:#x?}"
    );
}

#[test]
fn partial_logits_are_those_of_the_shorter_utterance() {
    // Without neighbours the front-end waits for nothing, so that every prefix is an utterance.
    let mut spec = testing::spec(&testing::TINY, Weights::Int8);
    if let Family::Conformer(conformer) = &mut spec.family {
        conformer.frontend.frames = 1;
    }
    let file = testing::model(&spec, 3).unwrap();
    let model = Model::open(&file).unwrap();
    let crops = testing::crops(1, 10, SIDE);
    let mut arena = vec![0; model.arena_bytes(10)];
    let mut short = vec![0; model.arena_bytes(10)];
    let mut session = Session::new(&model, &mut arena, options(10)).unwrap();
    for frames in 1..=10 {
        push(
            &mut session,
            &crops[(frames - 1) * SIDE * SIDE..frames * SIDE * SIDE],
        );
        assert_eq!(session.frames(), frames);
        let want = run(&file, &mut short, 10, &crops[..frames * SIDE * SIDE]);
        assert_eq!(bits(session.logits()), want);
    }
}

#[test]
fn the_front_end_waits_for_the_next_frame_and_no_longer() {
    let file = file(Weights::F32);
    let model = Model::open(&file).unwrap();
    let mut arena = vec![0; model.arena_bytes(64)];
    let mut session = Session::new(&model, &mut arena, Options::default()).unwrap();
    assert_eq!(session.max_frames(), 64);
    let crops = testing::crops(1, 3, SIDE);
    for (t, crop) in crops.chunks(SIDE * SIDE).enumerate() {
        session.push_crop(crop, 40_000 * t as u64).unwrap();
        assert_eq!(session.frames(), t);
        assert_eq!(session.logits().len(), t * model.vocabulary());
    }
    session.finish();
    assert_eq!(session.frames(), 3);
    assert_eq!(session.timestamps(), [0, 40_000, 80_000]);
    let (logits, times) = session.timed_logits();
    assert_eq!(logits.len(), times.len() * model.vocabulary());
    assert_eq!(times, [0, 40_000, 80_000]);
}

#[test]
fn an_utterance_of_no_frames_has_no_logits() {
    let file = file(Weights::F32);
    let model = Model::open(&file).unwrap();
    let mut arena = vec![0; model.arena_bytes(1)];
    let mut session = Session::new(&model, &mut arena, options(1)).unwrap();
    session.finish();
    assert!(session.logits().is_empty());
}

#[test]
fn misuse_is_told_and_changes_nothing() {
    let file = file(Weights::F32);
    let model = Model::open(&file).unwrap();
    let crop = testing::crops(1, 1, SIDE);
    let mut arena = vec![0; model.arena_bytes(2)];
    let mut session = Session::new(&model, &mut arena, options(2)).unwrap();
    let small = session.push_crop(&crop[1..], 5).unwrap_err();
    assert_eq!(
        small,
        PushError::Size {
            got: 7743,
            want: 7744
        }
    );
    session.push_crop(&crop, 5).unwrap();
    let early = session.push_crop(&crop, 4).unwrap_err();
    assert_eq!(early, PushError::Backwards { timestamp_us: 4 });
    let narrow = session.push_features(&[0.0; 23], 5).unwrap_err();
    assert_eq!(narrow, PushError::Width { got: 23, want: 24 });
    let mixed = session.push_features(&[0.0; 24], 5).unwrap_err();
    assert_eq!(mixed, PushError::Mixed);
    session.push_crop(&crop, 5).unwrap();
    let full = session.push_crop(&crop, 6).unwrap_err();
    assert_eq!(full, PushError::Full { max_frames: 2 });
    assert_eq!(session.timestamps(), [5, 5]);
    session.finish();
    let late = session.push_crop(&crop, 6).unwrap_err();
    assert_eq!(late, PushError::Finished);
    for error in [small, early, narrow, mixed, full, late] {
        assert_eq!(error.to_string().lines().count(), 1);
    }
    assert_eq!(session.logits().len(), 2 * model.vocabulary());
    session.reset();
    session.push_features(&[0.0; 24], 5).unwrap();
    assert_eq!(session.push_crop(&crop, 5), Err(PushError::Mixed));
}

#[test]
fn an_arena_that_is_too_small_is_refused_to_the_byte() {
    for weights in [Weights::F32, Weights::Int8, Weights::Int4] {
        let file = file(weights);
        let model = Model::open(&file).unwrap();
        let needed = model.arena_bytes(9);
        let mut arena = vec![0; needed];
        assert!(Session::new(&model, &mut arena, options(9)).is_ok());
        let error = Session::new(&model, &mut arena[1..], options(9)).unwrap_err();
        assert_eq!(
            error,
            SessionError::Arena {
                given: needed - 1,
                needed
            }
        );
        for frames in [0, 65] {
            let error = Session::new(&model, &mut arena, options(frames)).unwrap_err();
            assert_eq!(error, SessionError::MaxFrames { most: 64 });
        }
    }
}

#[test]
fn the_exporter_and_the_engine_plan_the_same_arena() {
    for weights in [Weights::F32, Weights::Int8, Weights::Int4] {
        for size in [testing::TINY, testing::SMALL, testing::REFERENCE] {
            let file = testing::model(&testing::spec(&size, weights), 1).unwrap();
            let model = Model::open(&file).unwrap();
            let planned = arena_bytes(model.spec(), model.max_frames()).unwrap();
            assert_eq!(planned as u64, model.spec().arena_bytes);
            assert_eq!(planned, model.arena_bytes(model.max_frames()));
            assert_eq!(planned, model.arena_bytes(usize::MAX));
            assert!(model.arena_bytes(9) < planned);
        }
    }
}
