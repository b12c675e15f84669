//! Which face is whose, from one detection to the next, and which one is read.

use viseme_engine::model::yunet::Face;

/// Faces that are followed at once; more are ignored.
const MOST_TRACKS: usize = 16;
/// A face that has moved farther than this, in widths of its box, is another one.
const REACH: f32 = 0.7;
/// Detections in a row without the chosen face after which another one may be chosen.
const PATIENCE: usize = 5;

/// All faces seen so far.
#[derive(Debug, Default)]
pub(crate) struct Faces {
    tracks: Vec<Track>,
    chosen: Option<u32>,
    detections: usize,
    next_id: u32,
    most_at_once: usize,
}

#[derive(Debug)]
struct Track {
    id: u32,
    last: Face,
    hits: usize,
    first_seen: usize,
    last_seen: usize,
    side_sum: f32,
    motion_sum: f32,
}

impl Faces {
    /// Enters the faces of one detection, best first, and returns each with the identity it keeps over time.
    pub fn observe(&mut self, faces: &[Face]) -> Vec<(u32, Face)> {
        let now = self.detections;
        self.detections += 1;
        let named: Vec<(u32, Face)> = faces
            .iter()
            .map(|face| (self.enter(face, now), *face))
            .collect();
        // One stray detection is no face; a second one makes it one. The first detection has nothing to confirm it.
        let confirmed = self
            .tracks
            .iter()
            .filter(|t| t.last_seen == now && (t.hits > 1 || now == 0))
            .count();
        self.most_at_once = self.most_at_once.max(confirmed);
        if self
            .tracks
            .iter()
            .any(|t| Some(t.id) == self.chosen && now >= t.last_seen + PATIENCE)
        {
            self.chosen = None;
        }
        named
    }

    /// The face that is read: the chosen one as long as it is there, else the larger, steadier one of those seen.
    pub fn choose(&mut self) -> Option<u32> {
        if self.chosen.is_none() {
            let now = self.detections;
            let recent = self.tracks.iter().filter(|t| now <= t.last_seen + PATIENCE);
            let best = recent.max_by(|a, b| a.merit(now).total_cmp(&b.merit(now)));
            self.chosen = best.map(|t| t.id);
        }
        self.chosen
    }

    /// Detections entered so far.
    pub fn detections(&self) -> usize {
        self.detections
    }

    /// The most faces that were there at the same time.
    pub fn most_at_once(&self) -> usize {
        self.most_at_once
    }

    fn enter(&mut self, face: &Face, now: usize) -> u32 {
        let near = |t: &&mut Track| t.last_seen < now || t.hits == 0;
        let nearest = self
            .tracks
            .iter_mut()
            .filter(near)
            .map(|t| (distance(&t.last, face), t))
            .filter(|(distance, t)| *distance < REACH && similar(&t.last, face))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((distance, track)) = nearest {
            track.last = *face;
            track.last_seen = now;
            track.hits += 1;
            track.side_sum += side(face);
            track.motion_sum += distance;
            return track.id;
        }
        if self.tracks.len() == MOST_TRACKS {
            let chosen = self.chosen;
            let oldest = (0..self.tracks.len())
                .filter(|&i| Some(self.tracks[i].id) != chosen)
                .min_by_key(|&i| self.tracks[i].last_seen);
            self.tracks.swap_remove(oldest.unwrap_or(0));
        }
        let id = self.next_id;
        self.next_id += 1;
        let track = Track {
            id,
            last: *face,
            hits: 1,
            first_seen: now,
            last_seen: now,
            side_sum: side(face),
            motion_sum: 0.0,
        };
        self.tracks.push(track);
        id
    }
}

impl Track {
    /// Mean size, less for faces that come and go or move about.
    fn merit(&self, now: usize) -> f32 {
        let hits = self.hits as f32;
        let presence = hits / (now - self.first_seen.min(now - 1)) as f32;
        let size = self.side_sum / hits;
        let motion = self.motion_sum / (hits - 1.0).max(1.0);
        size * presence / (1.0 + motion)
    }
}

/// Geometric mean of the box's sides.
fn side(face: &Face) -> f32 {
    (face.w.max(0.0) * face.h.max(0.0)).sqrt()
}

/// Distance of the boxes' centres in box sides of the larger.
fn distance(a: &Face, b: &Face) -> f32 {
    let dx = (a.x + a.w / 2.0) - (b.x + b.w / 2.0);
    let dy = (a.y + a.h / 2.0) - (b.y + b.h / 2.0);
    dx.hypot(dy) / side(a).max(side(b)).max(1.0)
}

fn similar(a: &Face, b: &Face) -> bool {
    let (a, b) = (side(a), side(b));
    a < 2.0 * b && b < 2.0 * a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(x: f32, size: f32) -> Face {
        Face {
            score: 0.9,
            x,
            y: 50.0,
            w: size,
            h: size,
            ..Face::default()
        }
    }

    #[test]
    fn the_larger_of_two_steady_faces_is_read() {
        let mut faces = Faces::default();
        for step in 0..3 {
            faces.observe(&[face(10.0 + step as f32, 60.0), face(200.0, 90.0)]);
        }
        let named = faces.observe(&[face(200.0, 90.0), face(13.0, 60.0)]);
        assert_eq!(faces.choose(), Some(named[0].0));
        assert_eq!(faces.most_at_once(), 2);
    }

    #[test]
    fn a_face_that_comes_and_goes_loses_to_a_steady_one() {
        let mut faces = Faces::default();
        faces.observe(&[face(200.0, 90.0), face(10.0, 70.0)]);
        for _ in 0..2 {
            faces.observe(&[face(10.0, 70.0)]);
        }
        assert_eq!(faces.choose(), Some(1));
    }

    #[test]
    fn the_choice_is_kept_until_the_face_is_gone() {
        let mut faces = Faces::default();
        let first = faces.observe(&[face(10.0, 60.0)])[0].0;
        assert_eq!(faces.choose(), Some(first));
        for _ in 0..4 {
            faces.observe(&[face(200.0, 120.0), face(10.0, 60.0)]);
            assert_eq!(faces.choose(), Some(first));
        }
        for _ in 0..PATIENCE {
            faces.observe(&[face(200.0, 120.0)]);
        }
        assert_ne!(faces.choose(), Some(first));
    }

    #[test]
    fn a_single_stray_detection_is_not_counted() {
        let mut faces = Faces::default();
        faces.observe(&[face(10.0, 60.0)]);
        faces.observe(&[face(10.0, 60.0), face(300.0, 20.0)]);
        faces.observe(&[face(10.0, 60.0)]);
        assert_eq!(faces.most_at_once(), 1);
        assert_eq!(faces.detections(), 3);
    }

    #[test]
    fn memory_is_bounded() {
        let mut faces = Faces::default();
        for i in 0..1000 {
            faces.observe(&[face(i as f32 * 1000.0, 50.0)]);
            faces.choose();
        }
        assert!(faces.tracks.len() <= MOST_TRACKS);
    }
}
