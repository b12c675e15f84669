//! `viseme eval` on clips that are harder than they are.

use viseme_engine::testing;
use viseme_format::spec::auto_avsr::{
    AutoAvsr, Branch, CROP, Fusion, FusionNorm, Positions, TransformerDecoder, Trunk,
};
use viseme_format::spec::{Tokens, Weights};

use crate::common::Folder;

/// A folder with a synthetic clip, its sound as a clip of its own, a manifest of each, and random models that see, hear, and
/// do both.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.clip("clip", "bin blue at f two now", 25.0);
    for (name, file) in [
        ("seen", "clip.y4m"),
        ("heard", "clip.wav"),
        ("both", "both.mkv"),
    ] {
        let clip = |code: &str| {
            serde_json::json!({
                "speaker": "a", "code": code, "text": "bin blue", "file": file, "roi": [0, 0, 96, 96],
            })
        };
        let manifest = serde_json::json!({ "clips": [clip("x"), clip("y")] });
        folder.write(&format!("{name}.json"), manifest.to_string());
    }
    let branch = Branch {
        width: 2,
        trunk: Trunk::Silu,
        d_model: 8,
        heads: 2,
        ff: 12,
        blocks: 1,
        conv_kernel: 3,
        positions: Positions::Latest,
    };
    let models = [
        ("sees", Some(branch), None),
        ("hears", None, Some(branch)),
        ("both", Some(branch), Some(branch)),
    ];
    for (name, video, audio) in models {
        let of = AutoAvsr {
            crop: CROP,
            video,
            audio,
            fusion: video.and(audio).map(|_| Fusion {
                hidden: 6,
                norm: FusionNorm::None,
            }),
            decoder: TransformerDecoder {
                d_model: 8,
                heads: 2,
                ff: 12,
                blocks: 1,
            },
            max_frames: 200,
            tokens: Tokens::from(&testing::TOKENS[..]),
        };
        let spec = testing::auto_avsr_spec(of, Weights::Int8);
        folder.write(&format!("{name}.gguf"), testing::model(&spec, 1).unwrap());
    }
    folder
}

#[test]
fn what_makes_clips_harder_changes_what_is_read() {
    let folder = folder();
    let read = |model: &str, manifest: &str, more: &str| {
        let run = folder.viseme(&format!(
            "eval --manifest {manifest}.json --per-clip {model}{more}"
        ));
        assert_eq!(run.code, 0, "{more}: {run}");
        run.out
    };
    let text = |out: &str| out.lines().next().unwrap_or_default().to_owned();
    // The published model, since what a random one reads depends on little that it sees.
    let seen = read("--json", "seen", "");
    for more in [
        "--fps 2",
        "--fps 1-3",
        "--drop 80",
        "--freeze 2",
        "--occlude",
    ] {
        let harder = read(more, "seen", "");
        assert_ne!(text(&harder), text(&seen), "{more}");
        assert_eq!(text(&harder), text(&read(more, "seen", "")), "{more}");
    }
    const HEARS: &str = "--model hears.gguf --beam 2 ";
    const BOTH: &str = "--model both.gguf --beam 2 ";
    let heard = read(HEARS, "heard", "--json");
    for more in [
        "--noise white:-10",
        "--noise pink:-10",
        "--noise clip.wav:0",
        "--noise babble:0",
    ] {
        let harder = read(HEARS, "heard", more);
        assert_eq!(text(&harder), text(&read(HEARS, "heard", more)), "{more}");
        assert_ne!(text(&harder), text(&heard), "{more}");
    }
    let inputs = "-i clip.y4m -i clip.wav -shortest -c:v ffv1 -c:a pcm_s16le";
    if folder.ffmpeg(inputs, "both.mkv").is_some() {
        let both = read(BOTH, "both", "--json");
        assert_eq!(text(&both), text(&read(BOTH, "both", "--desync 0")));
        for more in ["--desync 200", "--desync -200", "--noise white:-5 --fps 12"] {
            assert_ne!(text(&read(BOTH, "both", more)), text(&both), "{more}");
        }
    }
}

#[test]
fn what_a_model_does_not_perceive_cannot_be_made_harder() {
    let folder = folder();
    let eval = |model: &str, manifest: &str, more: &str| {
        folder.viseme(&format!(
            "eval --manifest {manifest}.json --model {model}.gguf {more}"
        ))
    };
    eval("sees", "seen", "--noise white:0").fails_with("does not hear");
    eval("sees", "seen", "--desync 80").fails_with("does not hear");
    eval("hears", "heard", "--fps 15").fails_with("does not see");
    eval("hears", "heard", "--occlude").fails_with("does not see");
    eval("hears", "heard", "--noise loud").fails_with("babble:-5");
    eval("hears", "heard", "--noise gone.wav:3").fails_with("gone.wav");
    folder.write("silent.wav", silence());
    eval("hears", "heard", "--noise silent.wav:0").fails_with("silent.wav: is silent");
    eval("sees", "seen", "--fps 0").fails_with("--fps");
    eval("sees", "seen", "--drop 100").fails_with("less than all frames");
    eval("sees", "seen", "--freeze -1").fails_with("stand still");
    eval("hears", "heard", "--modality video").fails_with("modality is audio");
}

/// A tenth of a second of silence, 16 kHz.
fn silence() -> Vec<u8> {
    let data: u32 = 2 * 1600;
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + data).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16u32.to_le_bytes());
    for field in [1u16, 1] {
        wav.extend(field.to_le_bytes());
    }
    for field in [16_000u32, 32_000] {
        wav.extend(field.to_le_bytes());
    }
    for field in [2u16, 16] {
        wav.extend(field.to_le_bytes());
    }
    wav.extend(b"data");
    wav.extend(data.to_le_bytes());
    wav.extend(vec![0; data as usize]);
    wav
}
