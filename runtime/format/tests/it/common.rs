//! A small model file to start from.

use viseme_format::gguf::{DType, Writer};
use viseme_format::spec::*;

pub const TOKENS: [&str; 5] = ["<blank>", "bin", "blue", "at", "é"];

/// A spec in which no two fields have the same value, so that a mix-up shows.
pub fn spec() -> ModelSpec<'static> {
    let stage = |channels, kernel, stride, pad| Stage {
        channels,
        kernel,
        stride,
        pad,
    };
    ModelSpec {
        name: "test",
        license: "CC-BY-4.0",
        training_data: "GRID (Cooke et al. 2006)",
        modality: Modality::Video,
        weights: Weights::Int8,
        arena_bytes: 1_234_567_890_123,
        family: Family::Conformer(Conformer {
            fps: 25.0,
            crop: Crop {
                canvas: 256,
                patch: 96,
                size: 88,
                mean: 0.421,
                std: 0.165,
                smooth: 6,
            },
            frontend: Frontend::new(
                &[stage(24, 8, 4, 2), stage(48, 4, 2, 0), stage(96, 4, 2, 0)],
                3,
                107,
            )
            .unwrap(),
            encoder: Encoder {
                blocks: 5,
                d_model: 144,
                heads: 4,
                ff: 576,
                conv_kernel: 15,
                conv_left: 7,
                att_left: -1,
                att_right: 9,
                ff_activation: Activation::Silu,
                norm_eps: 1e-5,
            },
            mel: None,
            max_frames: 512,
            token_kind: TokenKind::Word,
            tokens: Tokens::from(TOKENS.as_slice()),
        }),
    }
}

/// A file with that spec and one tensor of every type.
pub fn file() -> Vec<u8> {
    let mut writer = Writer::new();
    spec().write(&mut writer).unwrap();
    add_tensors(&mut writer);
    writer.finish().unwrap()
}

/// One tensor of every type.
pub fn add_tensors(writer: &mut Writer) {
    let floats = [1.0, -2.5, 0.0, f32::MAX, f32::MIN_POSITIVE, 1e-9];
    let bytes: [i8; 105] = core::array::from_fn(|i| i as i8 - 52);
    writer.tensor_f32("a.weight", &[2, 3], &floats).unwrap();
    writer.tensor_i8("b.weight", &[5, 1, 7, 3], &bytes).unwrap();
    writer
        .tensor_i32("b.colsum", &[5], &[i32::MIN, -1, 0, 1, i32::MAX])
        .unwrap();
    writer
        .tensor("half", DType::F16, &[1, 3], &[0, 0x3c, 0, 0xc0, 0xff, 0x7b])
        .unwrap();
    writer
        .tensor("short", DType::I16, &[2, 2], &[1, 2, 3, 4, 5, 6, 7, 8])
        .unwrap();
    writer.tensor("long", DType::I64, &[2], &[7; 16]).unwrap();
    writer
        .tensor("double", DType::F64, &[1], &1.5f64.to_le_bytes())
        .unwrap();
}
