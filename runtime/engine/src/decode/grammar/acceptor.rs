//! Syntax tree to a finite-state acceptor over words.

use alloc::vec;
use alloc::vec::Vec;

use super::error::{GrammarError, GrammarErrorKind};
use super::parse::{Node, Tree};

/// Most states and arcs after expanding the rules.
const MAX_STATES: usize = 1 << 16;
const MAX_ARCS: usize = 1 << 18;
/// Deepest nesting of expressions: the recursion of [`Builder::add`].
const MAX_DEPTH: usize = 256;

/// A non-deterministic acceptor with ε-arcs. Sentences are the paths from state [`START`] to
/// [`ACCEPT`]; each state lies on one.
///
/// Built as Thompson, "Regular Expression Search Algorithm" (1968), except that an expression is put
/// between two given states, so that alternatives share both: a list of n words is n arcs.
#[derive(Clone, Debug)]
pub(in crate::decode) struct Acceptor {
    states: u32,
    /// Sorted.
    arcs: Vec<Arc>,
    /// From, to; sorted.
    empty_arcs: Vec<(u32, u32)>,
}

/// From a state, by a word, to a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::decode) struct Arc {
    pub(in crate::decode) from: u32,
    pub(in crate::decode) word: u32,
    pub(in crate::decode) to: u32,
}

pub(in crate::decode) const START: u32 = 0;
pub(in crate::decode) const ACCEPT: u32 = 1;

impl Acceptor {
    pub(super) fn build(tree: &Tree) -> Result<Self, GrammarError> {
        let acceptor = Acceptor {
            states: 2,
            arcs: Vec::new(),
            empty_arcs: Vec::new(),
        };
        let mut builder = Builder {
            tree,
            acceptor,
            inside: Vec::new(),
            depth: 0,
            line: 0,
        };
        builder.add(tree.sentence, START, ACCEPT)?;
        let mut acceptor = builder.acceptor;
        acceptor.arcs.sort_unstable();
        acceptor.arcs.dedup();
        acceptor.empty_arcs.sort_unstable();
        acceptor.empty_arcs.dedup();
        Ok(acceptor)
    }

    pub(in crate::decode) fn states(&self) -> usize {
        self.states as usize
    }

    /// The arcs out of a state, in the order of words and then of states.
    pub(in crate::decode) fn arcs(&self, state: u32) -> &[Arc] {
        range(&self.arcs, |arc| arc.from, state)
    }

    /// Adds to `states` all that ε-arcs lead to, and sorts it. `marked` holds false for each state of
    /// the acceptor, before and after.
    pub(in crate::decode) fn close(&self, states: &mut Vec<u32>, marked: &mut [bool]) {
        states.retain(|&state| !core::mem::replace(&mut marked[state as usize], true));
        let mut index = 0;
        while let Some(&state) = states.get(index) {
            for &(_, to) in range(&self.empty_arcs, |arc| arc.0, state) {
                if !core::mem::replace(&mut marked[to as usize], true) {
                    states.push(to);
                }
            }
            index += 1;
        }
        for &state in states.iter() {
            marked[state as usize] = false;
        }
        states.sort_unstable();
    }

    pub(super) fn accepts(&self, sentence: &[u32]) -> bool {
        let mut marked = vec![false; self.states()];
        let mut states = vec![START];
        self.close(&mut states, &mut marked);
        for &word in sentence {
            let arcs = states.iter().flat_map(|&state| self.arcs(state));
            states = arcs
                .filter(|arc| arc.word == word)
                .map(|arc| arc.to)
                .collect();
            self.close(&mut states, &mut marked);
        }
        states.contains(&ACCEPT)
    }
}

/// The part of a slice, sorted by `key`, where it is `wanted`.
fn range<T>(sorted: &[T], key: impl Fn(&T) -> u32, wanted: u32) -> &[T] {
    let rest = &sorted[sorted.partition_point(|item| key(item) < wanted)..];
    &rest[..rest.partition_point(|item| key(item) == wanted)]
}

struct Builder<'t> {
    tree: &'t Tree,
    acceptor: Acceptor,
    /// The rules being expanded, outermost first.
    inside: Vec<usize>,
    depth: usize,
    /// Where the innermost of the rules is used.
    line: u32,
}

impl Builder<'_> {
    /// Adds paths from `from` to `to` for all that a node stands for. No other paths arise: unless
    /// the two are one state, nothing is added that leads into `from` or out of `to`.
    fn add(&mut self, node: usize, from: u32, to: u32) -> Result<(), GrammarError> {
        if self.depth == MAX_DEPTH {
            return Err(GrammarErrorKind::TooDeep.at(self.line));
        }
        self.depth += 1;
        self.add_paths(node, from, to)?;
        self.depth -= 1;
        Ok(())
    }

    fn add_paths(&mut self, node: usize, from: u32, to: u32) -> Result<(), GrammarError> {
        let tree = self.tree;
        match &tree.nodes[node] {
            Node::Word(word) => {
                self.acceptor.arcs.push(Arc {
                    from,
                    word: *word,
                    to,
                });
                self.check_size()
            }
            Node::Rule { rule, line } => {
                if self.inside.contains(rule) {
                    let name = tree.rules[*rule].name.clone();
                    return Err(GrammarErrorKind::Recursive(name).at(*line));
                }
                self.inside.push(*rule);
                let outer = core::mem::replace(&mut self.line, *line);
                self.add(tree.rules[*rule].body, from, to)?;
                self.line = outer;
                self.inside.pop();
                Ok(())
            }
            Node::Choice(parts) => parts.iter().try_for_each(|&part| self.add(part, from, to)),
            Node::Sequence(parts) => {
                let mut before = from;
                for (index, &part) in parts.iter().enumerate() {
                    let after = if index + 1 == parts.len() {
                        to
                    } else {
                        self.state()?
                    };
                    self.add(part, before, after)?;
                    before = after;
                }
                Ok(())
            }
            Node::Optional(part) => {
                self.empty(from, to)?;
                self.add(*part, from, to)
            }
            Node::Star(part) => {
                let hub = self.state()?;
                self.empty(from, hub)?;
                self.add(*part, hub, hub)?;
                self.empty(hub, to)
            }
            Node::Plus(part) => {
                let (begin, end) = (self.state()?, self.state()?);
                self.empty(from, begin)?;
                self.add(*part, begin, end)?;
                self.empty(end, begin)?;
                self.empty(end, to)
            }
        }
    }

    fn state(&mut self) -> Result<u32, GrammarError> {
        self.acceptor.states += 1;
        self.check_size()?;
        Ok(self.acceptor.states - 1)
    }

    fn empty(&mut self, from: u32, to: u32) -> Result<(), GrammarError> {
        self.acceptor.empty_arcs.push((from, to));
        self.check_size()
    }

    fn check_size(&self) -> Result<(), GrammarError> {
        if self.acceptor.states() > MAX_STATES {
            return Err(GrammarErrorKind::TooLarge("states").at(self.line));
        }
        if self.acceptor.arcs.len().max(self.acceptor.empty_arcs.len()) > MAX_ARCS {
            return Err(GrammarErrorKind::TooLarge("arcs").at(self.line));
        }
        Ok(())
    }
}
