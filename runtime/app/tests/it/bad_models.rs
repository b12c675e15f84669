//! Models, grammars, manifests and arguments that are not as they should be.

use viseme_engine::testing;
use viseme_format::gguf::{DType, Reader, Writer};
use viseme_format::spec::{Family, Mel, Modality, ModelSpec, Weights};

use crate::common::{Folder, TINY_GRID};

const ROI: &str = "--roi 0,0,96,96";

fn clip_and_model() -> (Folder, Vec<u8>) {
    let folder = Folder::new();
    folder.clip("clip", "bin blue at f two now", 25.0);
    let model = folder.model("m.gguf");
    (folder, model)
}

#[test]
fn hostile_model_files() {
    let (folder, whole) = clip_and_model();
    let fails = |bytes: &[u8], words: &str| {
        folder.write("bad.gguf", bytes);
        for command in [
            "transcribe clip.y4m --roi 0,0,96,96 --model bad.gguf",
            "info bad.gguf",
        ] {
            let run = folder.viseme(command);
            run.fails_with(words);
            assert!(run.err.contains("bad.gguf"), "names the file: {run}");
        }
    };
    fails(b"", "GGUF");
    fails(b"RIFF, a film", "GGUF");
    fails(&whole[..whole.len() / 2], "");
    fails(&whole[..40], "");
    let patched = |at: usize, bytes: &[u8]| {
        let mut file = whole.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    // Bytes 8 to 15 are the number of tensors, 16 to 23 that of keys; the first key's length is at 24.
    fails(
        &patched(8, &u64::MAX.to_le_bytes()),
        "claims 18446744073709551615 tensors",
    );
    fails(
        &patched(16, &(u64::MAX / 2).to_le_bytes()),
        "claims 9223372036854775807 metadata entries",
    );
    fails(
        &patched(24, &u64::MAX.to_le_bytes()),
        "string of 18446744073709551615 bytes",
    );
    // The name of one tensor is that of another, and its data lies behind the end of the file.
    let name = find(&whole, b"encoder.1.norm.weight");
    fails(
        &patched(name, b"encoder.0.norm.weight"),
        "repeats an earlier name",
    );
    let rank = 1;
    let offset_at = name + b"encoder.1.norm.weight".len() + 4 + 8 * rank + 4;
    fails(
        &patched(offset_at, &(u64::MAX - 63).to_le_bytes()),
        "tensor ",
    );
    // One weight changed.
    let last = Reader::open(&whole).expect("a sound file").tensors().last();
    let weights = last.expect("a tensor").data;
    let at = find(&whole, weights);
    fails(
        &patched(at, &[weights[0] ^ 1]),
        "does not match its SHA-256",
    );
    // A scale that is no number, in a file that is sound otherwise.
    let nan = |name: &str, data: &mut Vec<u8>| {
        if name == "ctc.scale" {
            data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }
    };
    fails(&rewritten(&whole, &[], nan), "ctc.scale holds");
    // A tensor that the model has no use for.
    fails(
        &rewritten(&whole, &["notes"], |_, _| ()),
        "tensor notes is none that the model's metadata calls for",
    );
}

/// Where `needle` begins.
fn find(bytes: &[u8], needle: &[u8]) -> usize {
    let found = bytes
        .windows(needle.len())
        .position(|window| window == needle);
    found.expect("it is there")
}

/// The model file with its tensors altered, and `more` of them, and the digest that belongs to that.
fn rewritten(file: &[u8], more: &[&str], alter: impl Fn(&str, &mut Vec<u8>)) -> Vec<u8> {
    let reader = Reader::open(file).expect("a sound file");
    let spec = ModelSpec::read(&reader).expect("a spec");
    let mut writer = Writer::new();
    spec.write(&mut writer).expect("a spec");
    for tensor in reader.tensors() {
        let shape: Vec<usize> = tensor.shape().collect();
        let mut data = tensor.data.to_vec();
        alter(tensor.name, &mut data);
        writer
            .tensor(tensor.name, tensor.dtype, &shape, &data)
            .expect("as it was");
    }
    for name in more {
        writer
            .tensor(name, DType::F32, &[1], &[0; 4])
            .expect("a tensor");
    }
    writer.finish().expect("a file")
}

#[test]
fn models_for_something_else() {
    let (folder, _) = clip_and_model();
    let video = testing::spec(&TINY_GRID, Weights::F32);
    let Family::Conformer(mut recogniser) = video.family else {
        unreachable!("the spec of a recogniser")
    };
    recogniser.mel = Some(Mel {
        sample_rate: 16_000,
        bins: 80,
        window: 400,
        hop: 160,
        low_hz: 20.0,
        high_hz: 8_000.0,
    });
    let audio = ModelSpec {
        modality: Modality::Audio,
        family: Family::Conformer(recogniser),
        ..video
    };
    let mut writer = Writer::new();
    audio.write(&mut writer).expect("a spec");
    folder.write("hears.gguf", writer.finish().expect("a file"));
    let run = folder.viseme("info hears.gguf");
    assert_eq!(run.code, 0, "{run}");
    assert!(run.out.contains("no: it needs sound"), "{run}");
    let manifest = r#"{"clips":[{"speaker":"a","code":"b","text":"bin","file":"clip.y4m","roi":[0,0,96,96]}]}"#;
    folder.write("m.json", manifest);

    let run = folder.viseme(&format!("transcribe clip.y4m {ROI} --model hears.gguf"));
    run.fails_with("needs sound (modality audio)");
    let run = folder.viseme("eval --manifest m.json --model m.gguf --modality audio");
    run.fails_with("the model's modality is video, not audio");
    let run = folder.viseme("eval --manifest m.json --model hears.gguf --modality video");
    run.fails_with("the model's modality is audio, not video");
    assert_eq!(
        folder
            .viseme("eval --manifest m.json --model m.gguf --modality video")
            .code,
        0
    );
    // A lip reader where a detector should be.
    let run = folder.viseme("transcribe clip.y4m --model m.gguf --detector m.gguf");
    run.fails_with("viseme: m.gguf: not a usable face detector (this model is of another kind");
    folder.write("text.onnx", "no graph at all");
    let run = folder.viseme("transcribe clip.y4m --model m.gguf --detector text.onnx");
    run.fails_with("text.onnx: this is not a sound ONNX file");
    assert!(
        !folder.path("models").exists(),
        "nothing is kept of a bad detector"
    );
}

#[test]
fn models_that_are_not_there() {
    let (folder, _) = clip_and_model();
    folder
        .viseme(&format!("transcribe clip.y4m {ROI} --model gone.gguf"))
        .fails_with("gone.gguf: the model cannot be read (No such file");
    folder
        .viseme(&format!("transcribe clip.y4m {ROI} --model ."))
        .fails_with("the model cannot be read (not a file); give a .gguf file\n");
    folder
        .viseme("transcribe clip.y4m --model m.gguf")
        .fails_with("run `viseme models pull yunet`");
    folder
        .viseme("transcribe clip.y4m --model m.gguf --detector gone.onnx")
        .fails_with("gone.onnx: the detector cannot be read (No such file");
    folder
        .viseme_args(&["transcribe", "clip.y4m", "--grammar", ""])
        .fails_with("--grammar");
}

#[test]
fn malformed_grammars() {
    let (folder, _) = clip_and_model();
    let fails = |grammar: &str, words: &str| {
        let run = folder.viseme(&format!(
            "transcribe clip.y4m {ROI} --model m.gguf --grammar {grammar}"
        ));
        run.fails_with(words);
    };
    fails(
        "gird",
        "no such grammar; give a grammar file, none, or one that ships: grid",
    );
    fails(".", "the grammar cannot be read");
    folder.write("open.grammar", "sentence = bin ( blue | green\n");
    fails("open.grammar", "open.grammar: grammar line");
    folder.write("zebra.grammar", "sentence = bin\n  zebra\n");
    fails(
        "zebra.grammar",
        "line 2: `zebra` is no rule, and no word that the model can spell",
    );
    folder.write("film.grammar", [0, 159, 146, 150]);
    fails("film.grammar", "not UTF-8");
    folder.write("large.grammar", vec![b'#'; 2 << 20]);
    fails("large.grammar", "larger than 1 MiB");
}

#[test]
fn malformed_manifests() {
    let (folder, _) = clip_and_model();
    let fails = |json: &str, words: &str| {
        folder.write("bad.json", json);
        folder
            .viseme("eval --manifest bad.json --model m.gguf --json")
            .fails_with(words);
    };
    fails("", "not a usable manifest");
    fails("[1, 2", "not a usable manifest");
    fails("[]", "an object with `clips`");
    fails(r#"{"corpus": "x"}"#, "missing field `clips`");
    fails(
        r#"{"clips": [{"speaker": "s1", "code": "a", "file": "a.y4m"}]}"#,
        "missing field `text`",
    );
    fails(r#"{"clips": []}"#, "lists no clips");
    let one = r#"{"speaker":"a","code":"b","text":"bin","split":"train","file":"clip.y4m","roi":[0,0,96,96]}"#;
    fails(&format!(r#"{{"clips": [{one}, {one}]}}"#), "is there twice");
    fails(
        &one.replace("96,96]", "-1,96]")
            .replace('{', r#"{"clips":[{"#)
            .replace('}', "}]}"),
        "is no region",
    );
    folder
        .viseme("eval --manifest gone.json --model m.gguf")
        .fails_with("(os error 2); check the path, its permissions and the disk\n");
    folder
        .viseme("eval --manifest models --model m.gguf")
        .fails_with("models");
    folder.write("m.json", format!(r#"{{"clips": [{one}]}}"#));
    folder
        .viseme("eval --manifest m.json --model m.gguf --split tset")
        .fails_with("no clip is in split `tset`; there is: train");
    let run = folder
        .viseme("eval --manifest m.json --model m.gguf --split train --split-field pair_split");
    run.fails_with("no clip is in split `train`, nor in any other");
    folder.write(
        "w.json",
        format!(r#"{{"clips": [{}]}}"#, one.replace(r#""bin""#, r#"" ""#)),
    );
    folder
        .viseme("eval --manifest w.json --model m.gguf")
        .fails_with("w.json: no clip has words in its reference");
}

#[test]
fn mistakes_in_the_arguments() {
    let folder = Folder::new();
    for (arguments, words) in [
        ("transcribe", "required arguments were not provided: <CLIP>"),
        ("transcribe x --modle y", "unexpected argument '--modle'"),
        ("transcribe x --fps fast", "invalid value 'fast'"),
        ("eval", "--manifest <FILE>"),
        (
            "eval --manifest x --modality smell",
            "invalid value 'smell'",
        ),
        ("read x", "unrecognized subcommand 'read'"),
        ("models pull whale", "whale: no model of this name"),
    ] {
        folder.viseme(arguments).fails_with(words);
    }
    folder.viseme_args(&[]).fails_with("no command given");
    let help = folder.viseme("--help");
    assert_eq!((help.code, help.err.as_str()), (0, ""), "{help}");
    for command in ["transcribe", "eval", "info", "models"] {
        assert!(help.out.contains(command), "{help}");
    }
}
