//! What phonetics says about lips, jaw and voice must show in plans, pixels and samples.

use viseme_synth::{CROP, Clip, Mouth, Options, Phoneme, Plan, SAMPLE_RATE, Speaker, render};

const SPEAKERS: u64 = 40;

/// The mouth in the middle of every `phoneme` of `text`, over many speakers.
fn mouths(text: &str, phoneme: Phoneme) -> Vec<Mouth> {
    let mut found = Vec::new();
    for i in 0..SPEAKERS {
        let plan = Plan::new(text, &Speaker::train(i), i, Options::default());
        for segment in &plan.timeline.segments {
            if segment.phoneme == phoneme {
                found.push(plan.mouth_at(0.5 * (segment.start + segment.end)));
            }
        }
    }
    assert!(!found.is_empty(), "{phoneme} does not occur in {text}");
    found
}

fn mean(mouths: &[Mouth], value: impl Fn(&Mouth) -> f32) -> f32 {
    mouths.iter().map(value).sum::<f32>() / mouths.len() as f32
}

#[test]
fn lips_meet_for_p_b_and_m() {
    let text = "my baby may put paper in the lamp";
    for phoneme in [Phoneme::P, Phoneme::B, Phoneme::M] {
        for mouth in mouths(text, phoneme) {
            assert!(mouth.opening() < 0.02, "{phoneme}: {mouth:?}");
        }
    }
    for phoneme in [Phoneme::N, Phoneme::Ey, Phoneme::Ae] {
        let open = mean(&mouths(text, phoneme), Mouth::opening);
        assert!(open > 0.12, "{phoneme}: {open}");
    }
}

#[test]
fn lips_round_for_oo_and_w_and_spread_for_ee() {
    let oo = mouths("two blue", Phoneme::Uw);
    let w = mouths("we will wait", Phoneme::W);
    let ee = mouths("three green please", Phoneme::Iy);
    for rounded in [&oo, &w] {
        assert!(mean(rounded, |m| m.round) > 0.55);
        assert!(mean(rounded, |m| m.spread) < -0.35);
    }
    assert!(mean(&ee, |m| m.round) < 0.1);
    assert!(mean(&ee, |m| m.spread) > 0.4);
}

#[test]
fn jaw_drops_for_aa_and_not_for_s() {
    let aa = mean(&mouths("father far", Phoneme::Aa), |m| m.jaw);
    let ee = mean(&mouths("green tea", Phoneme::Iy), |m| m.jaw);
    let s = mean(&mouths("see six", Phoneme::S), |m| m.jaw);
    assert!(aa > 0.55, "{aa}");
    assert!(aa > 2.0 * ee, "{aa} {ee}");
    assert!(s < 0.2, "{s}");
}

#[test]
fn lower_lip_meets_teeth_for_f_and_tongue_shows_for_th() {
    assert!(mean(&mouths("five four", Phoneme::F), |m| m.tuck) > 0.9);
    assert!(mean(&mouths("three things", Phoneme::Th), |m| m.tip) > 0.8);
    assert!(mean(&mouths("bin", Phoneme::B), |m| m.tuck) < 0.1);
}

/// Pixels clearly darker than the face around them, in the middle of the crop.
fn dark_pixels(frame: &[u8; CROP * CROP]) -> usize {
    let mut sorted = frame.to_vec();
    sorted.sort_unstable();
    let limit = f32::from(sorted[sorted.len() / 2]) * 0.62;
    let mut count = 0;
    for row in 40..75 {
        for pixel in &frame[row * CROP + 30..row * CROP + 66] {
            count += usize::from(f32::from(*pixel) < limit);
        }
    }
    count
}

#[test]
fn an_open_mouth_is_dark_and_a_shut_one_is_not() {
    let (mut open, mut shut) = (0, 0);
    for i in 0..SPEAKERS {
        let (speaker, options) = (Speaker::train(i), Options::default());
        let plan = Plan::new("mama are", &speaker, i, options);
        let clip = render("mama are", &speaker, i, options);
        for segment in &plan.timeline.segments {
            let middle = 0.5 * (segment.start + segment.end);
            let frame = &clip.frames[(middle * clip.fps) as usize];
            match segment.phoneme {
                Phoneme::Aa => open += dark_pixels(frame),
                Phoneme::M => shut += dark_pixels(frame),
                _ => {}
            }
        }
    }
    assert!(open > 3 * shut, "open {open}, shut {shut}");
}

#[test]
fn words_are_in_order_and_in_range() {
    for i in 0..8 {
        for text in [
            "bin blue at f two now",
            "hello",
            "the lips close and open again",
        ] {
            let clip = render(text, &Speaker::unseen(i), i, Options::default());
            assert_eq!(clip.text(), text);
            assert_eq!(clip.frames.len(), (clip.seconds * 25.0 + 0.5) as usize);
            assert_eq!(clip.audio.len(), clip.frames.len() * 640);
            let mut now = 0.1;
            for (start, end, word) in &clip.words {
                assert!(*start >= now && end > start, "{word} in {:?}", clip.words);
                now = *end;
            }
            assert!(now < clip.seconds, "{now} {}", clip.seconds);
        }
    }
    let silent = render("…", &Speaker::train(1), 1, Options::default());
    assert_eq!((silent.frames.len(), silent.words.len()), (75, 0));
    assert!(silent.audio.iter().all(|s| s.unsigned_abs() < 1000));
}

/// Pitch between 60 and 330 Hz by normalised autocorrelation, and how periodic the samples
/// are. Every multiple of the period correlates too, so the first peak that comes near the
/// highest one counts.
fn pitch(samples: &[i16]) -> (f32, f64) {
    let x: Vec<f64> = samples.iter().map(|s| f64::from(*s)).collect();
    let n = x.len() / 2;
    let energy = |from: usize| x[from..from + n].iter().map(|v| v * v).sum::<f64>();
    let shortest = SAMPLE_RATE as usize / 330;
    let correlations: Vec<f64> = (shortest..=SAMPLE_RATE as usize / 60)
        .map(|lag| {
            let product: f64 = (0..n).map(|i| x[i] * x[i + lag]).sum();
            product / (energy(0) * energy(lag)).sqrt().max(1.0)
        })
        .collect();
    let highest = correlations.iter().copied().fold(0.0, f64::max);
    let peak = correlations
        .windows(3)
        .position(|r| r[1] > 0.9 * highest && r[1] >= r[0] && r[1] >= r[2])
        .expect("some lag is the best");
    (SAMPLE_RATE as f32 / (shortest + peak + 1) as f32, highest)
}

#[test]
fn voiced_sounds_have_the_speakers_pitch() {
    for i in 0..SPEAKERS {
        let speaker = Speaker::train(i);
        let options = Options::default();
        let clip = render("now are you far", &speaker, i, options);
        let plan = Plan::new("now are you far", &speaker, i, options);
        let (mut sum, mut n) = (0.0, 0.0);
        for segment in &plan.timeline.segments {
            if matches!(segment.phoneme, Phoneme::Aa | Phoneme::Aw) {
                // 50 ms, short enough for a pitch that moves.
                let middle = 0.5 * (segment.start + segment.end);
                let at = (middle * SAMPLE_RATE as f32) as usize;
                let window = &clip.audio[at - 400..at + 400];
                let (hz, height) = pitch(window);
                assert!(height > 0.7, "speaker {i}: periodicity {height}");
                sum += hz;
                n += 1.0;
            }
        }
        let ratio = sum / n / speaker.f0_hz();
        assert!((0.85..1.15).contains(&ratio), "speaker {i}: {ratio}");
    }
}

#[test]
fn hisses_cross_zero_more_often_than_vowels() {
    let crossings = |clip: &Clip, from: f32, to: f32| {
        let at = |t: f32| (t * SAMPLE_RATE as f32) as usize;
        let window = &clip.audio[at(from)..at(to)];
        let count = window
            .windows(2)
            .filter(|w| (w[0] < 0) != (w[1] < 0))
            .count();
        count as f32 / (to - from)
    };
    for i in 0..SPEAKERS {
        let (speaker, options) = (Speaker::train(i), Options::default());
        let clip = render("see far", &speaker, i, options);
        let plan = Plan::new("see far", &speaker, i, options);
        let segment = |p: Phoneme| {
            let found = plan.timeline.segments.iter().find(|s| s.phoneme == p);
            *found.expect("the phoneme is in the text")
        };
        let (s, aa) = (segment(Phoneme::S), segment(Phoneme::Aa));
        let hiss = crossings(&clip, s.start, s.end);
        let vowel = crossings(&clip, aa.start, aa.end);
        assert!(hiss > 4000.0 && hiss > 1.8 * vowel, "{i}: {hiss} {vowel}");
    }
}

/// FNV-1a, 64 bits.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The same bits on every machine and in every build. When the look changes on purpose,
/// put the new values here and say so in the change log: trained models depend on it.
#[test]
fn a_clip_is_the_same_everywhere() {
    let clip = render(
        "bin blue at f two now",
        &Speaker::unseen(3),
        11,
        Options::default(),
    );
    let frames = fnv(clip.frames.iter().flatten().copied());
    let audio = fnv(clip.audio.iter().flat_map(|s| s.to_le_bytes()));
    assert_eq!(
        (frames, audio),
        (0xf26f_05ca_d2b1_8b24, 0x5740_3a4d_8d83_0328),
        "{frames:#018x} {audio:#018x}"
    );
}
