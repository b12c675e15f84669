//! Source to syntax tree.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::Word;
use super::error::{GrammarError, GrammarErrorKind};

/// Largest source in bytes.
const MAX_SOURCE: usize = 1 << 20;
/// Longest symbol in bytes.
const MAX_SYMBOL: usize = 64;
const MAX_RULES: usize = 4096;
/// Deepest nesting of groups.
const MAX_DEPTH: usize = 64;

/// A grammar as it is written: nodes refer to others by their index in `nodes`, and `sentence` is
/// where to begin. No node contains itself, but rules may be used more than once.
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) rules: Vec<Rule>,
    pub(super) words: Vec<Word>,
    pub(super) sentence: usize,
}

pub(super) enum Node {
    Word(u32),
    Rule {
        rule: usize,
        line: u32,
    },
    Sequence(Vec<usize>),
    Choice(Vec<usize>),
    Optional(usize),
    /// Any number of times.
    Star(usize),
    /// Once or more.
    Plus(usize),
}

pub(super) struct Rule {
    pub(super) name: String,
    pub(super) line: u32,
    pub(super) body: usize,
}

/// Reads a source and finds what its symbols mean.
pub(super) fn parse(source: &[u8]) -> Result<Tree, GrammarError> {
    if source.len() > MAX_SOURCE {
        return Err(GrammarErrorKind::TooLong.at(0));
    }
    let text = core::str::from_utf8(source).map_err(|error| {
        let before = &source[..error.valid_up_to()];
        GrammarErrorKind::NotText
            .at(1 + before.iter().filter(|&&byte| byte == b'\n').count() as u32)
    })?;
    let items = lex(text.strip_prefix('\u{feff}').unwrap_or(text))?;
    Parser {
        items,
        at: 0,
        names: BTreeMap::new(),
        word_numbers: BTreeMap::new(),
        tree: Tree::new(),
    }
    .parse()
}

impl Tree {
    fn new() -> Self {
        Tree {
            nodes: Vec::new(),
            rules: Vec::new(),
            words: Vec::new(),
            sentence: 0,
        }
    }
}

#[derive(Clone, Copy)]
struct Item<'s> {
    line: u32,
    /// First of a line that is not indented.
    begins: bool,
    what: Lexeme<'s>,
}

#[derive(Clone, Copy, PartialEq)]
enum Lexeme<'s> {
    Symbol(&'s str),
    Quoted(&'s str),
    Mark(char),
    End,
}

fn lex(text: &str) -> Result<Vec<Item<'_>>, GrammarError> {
    let mut items = Vec::new();
    let mut last = 1;
    for (index, line) in text.lines().enumerate() {
        let number = index as u32 + 1;
        last = number;
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            let begins = rest.len() == line.len();
            let (what, len) = match c {
                '#' => break,
                _ if c.is_whitespace() => {
                    rest = &rest[c.len_utf8()..];
                    continue;
                }
                '=' | '|' | '(' | ')' | '[' | ']' | '*' | '+' | ':' => (Lexeme::Mark(c), 1),
                '"' => {
                    let word = rest[1..].split('"').next().unwrap_or("");
                    let closed = rest[1..].len() > word.len();
                    let odd = |c: char| c.is_whitespace() || c.is_control();
                    if !closed || word.is_empty() || word.chars().any(odd) {
                        return Err(GrammarErrorKind::Quote.at(number));
                    }
                    (Lexeme::Quoted(word), word.len() + 2)
                }
                _ if in_symbol(c) => {
                    let len = rest.find(|c| !in_symbol(c)).unwrap_or(rest.len());
                    (Lexeme::Symbol(&rest[..len]), len)
                }
                _ => return Err(GrammarErrorKind::Character(c).at(number)),
            };
            if len > MAX_SYMBOL + 2 || matches!(what, Lexeme::Symbol(s) if s.len() > MAX_SYMBOL) {
                return Err(GrammarErrorKind::LongSymbol.at(number));
            }
            items.push(Item {
                line: number,
                begins,
                what,
            });
            rest = &rest[len..];
        }
    }
    items.push(Item {
        line: last,
        begins: true,
        what: Lexeme::End,
    });
    Ok(items)
}

fn in_symbol(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '\'' | '\u{2019}' | '-' | '_')
}

struct Parser<'s> {
    items: Vec<Item<'s>>,
    at: usize,
    /// Rules by name.
    names: BTreeMap<&'s str, usize>,
    word_numbers: BTreeMap<&'s str, u32>,
    tree: Tree,
}

impl<'s> Parser<'s> {
    fn parse(self) -> Result<Tree, GrammarError> {
        match (self.peek().what, self.items.get(1).map(|item| item.what)) {
            (Lexeme::End, _) => Err(GrammarErrorKind::Empty.at(0)),
            (Lexeme::Symbol("words"), Some(Lexeme::Mark(':'))) => self.list(),
            _ => self.rules(),
        }
    }

    fn list(mut self) -> Result<Tree, GrammarError> {
        self.at = 2;
        let mut words = Vec::new();
        while !self.peek().begins {
            let Item { line, what, .. } = self.peek();
            let (Lexeme::Symbol(text) | Lexeme::Quoted(text)) = what else {
                return Err(self.expected("a word"));
            };
            words.push(self.word(text, line));
            self.at += 1;
        }
        if words.is_empty() {
            return Err(self.expected("a word after `words:`"));
        }
        if self.peek().what != Lexeme::End {
            return Err(GrammarErrorKind::MixedForms.at(self.peek().line));
        }
        let any = self.node(Node::Choice(words));
        self.tree.sentence = self.node(Node::Star(any));
        Ok(self.tree)
    }

    fn rules(mut self) -> Result<Tree, GrammarError> {
        self.find_names()?;
        let mut index = 0;
        while self.peek().what != Lexeme::End {
            self.at += 2;
            self.tree.rules[index].body = self.choice(0)?;
            if !self.peek().begins {
                return Err(
                    self.expected("`|` or the end of the rule (a new rule is not indented)")
                );
            }
            index += 1;
        }
        let Some(&sentence) = self.names.get("sentence") else {
            return Err(GrammarErrorKind::NoSentence.at(0));
        };
        self.tree.sentence = self.tree.rules[sentence].body;
        self.check_use(sentence)?;
        Ok(self.tree)
    }

    /// Notes the name at the beginning of each rule, since rules may be used before they are written.
    fn find_names(&mut self) -> Result<(), GrammarError> {
        for index in 0..self.items.len() {
            let Item { line, begins, what } = self.items[index];
            if !begins && index > 0 || what == Lexeme::End {
                continue;
            }
            let Lexeme::Symbol(name) = what else {
                return Err(expected("a rule's name", line, what.show()));
            };
            self.at = index + 1;
            match self.peek() {
                Item {
                    what: Lexeme::Mark('='),
                    begins: false,
                    ..
                } => (),
                Item {
                    what: Lexeme::Mark(':'),
                    begins: false,
                    ..
                } if name == "words" => {
                    return Err(GrammarErrorKind::MixedForms.at(line));
                }
                _ => return Err(self.expected("`=` after a rule's name")),
            }
            if let Some(&earlier) = self.names.get(name) {
                let (rule, first) = (String::from(name), self.tree.rules[earlier].line);
                return Err(GrammarErrorKind::Twice { rule, first }.at(line));
            }
            if self.tree.rules.len() == MAX_RULES {
                return Err(GrammarErrorKind::TooLarge("rules").at(line));
            }
            self.names.insert(name, self.tree.rules.len());
            self.tree.rules.push(Rule {
                name: String::from(name),
                line,
                body: 0,
            });
        }
        self.at = 0;
        Ok(())
    }

    fn choice(&mut self, depth: usize) -> Result<usize, GrammarError> {
        if depth > MAX_DEPTH {
            return Err(GrammarErrorKind::TooDeep.at(self.peek().line));
        }
        let mut sequences = vec![self.sequence(depth)?];
        while self.accept('|') {
            sequences.push(self.sequence(depth)?);
        }
        Ok(if sequences.len() == 1 {
            sequences[0]
        } else {
            self.node(Node::Choice(sequences))
        })
    }

    fn sequence(&mut self, depth: usize) -> Result<usize, GrammarError> {
        let mut items = Vec::new();
        while let Some(item) = self.atom(depth)? {
            // Several signs are one: `x+*` is `x*`.
            let (mut plus, mut star) = (false, false);
            loop {
                if self.accept('*') {
                    star = true;
                } else if self.accept('+') {
                    plus = true;
                } else {
                    break;
                }
            }
            items.push(match (star, plus) {
                (true, _) => self.node(Node::Star(item)),
                (false, true) => self.node(Node::Plus(item)),
                (false, false) => item,
            });
        }
        match items.len() {
            0 => Err(self.expected("a word, a rule, `(` or `[`")),
            1 => Ok(items[0]),
            _ => Ok(self.node(Node::Sequence(items))),
        }
    }

    fn atom(&mut self, depth: usize) -> Result<Option<usize>, GrammarError> {
        let Item { line, begins, what } = self.peek();
        if begins {
            return Ok(None);
        }
        Ok(Some(match what {
            Lexeme::Quoted(text) => {
                self.at += 1;
                self.word(text, line)
            }
            Lexeme::Symbol(text) => {
                self.at += 1;
                match self.names.get(text) {
                    Some(&rule) => self.node(Node::Rule { rule, line }),
                    None => self.word(text, line),
                }
            }
            Lexeme::Mark('(') => {
                self.at += 1;
                let group = self.choice(depth + 1)?;
                if !self.accept(')') {
                    return Err(self.expected("`)`"));
                }
                group
            }
            Lexeme::Mark('[') => {
                self.at += 1;
                let group = self.choice(depth + 1)?;
                if !self.accept(']') {
                    return Err(self.expected("`]`"));
                }
                self.node(Node::Optional(group))
            }
            _ => return Ok(None),
        }))
    }

    /// Refuses rules that cannot be reached: most often a misspelt name, which would otherwise pass
    /// for a word.
    fn check_use(&self, sentence: usize) -> Result<(), GrammarError> {
        let mut used = vec![false; self.tree.rules.len()];
        used[sentence] = true;
        let mut open = vec![self.tree.sentence];
        while let Some(node) = open.pop() {
            match &self.tree.nodes[node] {
                Node::Word(_) => (),
                Node::Rule { rule, .. } => {
                    if !core::mem::replace(&mut used[*rule], true) {
                        open.push(self.tree.rules[*rule].body);
                    }
                }
                Node::Sequence(parts) | Node::Choice(parts) => open.extend(parts),
                Node::Optional(part) | Node::Star(part) | Node::Plus(part) => open.push(*part),
            }
        }
        match used.iter().position(|&used| !used) {
            Some(index) => {
                let rule = &self.tree.rules[index];
                Err(GrammarErrorKind::Unused(rule.name.clone()).at(rule.line))
            }
            None => Ok(()),
        }
    }

    fn word(&mut self, text: &'s str, line: u32) -> usize {
        let words = &mut self.tree.words;
        let number = *self.word_numbers.entry(text).or_insert_with(|| {
            words.push(Word {
                text: String::from(text),
                line,
            });
            words.len() as u32 - 1
        });
        self.node(Node::Word(number))
    }

    fn node(&mut self, node: Node) -> usize {
        self.tree.nodes.push(node);
        self.tree.nodes.len() - 1
    }

    /// The next item. The last one is an end, which nothing steps over.
    fn peek(&self) -> Item<'s> {
        self.items[self.at.min(self.items.len() - 1)]
    }

    fn accept(&mut self, mark: char) -> bool {
        let item = self.peek();
        let found = !item.begins && item.what == Lexeme::Mark(mark);
        self.at += usize::from(found);
        found
    }

    fn expected(&self, what: &'static str) -> GrammarError {
        let item = self.peek();
        let new_line = item.begins && item.what != Lexeme::End;
        let found = if new_line {
            String::from("a new line that is not indented")
        } else {
            item.what.show()
        };
        expected(what, item.line, found)
    }
}

fn expected(expected: &'static str, line: u32, found: String) -> GrammarError {
    GrammarErrorKind::Expected { expected, found }.at(line)
}

impl Lexeme<'_> {
    fn show(&self) -> String {
        match self {
            Lexeme::End => String::from("the end of the file"),
            Lexeme::Symbol(text) | Lexeme::Quoted(text) => format!("`{text}`"),
            Lexeme::Mark(mark) => format!("`{mark}`"),
        }
    }
}
