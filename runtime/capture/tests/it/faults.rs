//! Bad input: each fault has its own line that says what it is.

use std::fs;
use std::path::Path;

use viseme_capture::Frame;
use viseme_capture::source::{OpenOptions, open, open_sound};

use crate::common::{Folder, frames, read_all};

fn assert_says(path: &Path, words: &str) {
    let error = frames(path).expect_err("a fault").to_string();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    assert!(
        error.contains(words) && error.contains(&*name),
        "{name}: {error}"
    );
    assert!(
        !error.contains('\n') && error.contains(';'),
        "one line with a way out: {error}"
    );
}

#[test]
fn files_that_are_no_videos() {
    let Some(folder) = Folder::with_ffmpeg() else {
        return;
    };
    assert_says(&folder.path("gone.mp4"), "no such file");
    let empty = folder.path("empty.mp4");
    fs::write(&empty, "").expect("writable");
    assert_says(&empty, "0 bytes");
    let text = folder.path("text.mp4");
    fs::write(&text, "these are words, not pictures").expect("writable");
    assert_says(&text, "not a readable video");
    let bare = folder.path("bare");
    fs::create_dir(&bare).expect("a folder");
    assert_says(&bare, "without PNG, JPEG or PGM images");
    #[cfg(unix)]
    assert!(
        frames(Path::new("/dev/null"))
            .expect_err("a device")
            .to_string()
            .contains("neither a file nor a folder")
    );
}

#[cfg(unix)]
#[test]
fn files_that_may_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let Some(folder) = Folder::with_ffmpeg() else {
        return;
    };
    let path = folder.make("-f lavfi -i testsrc=s=32x32:d=0.2", "secret.mp4");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).expect("changed");
    if fs::File::open(&path).is_ok() {
        return println!("skipped: this user may read everything");
    }
    assert_says(&path, "cannot be read");
}

#[test]
fn files_that_lead_elsewhere() {
    let Some(folder) = Folder::with_ffmpeg() else {
        return;
    };
    folder.make("-f lavfi -i testsrc=s=32x32:d=0.2", "clip.ts");
    // A list without an end is waited for; a list may name a pipe, or a place in the network.
    for (name, text, format) in [
        (
            "live.m3u8",
            "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.ts\n",
            "hls",
        ),
        (
            "list.ffconcat",
            "ffconcat version 1.0\nfile clip.ts\n",
            "concat",
        ),
        (
            "call.sdp",
            "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
            "sdp",
        ),
        ("list.mp4", "ffconcat version 1.0\nfile clip.ts\n", "concat"),
    ] {
        let path = folder.path(name);
        fs::write(&path, text).expect("writable");
        assert_says(
            &path,
            &format!("another format that is not read ({format})"),
        );
        let error = open_sound(&path)
            .and_then(|mut s| s.read_all(100))
            .expect_err("no sound");
        assert!(error.to_string().contains(format), "{error}");
    }
    // ffmpeg would draw it as a film of letters.
    let notes = folder.path("notes.txt");
    fs::write(&notes, "these are words\n".repeat(100)).expect("writable");
    assert_says(&notes, "not a readable video");
}

#[test]
fn streams_that_are_missing() {
    let Some(folder) = Folder::with_ffmpeg() else {
        return;
    };
    let sound = folder.make("-f lavfi -i sine=d=0.5 -c:a aac", "sound.m4a");
    assert_says(&sound, "sound but no picture");
    let cover = "-f lavfi -i sine=d=0.5 -f lavfi -i testsrc=s=32x32:d=0.04 -map 0 -map 1 -c:v png";
    let music = folder.make(&format!("{cover} -disposition:v attached_pic"), "music.mp3");
    assert_says(&music, "sound but no picture");
    let nothing = folder.make("-f lavfi -i testsrc=s=32x32 -frames:v 0", "nothing.mp4");
    assert_says(&nothing, "without a single frame");
    let silent = folder.make("-f lavfi -i testsrc=s=32x32:d=0.2", "silent.mp4");
    let error = open_sound(&silent)
        .and_then(|mut s| s.read_all(100))
        .expect_err("no sound");
    assert!(error.to_string().contains("no sound"), "{error}");
}

#[test]
fn files_that_are_cut_off() {
    let Some(folder) = Folder::with_ffmpeg() else {
        return;
    };
    // Noise does not compress, so that each frame takes its share of the file.
    let noise = "-f lavfi -i nullsrc=s=160x120:r=25:d=2,geq=random(1)*255:128:128";
    for (options, name) in [
        ("-c:v libx264 -movflags +faststart", "a.mp4"),
        ("-c:v libx264", "b.mkv"),
        ("-c:v mpeg4", "c.avi"),
        ("-c:v mpeg1video", "d.mpg"),
    ] {
        let whole = folder.make(&format!("{noise} {options}"), name);
        assert_eq!(frames(&whole).expect("readable").len(), 50, "{name}");
        let bytes = fs::metadata(&whole).expect("there").len() as usize;
        // In the middle of a packet: a cut exactly between two packets leaves a shorter, sound file.
        assert_says(
            &folder.cut(&whole, bytes / 2 + 333, &format!("cut-{name}")),
            "cut off after",
        );
    }
    let late_index = folder.make(&format!("{noise} -c:v libx264"), "e.mp4");
    assert_says(
        &folder.cut(&late_index, 50_000, "cut-e.mp4"),
        "cut off before its index",
    );
    let raw = folder.make(&format!("{noise} -pix_fmt yuv420p"), "f.y4m");
    assert_says(
        &folder.cut(&raw, 100_000, "cut-f.y4m"),
        "cut off after 3 frames",
    );
}

/// Reads the file to its end: how many frames, and what was wrong with them.
fn damage(path: &Path) -> (usize, Option<String>) {
    let mut source = open(path, &OpenOptions::default()).expect("readable");
    let (mut frame, mut count) = (Frame::default(), 0);
    while source.read(&mut frame).expect("no fault that ends it") {
        count += 1;
    }
    (count, source.damage().map(Into::into))
}

#[test]
fn damage_is_remarked_upon() {
    let Some(folder) = Folder::with_ffmpeg() else {
        return;
    };
    // Noise makes packets so large that damage lies in one, and not in what holds them together.
    let noise = "-f lavfi -i nullsrc=s=160x120:r=25:d=2,geq=random(1)*255:128:128";
    for (options, name) in [
        ("-c:v libx264", "a.mp4"),
        ("-c:v libx264", "b.mkv"),
        ("-c:v mpeg4", "c.avi"),
        ("-c:v mpeg1video", "d.mpg"),
        ("-c:v mpeg2video", "e.ts"),
        ("", "f.gif"),
    ] {
        let whole = folder.make(&format!("{noise} {options}"), name);
        assert_eq!(damage(&whole), (50, None), "{name}");
        let mut bytes = fs::read(&whole).expect("readable");
        // In several places: spoilt bytes of H.264 may happen to decode.
        for part in 3..9 {
            let at = bytes.len() * part / 10;
            bytes[at..at + 100].fill(0x55);
        }
        let damaged = folder.path(&format!("damaged-{name}"));
        fs::write(&damaged, bytes).expect("writable");
        let (frames, remark) = damage(&damaged);
        assert!(remark.is_some() && frames > 0, "{name}: {frames} frames");
    }
    for (name, words) in [("e.ts", "damaged"), ("f.gif", "no end")] {
        let whole = folder.path(name);
        let bytes = fs::metadata(&whole).expect("there").len() as usize;
        let cut = folder.cut(&whole, bytes / 2 + 333, &format!("cut-{name}"));
        let (frames, remark) = damage(&cut);
        assert!(
            frames < 45 && remark.is_some_and(|r| r.contains(words)),
            "{name}"
        );
    }
}

#[test]
fn images_that_do_not_fit() {
    let Some(folder) = Folder::with_ffmpeg() else {
        return;
    };
    let images = folder.path("images");
    fs::create_dir(&images).expect("a folder");
    folder.make("-f lavfi -i testsrc=s=64x48 -frames:v 2", "images/%d.png");
    folder.make("-f lavfi -i testsrc=s=32x48 -frames:v 1", "images/3.png");
    let read = || open(&images, &OpenOptions::default()).and_then(read_all);
    let error = read().expect_err("two sizes").to_string();
    assert!(
        error.contains("32x48") && error.contains("64x48"),
        "{error}"
    );
    folder.cut(&folder.path("images/1.png"), 100, "images/3.png");
    let error = read().expect_err("half an image").to_string();
    assert!(error.contains("3.png: not a readable image"), "{error}");
    // A header that promises 4 billion pixels must not be believed.
    fs::write(images.join("3.pgm"), "P5 65535 65535 255\nxx").expect("writable");
    fs::remove_file(images.join("3.png")).expect("removed");
    assert!(
        read()
            .expect_err("a huge image")
            .to_string()
            .contains("not a readable image")
    );
    for fps in [0.0, -1.0, f64::NAN, 1e9] {
        let error = open(&images, &OpenOptions { image_fps: fps })
            .err()
            .expect("no rate");
        assert!(error.to_string().contains("not a rate"), "{error}");
    }
}
