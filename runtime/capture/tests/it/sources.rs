//! Frames and sound against ffprobe, and the readers against each other.

use std::path::Path;
use std::process::Command;

use viseme_capture::source::{FfmpegVideo, FrameSource, OpenOptions, open, open_sound};

use crate::common::{Folder, difference, frames, read_all};

/// Times of the frames in microseconds, by ffprobe.
fn probed_times(path: &Path) -> Vec<u64> {
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-select_streams",
            "v:0",
            "-show_entries",
            "frame=best_effort_timestamp_time",
        ])
        .args(["-of", "csv=p=0"])
        .arg(path)
        .output()
        .expect("ffprobe runs");
    // Side data of a frame makes lines of its own.
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split(',').next()?.parse::<f64>().ok())
        .map(|seconds| (seconds * 1e6).round() as u64)
        .collect()
}

#[test]
fn every_frame_keeps_its_time() {
    let Some(folder) = Folder::with_ffmpeg() else {
        return;
    };
    let source = "-f lavfi -i testsrc=s=96x64:r=50:d=2";
    let steady = folder.make(
        "-f lavfi -i testsrc=s=96x64:r=25:d=1 -c:v libx264",
        "steady.mp4",
    );
    let fast = folder.make(
        "-f lavfi -i testsrc=s=96x64:r=240:d=0.5 -c:v libx264",
        "fast.mp4",
    );
    let varied = folder.make(
        &format!("{source} -vf select='not(mod(n,7))+not(mod(n,3))' -vsync vfr -c:v libx264 -bf 2"),
        "varied.mp4",
    );
    for (path, count) in [(&steady, 25), (&fast, 120), (&varied, 44)] {
        let read = frames(path).expect("readable");
        assert_eq!(read.len(), count, "{}", path.display());
        let times = probed_times(path);
        assert_eq!(times.len(), count);
        for (frame, probed) in read.iter().zip(times) {
            // ffmpeg rounds to its own microseconds.
            assert!(
                frame.timestamp_us.abs_diff(probed) <= 1,
                "{} is not {probed}",
                frame.timestamp_us
            );
        }
    }
}

#[test]
fn our_y4m_reader_sees_what_ffmpeg_sees() {
    let Some(folder) = Folder::with_ffmpeg() else {
        return;
    };
    for (format, name) in [
        ("yuv420p", "a.y4m"),
        ("yuv444p", "b.y4m"),
        ("yuv422p10le -strict -1", "c.y4m"),
        ("gray", "d.y4m"),
        ("yuvj420p", "e.y4m"),
    ] {
        let path = folder.make(
            &format!("-f lavfi -i testsrc2=s=98x66:r=30000/1001:d=0.5 -pix_fmt {format}"),
            name,
        );
        let own = frames(&path).expect("readable");
        let peer =
            read_all(Box::new(FfmpegVideo::open(&path).expect("readable"))).expect("readable");
        assert_eq!(own.len(), peer.len());
        for (own, peer) in own.iter().zip(&peer) {
            assert!(
                difference(own, peer).0 <= 1,
                "{format}: {:?}",
                difference(own, peer)
            );
            assert!(own.timestamp_us.abs_diff(peer.timestamp_us) <= 1);
        }
    }
}

#[test]
fn an_image_folder_is_the_video_it_was_made_from() {
    let Some(folder) = Folder::with_ffmpeg() else {
        return;
    };
    let video = folder.make(
        "-f lavfi -i testsrc=s=96x64:r=25:d=0.48 -pix_fmt gray",
        "v.y4m",
    );
    let expected = frames(&video).expect("readable");
    for (extension, tolerance) in [("png", 0), ("pgm", 0), ("jpg -q:v 1", 16)] {
        let (extension, options) = extension.split_once(' ').unwrap_or((extension, ""));
        let images = folder.path(extension);
        std::fs::create_dir(&images).expect("a folder");
        // Without leading zeros, so that 10 has to come after 9.
        folder.make(
            &format!("-i {} {options}", video.display()),
            &format!("{extension}/f%d.{extension}"),
        );
        std::fs::write(images.join("notes.txt"), "not a frame").expect("writable");
        let read = read_all(open(&images, &OpenOptions { image_fps: 12.5 }).expect("readable"))
            .expect("readable");
        assert_eq!(read.len(), 12);
        for (i, (read, expected)) in read.iter().zip(&expected).enumerate() {
            assert!(
                difference(read, expected).0 <= tolerance,
                "{extension}: {:?}",
                difference(read, expected)
            );
            assert_eq!(read.timestamp_us, i as u64 * 80_000);
        }
    }
}

#[test]
fn large_frames_arrive_small() {
    let Some(folder) = Folder::with_ffmpeg() else {
        return;
    };
    for (size, shown, fitted) in [
        ("3840x2160", (3840, 2160), (1280, 720)),
        ("7680x4320", (7680, 4320), (1280, 720)),
        ("1080x1920", (1080, 1920), (720, 1280)),
    ] {
        let path = folder.make(
            &format!("-f lavfi -i testsrc2=s={size}:r=25 -frames:v 2 -c:v mjpeg"),
            "l.avi",
        );
        let read = frames(&path).expect("readable");
        assert_eq!(
            (read.len(), read[0].width, read[0].height),
            (2, fitted.0, fitted.1)
        );
        assert_eq!(read[1].shown, shown);
    }
    // Our own averaging is ffmpeg's area scaling, but for its rounding.
    let path = folder.make(
        "-f lavfi -i testsrc2=s=1920x1200:r=25 -frames:v 1 -pix_fmt gray",
        "l.y4m",
    );
    let own = frames(&path).expect("readable");
    let peer = read_all(Box::new(FfmpegVideo::open(&path).expect("readable"))).expect("readable");
    let (_, mean) = difference(&own[0], &peer[0]);
    assert!(mean < 1.0, "{mean}");
}

#[test]
fn a_rotated_video_is_read_upright() {
    let Some(folder) = Folder::with_ffmpeg() else {
        return;
    };
    let flat = folder.make("-f lavfi -i testsrc=s=96x64:r=25 -frames:v 2", "flat.mp4");
    let turned = folder.make(
        &format!("-i {} -c copy -metadata:s:v rotate=90", flat.display()),
        "turned.mp4",
    );
    let size = |path: &Path| {
        frames(path)
            .map(|all| (all[0].width, all[0].height))
            .expect("readable")
    };
    assert_eq!((size(&flat), size(&turned)), ((96, 64), (64, 96)));
    assert_eq!(frames(&turned).expect("readable")[0].shown, (64, 96));
}

#[test]
fn names_mean_nothing_to_ffmpeg() {
    let Some(folder) = Folder::with_ffmpeg() else {
        return;
    };
    let plain = folder.make("-f lavfi -i testsrc=s=32x32:r=25 -frames:v 3", "plain.mp4");
    for name in [
        "-i.mp4",
        "a|b:c.mp4",
        "100% %d.mp4",
        "umlaut ä 'quote.mp4",
        "clip.txt",
        "clip.png",
        "clip",
    ] {
        std::fs::copy(&plain, folder.path(name)).expect("copied");
        assert_eq!(
            frames(&folder.path(name)).expect("readable").len(),
            3,
            "{name}"
        );
    }
    // One picture, and no pattern for the two beside it.
    folder.make("-f lavfi -i testsrc=s=48x32:r=25 -frames:v 2", "seq%d.png");
    std::fs::copy(folder.path("seq1.png"), folder.path("seq%d.png")).expect("copied");
    assert_eq!(
        frames(&folder.path("seq%d.png")).expect("readable").len(),
        1
    );
}

#[test]
fn sound_is_16_khz_mono_from_anything() {
    let Some(folder) = Folder::with_ffmpeg() else {
        return;
    };
    let sine = "-f lavfi -i sine=frequency=440:sample_rate=16000:duration=1";
    let wav = folder.make(&format!("{sine} -c:a pcm_s16le"), "a.wav");
    let expected = open_sound(&wav)
        .and_then(|mut s| s.read_all(1 << 20))
        .expect("readable");
    assert_eq!(expected.len(), 16_000);
    // 440 rising zero crossings a second, whatever the container.
    let rising = |samples: &[i16]| samples.windows(2).filter(|w| w[0] < 0 && w[1] >= 0).count();
    assert!(rising(&expected).abs_diff(440) <= 1);
    for (options, name) in [
        ("-c:a pcm_s24le", "b.wav"),
        ("-c:a pcm_f32le", "c.wav"),
        ("-c:a pcm_u8", "d.wav"),
        ("-ac 2 -c:a pcm_s16le", "e.wav"),
        ("-ar 44100 -ac 2 -c:a pcm_s16le", "f.wav"),
        ("-c:a flac", "g.mkv"),
    ] {
        let path = folder.make(&format!("{sine} {options}"), name);
        let read = open_sound(&path)
            .and_then(|mut s| s.read_all(1 << 20))
            .expect("readable");
        assert!(read.len().abs_diff(16_000) <= 32, "{name}: {}", read.len());
        assert!(
            rising(&read).abs_diff(440) <= 2,
            "{name}: {}",
            rising(&read)
        );
    }
    let mut floats = std::fs::read(folder.path("c.wav")).expect("readable");
    let at = floats.len() - 400;
    floats[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(folder.path("nan.wav"), floats).expect("writable");
    let error = open_sound(&folder.path("nan.wav")).and_then(|mut s| s.read_all(1 << 20));
    let error = error.expect_err("not a number").to_string();
    assert!(error.contains("a sample is no number"), "{error}");
    let late = folder.make(
        &format!("-f lavfi -i testsrc=s=32x32:d=2 -itsoffset 0.5 {sine} -c:a flac"),
        "late.mkv",
    );
    let read = open_sound(&late)
        .and_then(|mut s| s.read_all(1 << 20))
        .expect("readable");
    assert!(read[..7_900].iter().all(|&s| s == 0), "silence comes first");
    assert!(read[8_100..9_000].iter().any(|&s| s.unsigned_abs() > 1_000));
}

#[test]
fn a_source_can_be_dropped_half_way() {
    let Some(folder) = Folder::with_ffmpeg() else {
        return;
    };
    let path = folder.make("-f lavfi -i testsrc=s=320x240:r=25:d=20", "long.mp4");
    let mut source = FfmpegVideo::open(&path).expect("readable");
    let mut frame = viseme_capture::Frame::default();
    assert!(source.read(&mut frame).expect("a frame"));
    drop(source);
}
