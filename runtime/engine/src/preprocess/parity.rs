//! Against tensors that Auto-AVSR's own preprocessing made with OpenCV and PyTorch.

use std::path::{Path, PathBuf};
use std::vec::Vec;
use std::{env, fs, println, vec};

use safetensors::SafeTensors;

use super::crop::{PATCH, Placement, SIZE, centre, normalise, normalise_rgb};
use super::mean_face::{FOUR_POINTS, Layout, SIXTY_EIGHT_POINTS};
use super::similarity::{Point, Similarity};
use super::smooth::{Smoother, fill_missing, smoothed};
use super::warp::{Image, rgb_to_grey};

/// Auto-AVSR's `window_margin // 2`.
const HALF: usize = 6;
const MISSING: [usize; 3] = [4, 5, 9];
const WIDTH: usize = 340;
const HEIGHT: usize = 300;

/// A file of the shared fixtures, or a line that says why the test is skipped.
fn fixture(name: &str) -> Option<Vec<u8>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = env::var_os("VISEME_SHARED").map_or(beside, PathBuf::from);
    let path = shared.join("fixtures/auto_avsr/preprocess").join(name);
    let bytes = fs::read(&path).ok();
    if bytes.is_none() {
        println!(
            "skipped: {} is not there; set VISEME_SHARED",
            path.display()
        );
    }
    bytes
}

fn f64s(tensors: &SafeTensors<'_>, name: &str) -> Vec<f64> {
    let data = tensors.tensor(name).unwrap().data();
    data.as_chunks()
        .0
        .iter()
        .map(|b| f64::from_le_bytes(*b))
        .collect()
}

fn f32s(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let data = tensors.tensor(name).unwrap().data();
    data.as_chunks()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect()
}

fn i64s_as_f64(tensors: &SafeTensors<'_>, name: &str) -> Vec<f64> {
    let data = tensors.tensor(name).unwrap().data();
    let integers = data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b));
    integers.map(|v| v as f64).collect()
}

/// `[T, N, 2]` as landmarks.
fn landmarks<const N: usize>(values: &[f64]) -> Vec<[Point; N]> {
    let points: Vec<Point> = values
        .chunks_exact(2)
        .map(|p| Point::new(p[0], p[1]))
        .collect();
    points.as_chunks::<N>().0.to_vec()
}

/// One detector's landmarks through the whole chain, against the fixture's matrices and crops.
fn check_chain<const N: usize>(
    tensors: &SafeTensors<'_>,
    prefix: &str,
    layout: &Layout<N>,
    raw: &[f64],
) {
    let get = |name: &str| tensors.tensor(&std::format!("{prefix}.{name}")).unwrap();
    let mut clip: Vec<Option<[Point; N]>> = landmarks(raw).into_iter().map(Some).collect();
    for i in MISSING {
        clip[i] = None;
    }

    // Streaming first: it is not given what the offline form fills in.
    let mut streamed = Vec::new();
    let mut smoother = Smoother::new(HALF).unwrap();
    for frame in &clip {
        smoother.push(frame.as_ref(), |_, l| streamed.push(*l));
    }
    smoother.finish(|_, l| streamed.push(*l));

    assert!(fill_missing(&mut clip));
    let clip: Vec<[Point; N]> = clip.into_iter().map(Option::unwrap).collect();
    let want = f64s(tensors, &std::format!("{prefix}.interpolated_landmarks"));
    assert_eq!(clip, landmarks(&want), "{prefix}: interpolation");
    let smooth: Vec<[Point; N]> = (0..clip.len()).map(|i| smoothed(&clip, i, HALF)).collect();
    assert_eq!(smooth, streamed, "{prefix}: streaming");

    let affine = f64s(tensors, &std::format!("{prefix}.affine_2x3"));
    let frames = tensors.tensor("frames_rgb_u8").unwrap().data();
    let (rgb_crops, grey_crops) = (get("rgb.crops_u8").data(), get("gray.crops_u8").data());
    let mut worst: f64 = 0.0;
    let mut rgb = vec![0; PATCH * PATCH * 3];
    let mut grey = vec![0; PATCH * PATCH];
    let mut grey_frame = vec![0; WIDTH * HEIGHT];
    for (t, (frame, points)) in frames
        .chunks_exact(WIDTH * HEIGHT * 3)
        .zip(&smooth)
        .enumerate()
    {
        let place = Placement::new(layout, points).unwrap();
        let want = &affine[t * 6..][..6];
        for (got, want) in place.transform.matrix().as_flattened().iter().zip(want) {
            worst = worst.max((got - want).abs());
        }
        let picture = Image::<3>::new(frame, WIDTH, HEIGHT).unwrap();
        place.render(&picture, &mut rgb);
        rgb_to_grey(frame, &mut grey_frame);
        let picture = Image::<1>::new(&grey_frame, WIDTH, HEIGHT).unwrap();
        place.render(&picture, &mut grey);
        let want = &rgb_crops[t * rgb.len()..][..rgb.len()];
        assert_eq!(rgb, want, "{prefix}: RGB crop {t}");
        let want = &grey_crops[t * grey.len()..][..grey.len()];
        assert_eq!(grey, want, "{prefix}: grey crop {t}");

        // The same crop with the reference's own matrix.
        let [a, _, tx, b, _, ty] = affine[t * 6..][..6] else {
            unreachable!()
        };
        let own = Similarity::new(a, b, tx, ty);
        let own = Placement::on_canvas(own, layout.mouth_centre(points, &own)).unwrap();
        let mut again = vec![0; PATCH * PATCH];
        own.render(&picture, &mut again);
        assert_eq!(again, grey, "{prefix}: crop {t} by the reference's matrix");
    }
    println!("{prefix}: largest difference of an affine coefficient {worst:e}");
    assert!(worst < 1e-9, "{prefix}: {worst}");
}

#[test]
fn sixty_eight_points_give_auto_avsrs_crops_to_the_bit() {
    let Some(bytes) = fixture("mouthcrop.safetensors") else {
        return;
    };
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let raw = f64s(&tensors, "landmarks68");
    check_chain(&tensors, "retinaface68", &SIXTY_EIGHT_POINTS, &raw);
}

#[test]
fn four_points_give_auto_avsrs_crops_to_the_bit() {
    let Some(bytes) = fixture("mouthcrop.safetensors") else {
        return;
    };
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let raw = i64s_as_f64(&tensors, "landmarks4_int");
    check_chain(&tensors, "mediapipe4", &FOUR_POINTS, &raw);
}

#[test]
fn the_mean_face_is_auto_avsrs() {
    let Some(bytes) = fixture("mouthcrop.safetensors") else {
        return;
    };
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let face = landmarks::<68>(&f64s(&tensors, "mean_face_68"))[0];
    let four = [36..42, 42..48, 31..36, 48..68].map(|range| Point::mean(&face[range]));
    assert_eq!(FOUR_POINTS.targets(), four);
    let eight = [28, 33, 36, 39, 42, 45, 48, 54].map(|i: usize| face[i]);
    assert_eq!(SIXTY_EIGHT_POINTS.targets(), eight);
}

#[test]
fn normalisation_is_the_reference_transform() {
    let Some(bytes) = fixture("transforms.safetensors") else {
        return;
    };
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let (mean, std) = (0.421, 0.165);

    let patches = tensors.tensor("video.gray_u8_thw").unwrap().data();
    let want = f32s(&tensors, "video.gray_transformed");
    let mut crop = [0; SIZE * SIZE];
    for (patch, want) in patches
        .chunks_exact(PATCH * PATCH)
        .zip(want.chunks_exact(crop.len()))
    {
        centre(patch, PATCH, &mut crop, SIZE);
        for (&got, &want) in crop.iter().zip(want) {
            assert_eq!(normalise(got, mean, std), want);
        }
    }

    let patches = tensors.tensor("video.raw_rgb_u8_thwc").unwrap().data();
    let want = f32s(&tensors, "video.transformed");
    let mut worst: f32 = 0.0;
    for (t, want) in want.chunks_exact(SIZE * SIZE).enumerate() {
        for (i, want) in want.iter().enumerate() {
            let (y, x) = (i / SIZE + 4, i % SIZE + 4);
            let start = ((t * PATCH + y) * PATCH + x) * 3;
            let rgb = [patches[start], patches[start + 1], patches[start + 2]];
            worst = worst.max((normalise_rgb(rgb, mean, std) - want).abs());
        }
    }
    println!("RGB normalisation: largest difference {worst:e}");
    assert!(worst <= 1e-6);
}
