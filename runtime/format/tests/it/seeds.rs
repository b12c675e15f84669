//! The fuzzer's seeds are files that this version accepts. `VISEME_BLESS=1 cargo test -p viseme-format seeds` writes
//! them anew after a change of the format.

use std::path::PathBuf;

use viseme_format::gguf::{Reader, Writer};
use viseme_format::spec::*;

use crate::common;

#[test]
fn seeds_are_current() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/seeds/gguf");
    for (name, spec) in [
        ("conformer", common::spec()),
        ("av", hearing()),
        ("yunet", detector()),
    ] {
        let mut writer = Writer::new();
        spec.write(&mut writer).unwrap();
        common::add_tensors(&mut writer);
        let bytes = writer.finish().unwrap();
        let path = folder.join(name).with_extension("gguf");
        if std::env::var_os("VISEME_BLESS").is_some() {
            std::fs::write(&path, &bytes).unwrap();
        }
        let seed = std::fs::read(&path).unwrap();
        assert_eq!(ModelSpec::read(&Reader::open(&seed).unwrap()), Ok(spec));
        assert!(
            seed == bytes,
            "{} is not what the writer writes now",
            path.display()
        );
    }
}

fn hearing() -> ModelSpec<'static> {
    let mut spec = common::spec();
    spec.modality = Modality::AudioVideo;
    if let Family::Conformer(conformer) = &mut spec.family {
        let mel = Mel {
            sample_rate: 16_000,
            bins: 80,
            window: 400,
            hop: 160,
            low_hz: 0.0,
            high_hz: 8000.0,
        };
        conformer.mel = Some(mel);
    }
    spec
}

fn detector() -> ModelSpec<'static> {
    let family = Family::Yunet(Yunet::new(32, &[8, 16, 32]).unwrap());
    ModelSpec {
        weights: Weights::F32,
        family,
        ..common::spec()
    }
}
