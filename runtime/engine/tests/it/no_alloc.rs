//! Nothing allocates: not the loading of a model, not a session, not a stream.

use allocation_counter::measure;
use viseme_engine::model::conformer::Model;
use viseme_engine::session::{Options, Session};
use viseme_engine::stream::{self, Stream};
use viseme_engine::testing;
use viseme_format::spec::{Family, Weights};

#[test]
fn no_step_from_file_to_logits_allocates() {
    for weights in [Weights::F32, Weights::Int8, Weights::Int4] {
        let file = testing::model(&testing::spec(&testing::TINY, weights), 5).unwrap();
        let crops = testing::crops(5, 12, 88);
        let mut arena = vec![0; Model::open(&file).unwrap().arena_bytes(64)];
        let mut sum = 0.0;
        let counted = measure(|| {
            let model = Model::open(&file).unwrap();
            let mut session = Session::new(&model, &mut arena, Options::default()).unwrap();
            for _ in 0..2 {
                for (t, crop) in crops.chunks(88 * 88).enumerate() {
                    session.push_crop(crop, t as u64).unwrap();
                    sum += session.logits().iter().sum::<f32>();
                }
                session.finish();
                sum += session.logits().iter().sum::<f32>();
                session.reset();
            }
        });
        assert!(sum.is_finite());
        assert_eq!(counted.count_total, 0, "{weights:?}");
    }
    // A stream, saved and restored on the way.
    let mut spec = testing::spec(&testing::TINY, Weights::Int8);
    if let Family::Conformer(conformer) = &mut spec.family {
        conformer.encoder.conv_left = conformer.encoder.conv_kernel - 1;
    }
    let file = testing::model(&spec, 5).unwrap();
    let crops = testing::crops(5, 12, 88);
    let model = Model::open(&file).unwrap();
    let options = stream::Options::default();
    let mut arena = vec![0; Stream::arena_bytes(&model, &options).unwrap()];
    let mut state = vec![
        0;
        Stream::new(&model, &mut arena, options)
            .unwrap()
            .state_bytes()
    ];
    let mut sum = 0.0;
    let counted = measure(|| {
        let mut stream = Stream::new(&model, &mut arena, options).unwrap();
        for (t, crop) in crops.chunks(88 * 88).enumerate() {
            sum += stream
                .push_crop(crop, t as u64)
                .unwrap()
                .iter()
                .sum::<f32>();
        }
        stream.save(&mut state).unwrap();
        stream.restore(&state).unwrap();
        sum += stream.finish().next().iter().sum::<f32>();
    });
    assert!(sum.is_finite() && sum != 0.0);
    assert_eq!(counted.count_total, 0, "stream");
    // The counter counts.
    assert_eq!(
        measure(|| drop(std::hint::black_box(vec![1u8]))).count_total,
        1
    );
}
