//! Prefix beam search, constrained by an acceptor.

use alloc::vec::Vec;
use core::cmp::Ordering;

use super::{BLANK, Lookahead, log_add};
use crate::decode::graph::{Arc, NONE, TokenGraph};

/// The widest beam.
pub const MAX_BEAM: usize = 4096;

/// A token sequence found by the search.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// Its tokens, without blanks.
    pub tokens: Vec<u32>,
    /// Log of the summed probability of its paths that the search followed.
    pub score: f32,
    /// Whether the acceptor takes the sequence as it stands.
    pub complete: bool,
}

/// The `count` best complete sequences of `graph`, best first, for log-probabilities `[T][V]`; empty
/// when none fits in T frames.
///
/// The beam is ranked with [`Lookahead`], or, where that would take too much memory or there is
/// nothing to look for, as [`Outlook::Left`]. Either way any beam finds a complete sequence if there
/// is one.
///
/// # Panics
/// When `vocab_size` is less than the acceptor's.
pub fn prefix_beam(
    log_probs: &[f32],
    vocab_size: usize,
    graph: &TokenGraph,
    width: usize,
    count: usize,
) -> Vec<Hypothesis> {
    let mut search = PrefixBeam::new(graph, width);
    let constrained = graph.states() > 1;
    let lookahead = constrained
        .then(|| Lookahead::new(log_probs, vocab_size, graph))
        .flatten();
    let frames = log_probs.len() / vocab_size;
    for (frame, row) in log_probs.chunks_exact(vocab_size).enumerate() {
        search.step(
            row,
            match &lookahead {
                Some(lookahead) => Outlook::Known {
                    lookahead,
                    frames: frame + 1,
                },
                None => Outlook::Left(frames - frame - 1),
            },
        );
    }
    search
        .hypotheses()
        .filter(|h| h.complete)
        .take(count)
        .collect()
}

/// What is known of the frames after a step.
#[derive(Clone, Copy, Debug)]
pub enum Outlook<'l> {
    /// Nothing: prefixes are ranked by their probability.
    Open,
    /// How many there are: prefixes that cannot be completed in them are dropped.
    Left(usize),
    /// Their log-probabilities: prefixes are ranked by their probability and the best completion.
    Known {
        /// Made of all frames.
        lookahead: &'l Lookahead,
        /// How many frames there are up to now.
        frames: usize,
    },
}

/// The running search: the `width` best prefixes after the frames seen so far.
///
/// Prefix beam search as in Hannun et al., "First-Pass Large Vocabulary Continuous Speech
/// Recognition using Bi-Directional Recurrent DNNs" (arXiv:1408.2873, 2014), after Graves, "Sequence
/// Transduction with Recurrent Neural Networks" (arXiv:1211.3711, 2012): a prefix carries the summed
/// probability of its paths that end in a blank and of those that end in its last token. In place of
/// the language model stands the acceptor, whose state is a function of the prefix.
///
/// Best first is by what [`Outlook`] says.
#[derive(Clone, Debug)]
pub struct PrefixBeam<'g> {
    graph: &'g TokenGraph,
    width: usize,
    /// The tree of all prefixes that ever were in the beam; a prefix is one node for good, which is
    /// what makes "the same prefix" a comparison of two numbers.
    nodes: Vec<Node>,
    /// Best first; scores are relative to `offset`.
    beam: Vec<Entry>,
    /// Log-probability taken out of the scores so far. They stay near 0, where f32 is precise.
    offset: f64,
    /// Pairs (index of the parent in the beam, token) of prefixes that are in the beam themselves.
    inside: Vec<(u32, u32)>,
    candidates: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// The arc that led here, by its number; `NONE` for the empty prefix.
    arc: u32,
    token: u32,
    state: u32,
    parent: u32,
    first_child: u32,
    next_sibling: u32,
    /// Index in the beam, or `NONE`.
    entry: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    node: u32,
    /// Log-probability of the paths that end in a blank.
    blank: f32,
    /// ... in the prefix's last token.
    label: f32,
    /// ... in either.
    total: f32,
}

/// A prefix of the beam (`token` is blank) or one token longer.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    from: u32,
    arc: u32,
    token: u32,
    blank: f32,
    label: f32,
    total: f32,
    /// What it is ranked by.
    rank: f32,
}

const NEVER: f32 = f32::NEG_INFINITY;

impl<'g> PrefixBeam<'g> {
    /// Starts with the empty prefix. A `width` of 0 is taken as 1, one above [`MAX_BEAM`] as that.
    pub fn new(graph: &'g TokenGraph, width: usize) -> Self {
        let root = Node {
            arc: NONE,
            token: BLANK,
            state: graph.start(),
            parent: NONE,
            first_child: NONE,
            next_sibling: NONE,
            entry: NONE,
        };
        PrefixBeam {
            graph,
            width: width.clamp(1, MAX_BEAM),
            nodes: alloc::vec![root],
            beam: alloc::vec![Entry {
                node: 0,
                blank: 0.0,
                label: NEVER,
                total: 0.0
            }],
            offset: 0.0,
            inside: Vec::new(),
            candidates: Vec::new(),
        }
    }

    /// Takes the log-probabilities `[V]` of one more frame.
    ///
    /// # Panics
    /// When `row` has fewer values than the acceptor has tokens, or the look-ahead is another
    /// acceptor's or of fewer frames.
    pub fn step(&mut self, row: &[f32], outlook: Outlook<'_>) {
        assert!(
            row.len() >= self.graph.vocab_size(),
            "a log-probability for each token"
        );
        for (index, entry) in self.beam.iter().enumerate() {
            self.nodes[entry.node as usize].entry = index as u32;
        }
        let kept = core::mem::take(&mut self.candidates);
        let mut top = Top {
            width: self.width,
            bound: NEVER,
            kept,
        };
        top.kept.clear();
        self.stay(row, outlook, &mut top);
        self.extend(row, outlook, &mut top);
        self.candidates = top.finish();
        self.advance();
    }

    /// Offers the prefixes of the beam themselves, after one more frame.
    fn stay(&mut self, row: &[f32], outlook: Outlook<'_>, top: &mut Top) {
        self.inside.clear();
        for (index, entry) in self.beam.iter().enumerate() {
            let node = self.nodes[entry.node as usize];
            let blank = entry.total + row[BLANK as usize];
            let mut label = NEVER;
            if node.parent != NONE {
                label = entry.label + row[node.token as usize];
                let parent = self.nodes[node.parent as usize];
                if parent.entry != NONE {
                    let from = self.beam[parent.entry as usize].before(node.token, parent.token);
                    label = log_add(label, from + row[node.token as usize]);
                    self.inside.push((parent.entry, node.token));
                }
            }
            let total = log_add(blank, label);
            let rank = match outlook {
                Outlook::Open => total,
                // It has paths that end in a blank, so that any token may follow at once.
                Outlook::Left(left) => self.if_fits(total, node.state, BLANK, left),
                Outlook::Known { lookahead, frames } => {
                    let blank = blank + lookahead.of(frames, node.state);
                    match node.arc {
                        NONE => blank,
                        arc => log_add(blank, label + lookahead.in_token(frames, arc)),
                    }
                }
            };
            let (from, arc) = (index as u32, NONE);
            top.offer(Candidate {
                from,
                arc,
                token: BLANK,
                blank,
                label,
                total,
                rank,
            });
        }
        self.inside.sort_unstable();
    }

    /// Offers the prefixes that are one token longer than those of the beam, and not in it.
    fn extend(&self, row: &[f32], outlook: Outlook<'_>, top: &mut Top) {
        for (from, entry) in (0..).zip(&self.beam) {
            let node = self.nodes[entry.node as usize];
            let inside = &self.inside[self.inside.partition_point(|&(parent, _)| parent < from)..];
            let inside = &inside[..inside.partition_point(|&(parent, _)| parent == from)];
            for (arc, Arc { token, to }) in self.graph.numbered_arcs(node.state) {
                let label = entry.before(token, node.token) + row[token as usize];
                let rank = match outlook {
                    Outlook::Open => label,
                    Outlook::Left(_) if label < top.bound => continue,
                    Outlook::Left(left) => self.if_fits(label, to, token, left),
                    Outlook::Known { lookahead, frames } => label + lookahead.in_token(frames, arc),
                };
                if rank >= top.bound && !inside.contains(&(from, token)) {
                    top.offer(Candidate {
                        from,
                        arc,
                        token,
                        blank: NEVER,
                        label,
                        total: label,
                        rank,
                    });
                }
            }
        }
    }

    fn if_fits(&self, score: f32, state: u32, last: u32, left: usize) -> f32 {
        let needed = self.graph.frames_needed(state, last);
        if needed.is_some_and(|needed| needed <= left) {
            score
        } else {
            NEVER
        }
    }

    /// The prefixes of the beam, best first, complete or not.
    pub fn hypotheses(&self) -> impl Iterator<Item = Hypothesis> {
        self.beam.iter().map(|entry| Hypothesis {
            tokens: self.tokens(entry.node),
            score: (self.offset + f64::from(entry.total)) as f32,
            complete: self.graph.accepts_at(self.nodes[entry.node as usize].state),
        })
    }

    /// Makes the chosen candidates the beam.
    fn advance(&mut self) {
        for entry in &self.beam {
            self.nodes[entry.node as usize].entry = NONE;
        }
        let best = self.candidates.first().map_or(0.0, |c| c.total);
        self.offset += f64::from(best);
        let candidates = core::mem::take(&mut self.candidates);
        let before = core::mem::take(&mut self.beam);
        self.beam = candidates
            .iter()
            .map(|c| {
                let from = before[c.from as usize].node;
                let node = if c.token == BLANK {
                    from
                } else {
                    self.child(from, c.arc)
                };
                Entry {
                    node,
                    blank: c.blank - best,
                    label: c.label - best,
                    total: c.total - best,
                }
            })
            .collect();
        self.candidates = candidates;
    }

    /// The node after `parent` by this arc, made if it is new.
    fn child(&mut self, parent: u32, arc: u32) -> u32 {
        let mut child = self.nodes[parent as usize].first_child;
        while child != NONE {
            let node = &self.nodes[child as usize];
            if node.arc == arc {
                return child;
            }
            child = node.next_sibling;
        }
        let child = self.nodes.len() as u32;
        let Arc { token, to: state } = self.graph.all_arcs()[arc as usize];
        let next_sibling = self.nodes[parent as usize].first_child;
        self.nodes.push(Node {
            arc,
            token,
            state,
            parent,
            first_child: NONE,
            next_sibling,
            entry: NONE,
        });
        self.nodes[parent as usize].first_child = child;
        child
    }

    fn tokens(&self, mut node: u32) -> Vec<u32> {
        let mut tokens = Vec::new();
        while self.nodes[node as usize].parent != NONE {
            tokens.push(self.nodes[node as usize].token);
            node = self.nodes[node as usize].parent;
        }
        tokens.reverse();
        tokens
    }
}

impl Entry {
    /// Log-probability of the paths that `token` may follow as a new token: after the same token
    /// only those that end in a blank.
    fn before(&self, token: u32, last: u32) -> f32 {
        if token == last {
            self.blank
        } else {
            self.total
        }
    }
}

/// Keeps the `width` best candidates in memory for twice as many.
struct Top {
    width: usize,
    /// Nothing ranked below this can be among the best.
    bound: f32,
    kept: Vec<Candidate>,
}

impl Top {
    /// Takes a candidate, unless it has no probability or no future.
    fn offer(&mut self, candidate: Candidate) {
        if candidate.rank == NEVER {
            return;
        }
        self.kept.push(candidate);
        if self.kept.len() >= 2 * self.width + 16 {
            self.kept.select_nth_unstable_by(self.width - 1, best_first);
            self.kept.truncate(self.width);
            self.bound = self.kept[self.width - 1].rank;
        }
    }

    fn finish(mut self) -> Vec<Candidate> {
        self.kept.sort_unstable_by(best_first);
        self.kept.truncate(self.width);
        self.kept
    }
}

/// A total order, so that equal ranks give the same beam everywhere.
fn best_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.rank
        .total_cmp(&a.rank)
        .then(a.from.cmp(&b.from))
        .then(a.token.cmp(&b.token))
}
