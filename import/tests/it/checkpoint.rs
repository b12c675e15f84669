//! What a checkpoint file holds, and what files say that are none.

use viseme_import::ImportError;
use viseme_import::checkpoint::{Checkpoint, DType};

use crate::write::{Pickle, Tensor, pth, safetensors, zip};

fn open(bytes: Vec<u8>) -> Result<Checkpoint, ImportError> {
    Checkpoint::from_bytes(bytes)
}

fn error(bytes: Vec<u8>) -> String {
    let error = open(bytes).unwrap_err().to_string();
    assert!(!error.contains('\n') && error.len() < 400, "{error}");
    error
}

const NUMBERS: [f32; 6] = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];

#[test]
fn tensors_are_views_of_storages() {
    let mut turned = Tensor::f32("0", &[2, 3]);
    (turned.shape, turned.strides) = (vec![3, 2], vec![1, 3]);
    let mut part = Tensor::f32("0", &[2]);
    (part.length, part.offset, part.strides) = (6, 1, vec![3]);
    let mut one = Tensor::f32("0", &[1, 2]);
    // The stride of a dimension of 1 means nothing.
    (one.length, one.offset, one.strides) = (6, 4, vec![i64::MAX, 1]);
    let mut scalar = Tensor::f32("0", &[]);
    (scalar.length, scalar.offset) = (6, 5);
    let mut none = Tensor::f32("0", &[0, 3]);
    none.length = 6;
    let tensors = [
        ("plain", Tensor::f32("0", &[2, 3])),
        ("turned", turned),
        ("part", part),
        ("one", one),
        ("scalar", scalar),
        ("none", none),
    ];
    let file = open(pth(
        Pickle::new().tensors(&tensors).end(),
        &[("0", &NUMBERS)],
    ))
    .unwrap();
    assert_eq!(file.load("plain").unwrap(), NUMBERS);
    assert_eq!(file.load("turned").unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(file.load("part").unwrap(), [1.0, 4.0]);
    assert_eq!(file.load("one").unwrap(), [4.0, 5.0]);
    assert_eq!(file.load("scalar").unwrap(), [5.0]);
    assert_eq!(file.load("none").unwrap(), [] as [f32; 0]);
    assert_eq!(file.tensor("turned").unwrap().shape, [3, 2]);
    assert_eq!(file.tensors().count(), 6);
}

#[test]
fn number_formats_keep_their_values() {
    let of = |class, length| Tensor {
        class,
        length,
        shape: vec![length],
        ..Tensor::f32("0", &[1])
    };
    let cases: [(&str, &[u8], DType, &[f32]); 4] = [
        (
            "HalfStorage",
            &[0x00, 0x3c, 0x01, 0x80],
            DType::F16,
            &[1.0, -5.960_464_5e-8],
        ),
        (
            "BFloat16Storage",
            &[0x80, 0x3f, 0x49, 0xc0],
            DType::Bf16,
            &[1.0, -3.140_625],
        ),
        (
            "DoubleStorage",
            &[0, 0, 0, 0, 0, 0, 0xf8, 0x3f],
            DType::F64,
            &[1.5],
        ),
        ("FloatStorage", &[0, 0, 0xc0, 0xbf], DType::F32, &[-1.5]),
    ];
    for (class, bytes, dtype, expected) in cases {
        let pickle = Pickle::new()
            .tensors(&[("x", of(class, expected.len() as i64))])
            .end();
        let entries = [
            ("m/data.pkl".into(), pickle),
            ("m/data/0".into(), bytes.to_vec()),
        ];
        let file = open(zip(&entries)).unwrap();
        assert_eq!(file.tensor("x").unwrap().dtype, dtype);
        assert_eq!(file.load("x").unwrap(), expected, "{class}");
    }
    // Integers are listed only.
    let pickle = Pickle::new().tensors(&[("x", of("LongStorage", 1))]).end();
    let entries = [
        ("m/data.pkl".into(), pickle),
        ("m/data/0".into(), vec![7; 8]),
    ];
    let file = open(zip(&entries)).unwrap();
    assert_eq!(file.tensor("x").unwrap().dtype, DType::I64);
    assert!(file.load("x").unwrap_err().to_string().contains("I64"));
}

#[test]
fn state_dicts_are_found_in_what_training_programs_write() {
    let weights = [("w", Tensor::f32("0", &[6]))];
    let one = ("0", &NUMBERS[..]);
    let bare = Pickle::new().tensors(&weights);
    // An OrderedDict with the attribute `_metadata`, as `state_dict()` is.
    let ordered = Pickle::new()
        .ordered_dict()
        .raw(b"(")
        .text("w")
        .tensor(&weights[0].1);
    let ordered = ordered
        .raw(b"u}")
        .text("_metadata")
        .ordered_dict()
        .raw(b"sb");
    let wrapped = |key: &str, p: Pickle| p.raw(b"}").text(key).tensors(&weights).raw(b"s");
    // Beside the weights: a counter, a list, options of argparse and OmegaConf, the state of an optimiser.
    let lightning = Pickle::new()
        .raw(b"}(")
        .text("epoch")
        .int(7)
        .text("callbacks")
        .raw(b"]N");
    let lightning = lightning.raw(b"a").text("hyper_parameters");
    let lightning = lightning
        .global("omegaconf.dictconfig", "DictConfig")
        .raw(b")\x81}");
    let lightning = lightning.text("_content").raw(b"}sb").text("args");
    let lightning = lightning.global("argparse", "Namespace").raw(b")\x81}b");
    let lightning = lightning
        .text("optimizer_states")
        .raw(b"]}")
        .int(0)
        .tensor(&weights[0].1);
    let lightning = lightning
        .raw(b"sa")
        .text("state_dict")
        .tensors(&weights)
        .raw(b"u");
    let parameter = Pickle::new().raw(b"}").text("w");
    let parameter = parameter
        .global("torch._utils", "_rebuild_parameter")
        .raw(b"(");
    let parameter = parameter
        .tensor(&weights[0].1)
        .raw(b"\x88")
        .ordered_dict()
        .raw(b"tRs");
    for (what, pickle) in [
        ("bare", bare),
        ("ordered", ordered),
        ("lightning", lightning),
        ("parameter", parameter),
        ("wrapped", wrapped("model_state_dict", Pickle::new())),
    ] {
        let file = open(pth(pickle.end(), &[one])).unwrap_or_else(|e| panic!("{what}: {e}"));
        let names: Vec<_> = file.tensors().map(|(name, _)| name).collect();
        assert_eq!(names, ["w"], "{what}");
        assert_eq!(file.load("w").unwrap(), NUMBERS, "{what}");
    }
}

#[test]
fn safetensors_are_read() {
    let bytes = safetensors(&[("a", &[2, 3], &NUMBERS), ("b", &[], &[1.5])]);
    let file = open(bytes.clone()).unwrap();
    assert_eq!(file.tensor("a").unwrap().shape, [2, 3]);
    assert_eq!(file.load("a").unwrap(), NUMBERS);
    assert_eq!(file.load("b").unwrap(), [1.5]);
    for length in 0..bytes.len() {
        assert!(open(bytes[..length].to_vec()).is_err(), "cut at {length}");
    }
}

#[test]
fn a_length_is_no_sign_of_a_kind() {
    // Headers whose length begins with the two bytes of a pickle or of a packed archive.
    for length in [0x0280, 0x0480, 0x8b1f] {
        let name = |n: usize| "x".repeat(n);
        let empty = safetensors(&[("", &[1], &[2.5])]).len() - 12;
        let name = name(length - empty);
        let bytes = safetensors(&[(&name, &[1], &[2.5])]);
        assert_eq!(bytes[..2], (length as u16).to_le_bytes());
        assert_eq!(open(bytes).unwrap().load(&name).unwrap(), [2.5]);
    }
}

#[test]
fn other_files_are_named() {
    let script = [
        ("m/data.pkl".into(), b"\x80\x02}.".to_vec()),
        ("m/code/m.py".into(), vec![]),
    ];
    let cases: [(&[u8], &str); 11] = [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"<HTML><head>", "a web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "Git LFS pointer",
        ),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "before 1.6"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"\x1f\x8b\x08\0", "unpack"),
        (b"\0\0\0\0\0\0\0\0\0", "zeros"),
        (b"hello", "not a checkpoint"),
        (b"PK\x03\x04\x14", "cut off"),
    ];
    for (bytes, says) in cases {
        let error = error(bytes.to_vec());
        assert!(error.contains(says), "{error} should say {says}");
    }
    assert!(error(zip(&script)).contains("TorchScript"));
    assert!(error(zip(&[("weights.npy".into(), vec![])])).contains("data.pkl"));
    let big = [
        ("m/data.pkl".into(), b"\x80\x02}.".to_vec()),
        ("m/byteorder".into(), b"big".to_vec()),
    ];
    assert!(error(zip(&big)).contains("big-endian"));
    let folder = Checkpoint::open(env!("CARGO_MANIFEST_DIR").as_ref());
    assert!(folder.unwrap_err().to_string().contains("folder"));
    assert!(matches!(
        Checkpoint::open("no such file".as_ref()),
        Err(ImportError::Io(_))
    ));
    let options = Pickle::new().raw(b"}").text("lr").int(1).raw(b"s").end();
    assert!(error(pth(options, &[])).contains("(lr)"));
}
