//! What a session promises.

use viseme_engine::model::conformer::Model;
use viseme_engine::session::{Options, Session};
use viseme_engine::testing;
use viseme_format::spec::Weights;

#[test]
fn smoke() {
    for weights in [Weights::F32, Weights::Int8] {
        let file = testing::model(&testing::spec(&testing::SMALL, weights), 1).unwrap();
        let model = Model::open(&file).unwrap();
        println!("{} bytes, arena {}", file.len(), model.arena_bytes(512));
        let mut arena = vec![0; model.arena_bytes(512)];
        let mut session = Session::new(&model, &mut arena, Options::default()).unwrap();
        let crops = testing::crops(1, 75, 88);
        for (t, crop) in crops.chunks(88 * 88).enumerate() {
            session.push_crop(crop, t as u64).unwrap();
        }
        session.finish();
        println!("{:?}", &session.logits()[52 * 30..][..52]);
    }
}
