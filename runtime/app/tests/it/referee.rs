//! `transcribe` with other engines: the text of ours, or where to get a build that has them.

use viseme_format::spec::Weights;

use crate::common::Folder;

const CLIP: &str = "transcribe clip.y4m --roi 0,0,96,96";

#[test]
fn other_engines_read_what_ours_reads_or_are_not_in_this_build() {
    let folder = Folder::new();
    folder.clip("clip", "place red in q seven again", 25.0);
    folder.model_of(Weights::F32, "f32.gguf");
    folder.model_of(Weights::Int4, "int4.gguf");
    let published = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/grid-vsr.gguf");
    // Logits of random weights are too near each other to be the same words after rounding by other rules.
    let cases = [
        ("tract", "f32.gguf", "tract", cfg!(feature = "tract"), true),
        (
            "tflite",
            "f32.gguf",
            "tflite",
            cfg!(feature = "tflite"),
            true,
        ),
        (
            "tflite",
            "int4.gguf",
            "tflite",
            cfg!(feature = "tflite"),
            false,
        ),
        ("tract", published, "tract", cfg!(feature = "tract"), true),
        (
            "tflite",
            published,
            "litert",
            cfg!(feature = "litert"),
            true,
        ),
    ];
    for (backend, model, feature, is_built, same) in cases {
        let run = folder.viseme(&format!("{CLIP} --model {model} --backend {backend}"));
        if !is_built {
            run.fails_with(&format!("this build has no `{feature}`"));
            run.complains_of(match backend {
                "tract" => "by `cargo install --locked --path runtime/app --features tract`",
                _ => "by `cargo xtask referee transcribe CLIP --backend tflite`",
            });
            continue;
        }
        assert_eq!(run.code, 0, "{run}");
        let own = folder.viseme(&format!("{CLIP} --model {model} --backend engine"));
        assert_eq!(run.out.lines().count(), 1, "{run}");
        assert!(!same || run.out == own.out, "{run} {own}");
    }
    folder
        .viseme(&format!("{CLIP} --backend onnx"))
        .fails_with("invalid value 'onnx' for '--backend <NAME>'");
}
