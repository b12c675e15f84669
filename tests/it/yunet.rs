//! YuNet against its referees: onnxruntime for the network, OpenCV's `FaceDetectorYN` for the faces; and hostile files.

use std::path::{Path, PathBuf};

use viseme_engine::math;
use viseme_engine::model::yunet::{DetectError, Detector, Face, Image, OpenError};
use viseme_format::gguf::{Reader, Writer};
use viseme_format::spec::ModelSpec;
use viseme_import::ImportError;
use viseme_import::yunet::import;

use crate::{python, shared};

/// The referees.
const PACKAGES: [&str; 3] = ["numpy", "onnxruntime", "opencv-python-headless"];

/// Clips of the shared data: file, width, height.
const CLIPS: [(&str, usize, usize); 5] = [
    ("grid/s1/bbaf2n.mp4", 216, 232),
    ("grid/s2/bbaf2s.mp4", 216, 232),
    ("grid/original/s1_bgahzn.mpg", 360, 288),
    ("grid/original/s31_bbac2n.mpg", 360, 288),
    ("grid/original/s34_bbai3n.mpg", 360, 288),
];

/// An image to compare on.
struct Picture {
    pixels: Vec<u8>,
    width: usize,
    height: usize,
    /// Longest side given to the network.
    longest: usize,
}

/// What the referees say of a picture.
struct Verdict {
    cells: Vec<[f32; 16]>,
    faces: Vec<[f32; 15]>,
}

#[test]
fn network_and_faces_agree_with_onnxruntime_and_opencv() {
    if let Err(why) = compare_all() {
        println!("skipped: {why}");
    }
}

fn compare_all() -> Result<(), String> {
    let python = python::with("yunet", &PACKAGES)?;
    let mut pictures = Vec::new();
    for (file, width, height) in CLIPS {
        let clip = shared::frames(
            &shared::find(&format!("data/{file}"))?,
            "bgr24",
            width * height * 3,
        )?;
        for frame in [0, 30, 70] {
            pictures.push(Picture {
                pixels: clip[frame].clone(),
                width,
                height,
                longest: 640,
            });
        }
    }
    // The fixed-size files take 320x320 only; and the smallest input there is.
    pictures.push(on_canvas(&pictures[0], 320, 320));
    pictures.push(on_canvas(&pictures[0], 31, 17));
    // Two people.
    pictures.push(beside(&pictures[0], &pictures[3]));
    for variant in ["n_dynamic", "n_320_320", "s_320_320"] {
        let onnx = model(variant)?;
        let verdicts = referee(&python, &onnx, &pictures, variant);
        let file = import(&std::fs::read(&onnx).expect("a readable file"), variant).expect("YuNet");
        for (i, (picture, verdict)) in pictures.iter().zip(&verdicts).enumerate() {
            compare(&file, picture, verdict, &format!("{variant}, picture {i}"));
        }
        assert!(
            verdicts.iter().any(|v| !v.cells.is_empty()),
            "{variant}: nothing compared"
        );
        assert_eq!(
            verdicts.last().expect("pictures").faces.len(),
            2,
            "two people"
        );
    }
    Ok(())
}

fn compare(file: &[u8], picture: &Picture, verdict: &Verdict, what: &str) {
    let detector = Detector::open(file)
        .expect("a detector")
        .with_max_side(picture.longest);
    let image = Image::bgr(&picture.pixels, picture.width, picture.height);
    let mut arena = vec![f32::NAN; detector.arena_len(picture.width, picture.height)];
    let heads = detector.heads(&mut arena, &image).expect("heads");
    let (cells, _) = heads.as_chunks::<16>();
    if !verdict.cells.is_empty() {
        assert_eq!(cells.len(), verdict.cells.len(), "{what}");
    }
    // Sums in another order differ by last places of the values that enter them, which do not shrink when the sum is
    // near zero: there the error counts against a tenth of the channel's scale, which is 1 for probabilities.
    let mut worst = 0f32;
    for channel in 0..16 {
        let theirs = verdict.cells.iter().map(|cell| cell[channel]);
        let scale = match channel {
            0 | 1 => 1.0,
            _ => theirs.clone().fold(0f32, |largest, v| largest.max(v.abs())),
        };
        for (cell, theirs) in cells.iter().zip(theirs) {
            let ours = if channel < 2 {
                math::sigmoid(cell[channel])
            } else {
                cell[channel]
            };
            worst = worst.max((ours - theirs).abs() / theirs.abs().max(0.1 * scale));
        }
    }
    assert!(worst <= 1e-4, "{what}: heads differ by {worst:e}");

    let faces = find(&detector, &mut arena, &image);
    assert_eq!(faces.len(), verdict.faces.len(), "{what}");
    for (ours, theirs) in faces.iter().zip(&verdict.faces) {
        // Hundredths of a pixel: what differs is the order of sums.
        for (ours, theirs) in listed(ours).iter().zip(theirs) {
            assert!(
                (ours - theirs).abs() <= 0.002,
                "{what}: {faces:?}, {:?}",
                verdict.faces
            );
        }
        assert!((ours.score - theirs[14]).abs() <= 1e-5, "{what}: score");
    }
}

#[test]
fn large_and_grey_images_give_the_same_faces() {
    if let Err(why) = compare_sizes() {
        println!("skipped: {why}");
    }
}

/// Pictures shrunk on the way in, against OpenCV after `INTER_AREA`; grey images against colour ones of equal channels.
fn compare_sizes() -> Result<(), String> {
    let python = python::with("yunet", &PACKAGES)?;
    let mut pictures = Vec::new();
    for (file, width, height) in &CLIPS[2..] {
        let clip = shared::frames(
            &shared::find(&format!("data/{file}"))?,
            "gray",
            width * height,
        )?;
        for longest in [320, 256, 160] {
            pictures.push(Picture {
                pixels: clip[10].iter().flat_map(|&grey| [grey; 3]).collect(),
                width: *width,
                height: *height,
                longest,
            });
        }
    }
    let onnx = model("n_dynamic")?;
    let verdicts = referee(&python, &onnx, &pictures, "sizes");
    let file = import(&std::fs::read(&onnx).expect("a readable file"), "YuNet").expect("YuNet");
    for (picture, verdict) in pictures.iter().zip(&verdicts) {
        let detector = Detector::open(&file)
            .expect("a detector")
            .with_max_side(picture.longest);
        let mut arena = vec![f32::NAN; detector.arena_len(picture.width, picture.height)];
        let colour = Image::bgr(&picture.pixels, picture.width, picture.height);
        let grey: Vec<u8> = picture.pixels.chunks(3).map(|bgr| bgr[0]).collect();
        let grey = Image::grey(&grey, picture.width, picture.height);
        let (colour, grey) = (
            find(&detector, &mut arena, &colour),
            find(&detector, &mut arena, &grey),
        );
        assert_eq!((colour.len(), grey.len(), verdict.faces.len()), (1, 1, 1));
        let values = listed(&colour[0])
            .into_iter()
            .zip(listed(&grey[0]))
            .zip(verdict.faces[0]);
        for (i, ((colour, grey), theirs)) in values.enumerate() {
            // Grey sums the stem's weights first. OpenCV rounds the shrunk image to whole grey levels, we do not.
            let (close, rounded) = if i == 14 { (1e-5, 0.01) } else { (0.002, 0.5) };
            assert!((colour - grey).abs() <= close, "{colour} {grey}");
            assert!(
                (colour - theirs).abs() <= rounded,
                "{colour} {theirs} ({i})"
            );
        }
    }
    Ok(())
}

#[test]
fn every_original_shows_a_face() {
    let folder =
        shared::find("data/grid/original").and_then(|folder| Ok((folder, model("n_320_320")?)));
    let (folder, onnx) = match folder {
        Ok(found) => found,
        Err(why) => return println!("skipped: {why}"),
    };
    let file = import(&std::fs::read(onnx).expect("a readable file"), "YuNet").expect("YuNet");
    let detector = Detector::open(&file).expect("a detector");
    let mut arena = vec![0.0; detector.arena_len(360, 288)];
    for clip in std::fs::read_dir(folder).expect("a folder") {
        let clip = clip.expect("an entry").path();
        let frames = match shared::frames(&clip, "gray", 360 * 288) {
            Ok(frames) => frames,
            Err(why) => return println!("skipped: {why}"),
        };
        for (i, frame) in frames.iter().enumerate().step_by(25) {
            let faces = find(&detector, &mut arena, &Image::grey(frame, 360, 288));
            assert_eq!(faces.len(), 1, "{} frame {i}: {faces:?}", clip.display());
        }
    }
}

#[test]
fn cut_and_altered_onnx_files_are_refused_or_run() {
    let onnx = match model("s_320_320") {
        Ok(path) => std::fs::read(path).expect("a readable file"),
        Err(why) => return println!("skipped: {why}"),
    };
    // Every prefix is refused, with one line.
    let cuts = (0..400)
        .chain((400..onnx.len()).step_by(4999))
        .chain(onnx.len() - 300..onnx.len());
    for cut in cuts {
        let error = import(&onnx[..cut], "x").expect_err("a cut file");
        assert!(
            matches!(error, ImportError::Malformed(_)),
            "cut at {cut}: {error}"
        );
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    // Altered bytes: refused, or a detector that runs. Never a panic.
    let mut state = 1u64;
    let mut random = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let pixels = vec![90; 40 * 40];
    let mut arena = Vec::new();
    let (mut refused, mut run) = (0, 0);
    for round in 0..1000 {
        let mut altered = onnx.clone();
        for _ in 0..1 + round % 8 {
            // Half of them at the end, where names, shapes and attributes are denser.
            let at = if round % 2 == 0 {
                random(altered.len())
            } else {
                altered.len() - 1 - random(20_000)
            };
            altered[at] = random(256) as u8;
        }
        let Ok(file) = import(&altered, "x") else {
            refused += 1;
            continue;
        };
        let detector = Detector::open(&file).expect("what the importer writes");
        arena.resize(detector.arena_len(40, 40), 0.0);
        find(&detector, &mut arena, &Image::grey(&pixels, 40, 40));
        run += 1;
    }
    assert!(refused > 50 && run > 50, "{refused} refused, {run} run");
}

#[test]
fn other_models_are_named() {
    let shared =
        |path| shared::find(path).map(|path| std::fs::read(path).expect("a readable file"));
    let files = [
        "data/models/ultralight/version-RFB-320.onnx",
        "data/models/silero-vad/silero_vad_16k_op15.onnx",
    ];
    let says = [
        [
            "not YuNet",
            "\"torch-jit-export\"",
            "242 nodes",
            "inputs input",
            "outputs scores, boxes",
        ],
        [
            "not YuNet",
            "\"main_graph\"",
            "121 nodes",
            "inputs input, state, sr",
            "outputs output, stateN",
        ],
    ];
    for (file, says) in files.into_iter().zip(says) {
        let onnx = match shared(file) {
            Ok(onnx) => onnx,
            Err(why) => return println!("skipped: {why}"),
        };
        let error = import(&onnx, "x").expect_err("another model");
        assert!(matches!(error, ImportError::WrongModel(_)));
        let error = error.to_string();
        assert!(!error.contains('\n') && error.len() < 400, "{error}");
        for part in says {
            assert!(error.contains(part), "{part} in: {error}");
        }
    }
}

#[test]
fn files_that_are_no_onnx_are_refused() {
    let gguf = Writer::new().finish().expect("an empty file");
    for bytes in [
        &b""[..],
        b"GIF89a",
        &[0; 4096],
        &[0xff; 4096],
        &gguf,
        b"\x3a\x00",
        b"\x3a\x02\x0a\x00",
    ] {
        let error = import(bytes, "x").expect_err("no ONNX file");
        assert!(matches!(error, ImportError::Malformed(_)), "{error}");
    }
    // A graph of nothing; a file far too large.
    let error = import(b"\x3a\x00\x42\x02\x10\x0b", "x").expect_err("an empty graph");
    assert!(matches!(error, ImportError::WrongModel(_)), "{error}");
    let error = import(&vec![0; 5 << 20], "x").expect_err("a large file");
    assert!(matches!(error, ImportError::WrongModel(_)), "{error}");
}

#[test]
fn altered_detector_files_are_refused() {
    let onnx = match model("n_320_320") {
        Ok(path) => std::fs::read(path).expect("a readable file"),
        Err(why) => return println!("skipped: {why}"),
    };
    let file = import(&onnx, "YuNet").expect("YuNet");
    let names: Vec<String> = (Reader::open(&file).expect("our file").tensors())
        .map(|t| t.name.to_owned())
        .collect();
    assert_eq!(names.len(), 2 + 4 * (11 + 3 + 3 + 3));
    for name in &names {
        let missing = rewrite(&file, |n, shape, values| {
            (n != name).then_some((shape, values))
        });
        let error = Detector::open(&missing).expect_err("a missing tensor");
        if name == "share.0.pointwise.weight" {
            // Without the first of their tensors, the shared units count as absent, and the others as unknown.
            assert!(matches!(&error, OpenError::Unknown(_)), "{name}: {error}");
        } else {
            assert!(matches!(&error, OpenError::Tensor(_)), "{name}: {error}");
        }
        let longer = rewrite(&file, |n, mut shape, mut values| {
            if n == name {
                *shape.last_mut().expect("a dimension") *= 2;
                values.extend_from_within(..);
            }
            Some((shape, values))
        });
        let error = Detector::open(&longer).expect_err("a longer tensor");
        assert!(matches!(error, OpenError::Tensor(_)), "{name}: {error}");
        let holed = rewrite(&file, |n, shape, mut values| {
            if n == name {
                *values.last_mut().expect("a value") = f32::NAN;
            }
            Some((shape, values))
        });
        let error = Detector::open(&holed).expect_err("a NaN");
        assert!(matches!(error, OpenError::NotFinite(_)), "{name}: {error}");
        assert!(error.to_string().contains(name.as_str()), "{error}");
    }
    for cut in (0..file.len()).step_by(1009) {
        assert!(
            matches!(Detector::open(&file[..cut]), Err(OpenError::File(_))),
            "cut at {cut}"
        );
    }
    // Weights no one trained: no face, or faces, but no panic.
    let wild = rewrite(&file, |_, shape, values| {
        Some((shape, values.iter().map(|v| v * 1e30).collect()))
    });
    let detector = Detector::open(&wild).expect("finite weights");
    let mut arena = vec![0.0; detector.arena_len(64, 64)];
    find(&detector, &mut arena, &Image::grey(&[200; 64 * 64], 64, 64));
}

#[test]
fn wrong_images_and_arenas_are_refused() {
    let onnx = match model("s_320_320") {
        Ok(path) => std::fs::read(path).expect("a readable file"),
        Err(why) => return println!("skipped: {why}"),
    };
    let file = import(&onnx, "YuNet").expect("YuNet");
    let detector = Detector::open(&file).expect("a detector");
    let mut out = [Face::default(); 1];
    let len = detector.arena_len(100, 80);
    let mut arena = vec![0.0; len];
    let pixels = vec![0; 100 * 80];
    let image = Image::grey(&pixels, 100, 80);
    assert_eq!(detector.detect(&mut arena, &image, 0.6, &mut out), Ok(0));
    assert_eq!(detector.detect(&mut arena, &image, 0.0, &mut []), Ok(0));
    let short = detector.detect(&mut arena[..len / 2], &image, 0.6, &mut out);
    assert!(matches!(short, Err(DetectError::Arena(needed)) if needed <= len && needed > len / 2));
    for (width, height) in [(100, 79), (0, 0), (8000, 2), (usize::MAX, usize::MAX)] {
        let wrong = detector.detect(
            &mut arena,
            &Image::grey(&pixels, width, height),
            0.6,
            &mut out,
        );
        assert_eq!(wrong, Err(DetectError::Image { width, height }));
    }
    assert_eq!(detector.arena_len(0, 5), 0);
    assert_eq!(detector.arena_len(usize::MAX, 5), 0);
}

/// The faces of an image, at most 8.
fn find(detector: &Detector<'_>, arena: &mut [f32], image: &Image<'_>) -> Vec<Face> {
    let mut faces = [Face::default(); 8];
    let found = detector
        .detect(arena, image, 0.6, &mut faces)
        .expect("a searchable image");
    faces[..found].to_vec()
}

/// A face as OpenCV lists it: box, points, score.
fn listed(face: &Face) -> [f32; 15] {
    let mut list = [
        face.x, face.y, face.w, face.h, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
        face.score,
    ];
    for (pair, (x, y)) in list[4..14].chunks_mut(2).zip(face.points) {
        pair.copy_from_slice(&[x, y]);
    }
    list
}

fn model(variant: &str) -> Result<PathBuf, String> {
    shared::find(&format!("data/models/yunet/yunet_{variant}.onnx"))
}

/// Asks the referees about pictures.
fn referee(python: &Path, onnx: &Path, pictures: &[Picture], name: &str) -> Vec<Verdict> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (input, output) = (
        folder.join(format!("yunet-{name}.in")),
        folder.join(format!("yunet-{name}.out")),
    );
    let mut bytes = (pictures.len() as u32).to_le_bytes().to_vec();
    for picture in pictures {
        for number in [picture.width, picture.height, picture.longest] {
            bytes.extend((number as u32).to_le_bytes());
        }
        bytes.extend(&picture.pixels);
    }
    std::fs::write(&input, bytes).expect("room for a file");
    python::run_script(
        python,
        include_str!("yunet_reference.py"),
        &[onnx, &input, &output],
    );
    let bytes = std::fs::read(&output).expect("the referee's file");
    let mut values = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b));
    let verdicts = pictures.iter().map(|_| Verdict {
        cells: table(&mut values),
        faces: table(&mut values),
    });
    verdicts.collect()
}

/// A count, then rows.
fn table<const N: usize>(values: &mut impl Iterator<Item = f32>) -> Vec<[f32; N]> {
    let mut next = || values.next().expect("a complete file");
    let rows = next() as usize;
    (0..rows).map(|_| std::array::from_fn(|_| next())).collect()
}

/// The picture on a canvas of noise.
fn on_canvas(picture: &Picture, width: usize, height: usize) -> Picture {
    let mut pixels: Vec<u8> = (0..width * height * 3)
        .map(|i| (i * i / 7 % 256) as u8)
        .collect();
    let (w, h) = (picture.width.min(width), picture.height.min(height));
    for y in 0..h {
        pixels[y * width * 3..][..w * 3]
            .copy_from_slice(&picture.pixels[y * picture.width * 3..][..w * 3]);
    }
    Picture {
        pixels,
        width,
        height,
        longest: 640,
    }
}

/// Two pictures of one height side by side.
fn beside(left: &Picture, right: &Picture) -> Picture {
    let rows = left
        .pixels
        .chunks(left.width * 3)
        .zip(right.pixels.chunks(right.width * 3));
    Picture {
        pixels: rows.flat_map(|(l, r)| [l, r].concat()).collect(),
        width: left.width + right.width,
        height: left.height,
        longest: 640,
    }
}

/// The model file with tensors changed or dropped.
fn rewrite(
    file: &[u8],
    change: impl Fn(&str, Vec<usize>, Vec<f32>) -> Option<(Vec<usize>, Vec<f32>)>,
) -> Vec<u8> {
    let reader = Reader::open(file).expect("our file");
    let mut writer = Writer::new();
    ModelSpec::read(&reader)
        .expect("a spec")
        .write(&mut writer)
        .expect("the same spec");
    for tensor in reader.tensors() {
        let values = tensor.f32s().expect("f32").collect();
        if let Some((shape, values)) = change(tensor.name, tensor.shape().collect(), values) {
            writer
                .tensor_f32(tensor.name, &shape, &values)
                .expect("a tensor");
        }
    }
    writer.finish().expect("a file")
}
