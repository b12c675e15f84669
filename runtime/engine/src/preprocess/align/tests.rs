//! Against pictures whose motion is known, since they are drawn from a formula.

use super::*;
use crate::preprocess::mean_face::FOUR_POINTS;
use std::boxed::Box;
use std::vec::Vec;
use std::{println, vec};

const WIDTH: usize = 320;
const HEIGHT: usize = 240;

/// Where the face's canvas lies in the first picture: rather small and a little tilted.
const FACE: Similarity = Similarity::new(0.8, 0.06, 45.0, 10.0);

/// A face-like pattern on the 256x256 canvas; `open` moves what is at the mouth.
fn face(p: Point, open: f64) -> f64 {
    let blob = |x: f64, y: f64, w: f64, h: f64| {
        let (u, v) = ((p.x - x) / w, (p.y - y) / h);
        (-(u * u + v * v)).exp()
    };
    let skin = 70.0 + 90.0 * blob(129.0, 125.0, 90.0, 110.0) + 0.15 * p.x;
    let eyes = blob(102.0, 94.0, 14.0, 7.0) + blob(156.0, 93.5, 14.0, 7.0);
    let brows = blob(100.0, 78.0, 20.0, 5.0) + blob(158.0, 77.0, 20.0, 5.0);
    let nose = blob(121.0, 136.0, 6.0, 5.0) + blob(137.0, 136.0, 6.0, 5.0);
    let mouth = blob(129.0, 158.0, 24.0, 4.0 + 14.0 * open);
    skin - 60.0 * eyes - 40.0 * brows - 35.0 * nose - 70.0 * mouth
        + 6.0 * (p.x * 0.21 + 1.0).sin() * (p.y * 0.17).cos()
}

struct Scene {
    motion: Similarity,
    open: f64,
    gain: f64,
    bias: f64,
    noise: u32,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            motion: Similarity::IDENTITY,
            open: 0.0,
            gain: 1.0,
            bias: 0.0,
            noise: 0,
        }
    }
}

impl Scene {
    fn draw(&self) -> Vec<u8> {
        let back = FACE.then(&self.motion).inverse();
        let mut state = 1u32;
        (0..WIDTH * HEIGHT)
            .map(|i| {
                let p = Point::new((i % WIDTH) as f64, (i / WIDTH) as f64);
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = f64::from((state >> 16) % (2 * self.noise + 1)) - f64::from(self.noise);
                let v = face(back.apply(p), self.open) * self.gain + self.bias + noise;
                v.round().clamp(0.0, 255.0) as u8
            })
            .collect()
    }
}

fn picture(data: &[u8]) -> Image<'_, 1> {
    Image::new(data, WIDTH, HEIGHT).unwrap()
}

fn landmarks() -> [Point; 4] {
    let targets: [Point; 4] = FOUR_POINTS.targets().try_into().unwrap();
    FACE.apply_all(&targets)
}

fn aligner() -> Box<Aligner> {
    let mut aligner = Box::new(Aligner::new());
    let data = Scene::default().draw();
    let fit = FOUR_POINTS.fit(&landmarks()).unwrap();
    aligner.set_template(&picture(&data), &fit).unwrap();
    aligner
}

/// The largest distance of a tracked landmark from where it is, in pixels of the picture.
fn error(track: &Track, truth: &Similarity) -> f64 {
    let (got, want) = (
        track.motion.apply_all(&landmarks()),
        truth.apply_all(&landmarks()),
    );
    got.iter()
        .zip(&want)
        .map(|(g, w)| g.distance(*w))
        .fold(0.0, f64::max)
}

/// A turn (degrees) and scaling about the face, then a shift.
fn motion(degrees: f64, scale: f64, dx: f64, dy: f64) -> Similarity {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (a, b) = (scale * cos, scale * sin);
    let c = FACE.apply(Point::new(129.0, 120.0));
    let turned = Similarity::new(a, b, 0.0, 0.0).apply(c);
    Similarity::new(a, b, c.x - turned.x + dx, c.y - turned.y + dy)
}

fn check(name: &str, scene: &Scene, limit: f64) {
    let data = scene.draw();
    let track = aligner().track(&picture(&data)).unwrap();
    let error = error(&track, &scene.motion);
    println!("{name}: {error:.4} px, residual {:.4}", track.residual);
    assert!(error < limit, "{name}: {error}");
    assert!(track.residual < REDETECT_RESIDUAL, "{name}: {track:?}");
    assert!(track.overlap > 0.99, "{name}: {track:?}");
}

#[test]
fn a_still_face_stays() {
    check("still", &Scene::default(), 0.01);
}

#[test]
fn motion_between_frames_is_found_to_a_tenth_of_a_pixel() {
    for (degrees, scale, dx, dy) in [
        (0.0, 1.0, 0.25, -0.4),
        (0.0, 1.0, 3.3, 1.7),
        (2.0, 1.01, -2.0, 2.5),
        (-6.0, 0.97, 8.0, -6.0),
        (10.0, 1.06, -12.0, 9.0),
        (0.0, 1.0, 18.0, 0.0),
    ] {
        let scene = Scene {
            motion: motion(degrees, scale, dx, dy),
            ..Scene::default()
        };
        check(
            &std::format!("{degrees}° x{scale} ({dx}, {dy})"),
            &scene,
            0.1,
        );
    }
}

#[test]
fn brightness_contrast_and_noise_do_not_move_the_face() {
    let scene = Scene {
        motion: motion(1.5, 1.0, 1.3, -0.7),
        gain: 0.6,
        bias: 40.0,
        noise: 6,
        ..Scene::default()
    };
    check("dimmed", &scene, 0.15);
}

#[test]
fn a_talking_mouth_does_not_move_the_face() {
    let scene = Scene {
        motion: motion(1.0, 1.0, 2.0, 1.0),
        open: 1.0,
        ..Scene::default()
    };
    check("talking", &scene, 0.5);
}

#[test]
fn a_long_motion_is_followed_without_drift() {
    let mut aligner = aligner();
    for t in 1..=60 {
        let t = f64::from(t) / 60.0;
        let swing = (t * 6.3).sin();
        let scene = Scene {
            motion: motion(12.0 * swing, 1.0 + 0.15 * t, 30.0 * swing, 14.0 * t),
            open: (t * 40.0).sin().abs(),
            noise: 3,
            ..Scene::default()
        };
        let data = scene.draw();
        let track = aligner.track(&picture(&data)).unwrap();
        let error = error(&track, &scene.motion);
        assert!(error < 0.6, "{t}: {error}");
        assert!(track.residual < REDETECT_RESIDUAL, "{t}: {track:?}");
    }
}

#[test]
fn another_picture_shows_in_the_residual() {
    let mut aligner = aligner();
    let other: Vec<u8> = (0..WIDTH * HEIGHT)
        .map(|i| ((i % WIDTH / 9 + i / WIDTH / 7) % 2 * 120 + 60) as u8)
        .collect();
    let lost = match aligner.track(&picture(&other)) {
        Ok(track) => track.residual > REDETECT_RESIDUAL,
        Err(error) => error == AlignError::Lost,
    };
    assert!(lost);
}

#[test]
fn what_cannot_be_followed_is_refused() {
    let mut aligner = Box::new(Aligner::new());
    let data = Scene::default().draw();
    assert_eq!(aligner.track(&picture(&data)), Err(AlignError::NoTemplate));
    let flat = vec![90; WIDTH * HEIGHT];
    let fit = FOUR_POINTS.fit(&landmarks()).unwrap();
    assert_eq!(
        aligner.set_template(&picture(&flat), &fit),
        Err(AlignError::Flat)
    );
    // Edges in one direction only say nothing about motion along them.
    let stripes: Vec<u8> = (0..WIDTH * HEIGHT)
        .map(|i| (128.0 + 80.0 * ((i % WIDTH) as f64 * 0.2).sin()) as u8)
        .collect();
    assert_eq!(
        aligner.set_template(&picture(&stripes), &Similarity::new(0.5, 0.0, 30.0, 30.0)),
        Err(AlignError::Flat)
    );
    let away = Similarity::new(1.0, 0.0, 5_000.0, 0.0);
    assert_eq!(
        aligner.set_template(&picture(&data), &away),
        Err(AlignError::Lost)
    );
    let nowhere = Similarity::new(0.0, 0.0, 0.0, 0.0);
    assert_eq!(
        aligner.set_template(&picture(&data), &nowhere),
        Err(AlignError::Lost)
    );
    assert_eq!(aligner.track(&picture(&data)), Err(AlignError::NoTemplate));
}

#[test]
fn a_face_that_leaves_is_lost() {
    let mut aligner = aligner();
    let tiny = Image::<1>::new(&[100; 16], 4, 4).unwrap();
    assert_eq!(aligner.track(&tiny), Err(AlignError::Lost));
    let black = vec![0; WIDTH * HEIGHT];
    assert_eq!(aligner.track(&picture(&black)), Err(AlignError::Lost));
    // It is found again where it was.
    let data = Scene::default().draw();
    assert!(aligner.track(&picture(&data)).is_ok());
}

#[test]
fn fusion_moves_part_of_the_way_and_jumps_when_far() {
    let predicted = landmarks();
    let detected = predicted.map(|p| Point::new(p.x + 2.0, p.y - 1.0));
    let fused = Fusion::default().fuse(&predicted, &detected);
    for (f, p) in fused.iter().zip(&predicted) {
        assert!(f.distance(Point::new(p.x + 0.6, p.y - 0.3)) < 1e-12);
    }
    let far = predicted.map(|p| Point::new(p.x + 60.0, p.y));
    assert_eq!(Fusion::default().fuse(&predicted, &far), far);
    let broken = predicted.map(|_| Point::new(f64::NAN, 0.0));
    assert_eq!(Fusion::default().fuse(&broken, &detected), detected);
}

#[test]
fn fusion_converges_and_damps_jitter() {
    let truth = landmarks();
    let mut held = truth.map(|p| Point::new(p.x + 3.0, p.y));
    for step in 0..40 {
        let jitter = if step % 2 == 0 { 1.0 } else { -1.0 };
        let detected = truth.map(|p| Point::new(p.x + jitter, p.y));
        held = Fusion::default().fuse(&held, &detected);
    }
    for (h, t) in held.iter().zip(&truth) {
        assert!(h.distance(*t) < 0.2);
    }
}
