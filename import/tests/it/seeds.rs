//! The fuzzer's seeds are files that this version reads. `VISEME_BLESS=1 cargo test -p viseme-import seeds` writes them
//! anew.

use std::path::PathBuf;

use viseme_import::checkpoint::Checkpoint;

use crate::write::{Pickle, Tensor, pth, safetensors};

/// Small files of each kind, with their names.
pub fn all() -> [(&'static str, Vec<u8>); 3] {
    let numbers = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
    let mut turned = Tensor::f32("0", &[3, 2]);
    turned.strides = vec![1, 3];
    let tensors = [
        (
            "encoder.frontend.frontend3D.0.weight",
            Tensor::f32("0", &[2, 3]),
        ),
        ("ctc.ctc_lo.weight", turned),
        ("ctc.ctc_lo.bias", Tensor::f32("1", &[1])),
    ];
    let storages: [(&str, &[f32]); 2] = [("0", &numbers), ("1", &[0.5])];
    let bare = Pickle::new().tensors(&tensors).end();
    let lightning = Pickle::new()
        .raw(b"}q\x00(")
        .text("epoch")
        .int(7)
        .text("hyper_parameters");
    let lightning = lightning
        .global("omegaconf.dictconfig", "DictConfig")
        .raw(b")\x81}");
    let lightning = lightning.text("_content").raw(b"](K\x01\x88esb");
    let lightning = lightning.text("state_dict").ordered_dict().raw(b"(");
    let lightning = lightning
        .text("model.ctc.ctc_lo.bias")
        .tensor(&tensors[2].1);
    let lightning = lightning.raw(b"u}").text("_metadata").raw(b"}sbu").end();
    [
        ("bare.pth", pth(bare, &storages)),
        ("lightning.ckpt", pth(lightning, &storages)),
        (
            "plain.safetensors",
            safetensors(&[("a", &[2, 3], &numbers), ("b", &[], &[1.5])]),
        ),
    ]
}

#[test]
fn seeds_are_current() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds/checkpoint");
    for (name, bytes) in all() {
        let path = folder.join(name);
        if std::env::var_os("VISEME_BLESS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        let seed = std::fs::read(&path).unwrap();
        assert!(Checkpoint::from_bytes(seed.clone()).is_ok(), "{name}");
        assert!(
            seed == bytes,
            "{} is not what the test writes now",
            path.display()
        );
    }
}
