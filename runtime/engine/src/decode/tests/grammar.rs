//! Grammars against languages enumerated from the same expressions, and against bad files.

use std::collections::BTreeSet;
use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use super::reference::{Random, paths};
use crate::decode::grammar::{Grammar, GrammarErrorKind, SHIPPED};
use crate::decode::graph::TokenGraph;
use crate::decode::{TokenKind, Vocabulary};

type Sentence = Vec<&'static str>;

/// Words of which one begins another, for the sake of spelling.
const WORDS: [&str; 4] = ["a", "ab", "b", "ba"];

#[test]
fn random_grammars_accept_the_language_of_their_expressions() {
    let mut random = Random(10);
    for _ in 0..300 {
        let random_grammar = RandomGrammar::new(&mut random, 4);
        let grammar = Grammar::parse(&random_grammar.source).unwrap();
        for sentence in all_sentences(4) {
            assert_eq!(
                grammar.accepts(sentence.iter().copied()),
                random_grammar.language.contains(&sentence),
                "{sentence:?} in\n{}",
                random_grammar.source
            );
        }
    }
}

#[test]
fn token_graphs_accept_the_spellings_of_the_language() {
    let vocabularies = [
        (
            Vocabulary::new(TokenKind::Word, ["<blank>", "ba", "b", "ab", "a"]).unwrap(),
            4,
        ),
        (
            Vocabulary::new(TokenKind::Char, ["<blank>", "b", "a", "▁"]).unwrap(),
            6,
        ),
        (
            Vocabulary::new(
                TokenKind::Piece,
                ["<blank>", "a", "▁a", "▁", "b", "▁ab", "ba"],
            )
            .unwrap(),
            4,
        ),
    ];
    let mut random = Random(11);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..240 {
        let random_grammar = RandomGrammar::new(&mut random, 6);
        let grammar = Grammar::parse(&random_grammar.source).unwrap();
        let (vocabulary, longest) = &vocabularies[round % 3];
        let graph = TokenGraph::compile(&grammar, vocabulary).unwrap();
        for len in 0..=*longest {
            for tokens in paths(len, vocabulary.len() - 1) {
                let tokens: Vec<u32> = tokens.iter().map(|token| token + 1).collect();
                let expected = spells(vocabulary, &tokens, &random_grammar.language);
                let found = walk(&graph, &tokens).is_some_and(|state| graph.accepts_at(state));
                assert_eq!(found, expected, "{tokens:?} in\n{}", random_grammar.source);
                *(if found { &mut accepted } else { &mut refused }) += 1;
            }
        }
        check_frames_needed(&graph);
    }
    assert!(accepted > 1000 && refused > 1000, "{accepted} {refused}");
}

/// Whether the tokens are a sentence of the language in the one right spacing.
fn spells(vocabulary: &Vocabulary, tokens: &[u32], language: &BTreeSet<Sentence>) -> bool {
    let texts = tokens.iter().map(|&token| vocabulary.text(token));
    language.iter().any(|sentence| match vocabulary.kind() {
        TokenKind::Word => texts.clone().eq(sentence.iter().copied()),
        TokenKind::Char => texts.clone().collect::<String>() == sentence.join(" "),
        TokenKind::Piece => {
            let marked: String = sentence.iter().flat_map(|word| [" ", *word]).collect();
            texts.clone().collect::<String>() == marked
        }
    })
}

fn walk(graph: &TokenGraph, tokens: &[u32]) -> Option<u32> {
    tokens.iter().try_fold(graph.start(), |state, &token| {
        let mut ways = graph.arcs(state).filter(|arc| arc.token == token);
        let way = ways.next();
        assert!(ways.next().is_none(), "two ways");
        way.map(|arc| arc.to)
    })
}

/// The distances agree with a search frame by frame over (state, token of the last frame).
fn check_frames_needed(graph: &TokenGraph) {
    for state in 0..graph.states() as u32 {
        for last in 0..graph.vocab_size() as u32 {
            let mut reached = BTreeSet::from([(state, last)]);
            let mut frames = 0;
            while !reached.iter().any(|&(state, _)| graph.accepts_at(state)) && frames < 40 {
                let mut next = BTreeSet::new();
                for &(state, last) in &reached {
                    next.insert((state, 0));
                    next.extend(
                        graph
                            .arcs(state)
                            .filter(|arc| arc.token != last)
                            .map(|arc| (arc.to, arc.token)),
                    );
                }
                reached = next;
                frames += 1;
            }
            let expected = (frames < 40).then_some(frames);
            assert_eq!(
                graph.frames_needed(state, last),
                expected,
                "state {state} after {last}"
            );
        }
    }
}

#[test]
fn the_grid_grammar_has_its_64000_sentences() {
    let grammar = Grammar::shipped("grid").unwrap();
    assert_eq!(grammar.words().count(), 51);
    for good in [
        "bin blue at f two now",
        "set white with z zero soon",
        "place red in a nine again",
    ] {
        assert!(grammar.accepts(good.split(' ')), "{good}");
    }
    for bad in [
        "",
        "bin blue at w two now",
        "bin blue at f two",
        "blue bin at f two now",
        "bin blue at f two now now",
    ] {
        assert!(!grammar.accepts(bad.split(' ')), "{bad}");
    }
    let words = ["<blank>"].into_iter().chain(grammar.words());
    let vocabulary = Vocabulary::new(TokenKind::Word, words).unwrap();
    let graph = TokenGraph::compile(&grammar, &vocabulary).unwrap();
    assert_eq!(graph.states(), 7);
    assert_eq!(sentences(&graph, graph.start()), 4 * 4 * 4 * 25 * 10 * 4);
    assert!(Grammar::shipped("nothing").is_none());
}

fn sentences(graph: &TokenGraph, state: u32) -> usize {
    usize::from(graph.accepts_at(state))
        + graph
            .arcs(state)
            .map(|arc| sentences(graph, arc.to))
            .sum::<usize>()
}

#[test]
fn shipped_grammars_and_the_documents_examples_are_grammars() {
    for (name, source) in SHIPPED {
        Grammar::parse(source).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let page = include_str!("../../../grammars/GRAMMAR.md");
    let examples: Vec<&str> = page
        .split("```text\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    let [lamp, _formal, list] = examples[..] else {
        panic!("{} examples", examples.len())
    };
    let lamp = Grammar::parse(lamp).unwrap();
    for good in [
        "dim lamp",
        "switch on the lantern in the hall",
        "switch off lamp in the sentence",
    ] {
        assert!(lamp.accepts(good.split(' ')), "{good}");
    }
    assert!(!lamp.accepts("switch the lamp".split(' ')));
    let list = Grammar::parse(list.replace("…", "")).unwrap();
    assert!(list.accepts([]) && list.accepts(["go", "left", "go"]) && !list.accepts(["up"]));
}

#[test]
fn files_are_read_as_the_document_says() {
    let same = [
        "sentence = a b | [ab] ba*",
        "sentence=a b|[ab]ba*",
        "\u{feff}sentence = a b\r\n  | [ab] ba*\r\n",
        "# first\n\n   sentence = a # then\n  b\n# not indented, but a comment\n | rest\nrest=[ab](ba)*",
        "rest = (((rest2)))\nrest2 = [\"ab\"] (\"ba\"+)*\nsentence = rest | \"a\" b",
        "sentence = a b | [ab] [ba] ba***",
    ];
    let grammars = same.map(|source| Grammar::parse(source).unwrap());
    for sentence in all_sentences(3) {
        let accepts = |grammar: &Grammar| grammar.accepts(sentence.iter().copied());
        let expected = accepts(&grammars[0]);
        for (grammar, source) in grammars.iter().zip(same) {
            assert_eq!(accepts(grammar), expected, "{sentence:?} {source}");
        }
    }
}

#[test]
fn bad_files_are_refused_with_one_line() {
    let check = |source: &str, expected: &str| {
        let error = Grammar::parse(source)
            .err()
            .unwrap_or_else(|| panic!("accepted: {source}"));
        assert_eq!(error.to_string(), expected, "{source}");
    };
    check(
        "",
        "grammar: there is nothing in it; write `sentence = ...` or `words: ...`",
    );
    check(
        " \n# nothing\n",
        "grammar: there is nothing in it; write `sentence = ...` or `words: ...`",
    );
    check(
        "a = b",
        "grammar: no rule is called `sentence`; add `sentence = ...`",
    );
    check(
        "sentence = colur\ncolour = red",
        "grammar line 2: no sentence uses rule `colour`; check the spelling of its name, or remove it",
    );
    check(
        "sentence = x\nx = y\ny = a [x]",
        "grammar line 3: rule `x` contains itself; use `x*` or `x+` for repetition",
    );
    check(
        "sentence = a sentence",
        "grammar line 1: rule `sentence` contains itself; use `x*` or `x+` for repetition",
    );
    check(
        "sentence = a\n\nsentence = b",
        "grammar line 3: rule `sentence` is on line 1 already; join the two with `|`",
    );
    check(
        "sentence =\n",
        "grammar line 1: expected a word, a rule, `(` or `[`, found the end of the file",
    );
    check(
        "sentence = a |\nx = b",
        "grammar line 2: expected a word, a rule, `(` or `[`, found a new line that is not indented",
    );
    check(
        "sentence = a | | b",
        "grammar line 1: expected a word, a rule, `(` or `[`, found `|`",
    );
    check(
        "sentence = (a b",
        "grammar line 1: expected `)`, found the end of the file",
    );
    check("sentence = (a]", "grammar line 1: expected `)`, found `]`");
    check(
        "sentence = a)",
        "grammar line 1: expected `|` or the end of the rule (a new rule is not indented), found `)`",
    );
    check(
        "  sentence = a\n  b = c",
        "grammar line 2: expected `|` or the end of the rule (a new rule is not indented), found `=`",
    );
    check(
        "sentence = a\n| b",
        "grammar line 2: expected a rule's name, found `|`",
    );
    check(
        "sentence a b",
        "grammar line 1: expected `=` after a rule's name, found `a`",
    );
    check(
        "sentence",
        "grammar line 1: expected `=` after a rule's name, found the end of the file",
    );
    check(
        "words:",
        "grammar line 1: expected a word after `words:`, found the end of the file",
    );
    check("words: a | b", "grammar line 1: expected a word, found `|`");
    check(
        "words: a\nsentence = b",
        "grammar line 2: `words:` stands alone; write either one list or rules",
    );
    check(
        "sentence = b\nwords: a",
        "grammar line 2: `words:` stands alone; write either one list or rules",
    );
    check(
        "sentence = a\n\n  , b",
        "grammar line 3: unexpected character `,`; put a word that holds it in quotes",
    );
    check(
        "sentence = \u{7}",
        "grammar line 1: unexpected character `\\u{7}`; put a word that holds it in quotes",
    );
    for quote in ["\"", "\"\"", "\"a", "\"a b\"", "\"a\nb\""] {
        check(
            &("sentence = ".to_string() + quote),
            "grammar line 1: a quote needs a word without spaces and then a second quote",
        );
    }
    let long = "a".repeat(65);
    for word in [long.clone(), format!("\"{long}\"")] {
        check(
            &format!("sentence = {word}"),
            "grammar line 1: a word or name is longer than 64 bytes; shorten it",
        );
    }
    let error = Grammar::parse(b"sentence = a\n b \xff").unwrap_err();
    assert_eq!(
        error.to_string(),
        "grammar line 2: the file is not UTF-8 text; is it a grammar?"
    );
    let error = Grammar::parse(vec![b'#'; (1 << 20) + 1]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "grammar: the file is larger than 1 MiB; is it a grammar?"
    );
}

#[test]
fn words_that_the_model_cannot_spell_are_named() {
    let chars = Vocabulary::new(TokenKind::Char, ["<blank>", "B", "A", "c"]).unwrap();
    let error = |source: &str, vocabulary| {
        TokenGraph::compile(&Grammar::parse(source).unwrap(), vocabulary)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error("sentence = a\n | c dab", &chars),
        "grammar line 2: `dab` is no rule, and no word that the model can spell; check the spelling"
    );
    assert_eq!(
        error("sentence = a b", &chars),
        "grammar: sentences of several words need a model with a space token; allow one word, or take another model"
    );
    // Case is as the model has it.
    let graph =
        TokenGraph::compile(&Grammar::parse("sentence = ab | C | Ab").unwrap(), &chars).unwrap();
    assert_eq!(sentences(&graph, graph.start()), 2);
    assert!(graph.accepts_at(walk(&graph, &[2, 1]).unwrap()));
    assert!(graph.accepts_at(walk(&graph, &[3]).unwrap()));
    let words = Vocabulary::new(TokenKind::Word, ["<blank>", "on"]).unwrap();
    assert!(error("words: on of", &words).contains("`of`"));
}

#[test]
fn hostile_files_end_in_an_error_soon() {
    let too_deep = GrammarErrorKind::TooDeep;
    let groups = format!("sentence = {}a{}", "(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(Grammar::parse(groups).unwrap_err().kind, too_deep);
    let chain: String = (0..4000)
        .map(|n| format!("r{n} = r{} a\n", n + 1))
        .collect();
    let chain = format!("sentence = r0\n{chain}r4000 = a");
    assert_eq!(Grammar::parse(chain).unwrap_err().kind, too_deep);
    // Signs do not nest.
    assert!(Grammar::parse(format!("sentence = a{}", "*+".repeat(100_000))).is_ok());
    // As deep as groups may be, in rules as deep as that allows.
    let nest = |inner: &str| format!("{}{inner}{}", "[a (".repeat(32), ")*]".repeat(32));
    assert!(Grammar::parse(format!("sentence = {}", nest("b"))).is_ok());
    let rules: String = (0..20)
        .map(|n| format!("r{n} = {}\n", nest(&format!("r{}", n + 1))))
        .collect();
    let rules = format!("sentence = r0\n{rules}r20 = a");
    assert_eq!(Grammar::parse(rules).unwrap_err().kind, too_deep);

    for body in ["x x", "x | x", "x+ x*", "[x] [x]"] {
        let doubling: String = (0..40)
            .map(|n| format!("r{n} = {}\n", body.replace('x', &format!("r{}", n + 1))))
            .collect();
        let error = Grammar::parse(format!("sentence = r0\n{doubling}r40 = a b")).unwrap_err();
        assert!(
            matches!(error.kind, GrammarErrorKind::TooLarge(_)),
            "{body}: {error}"
        );
    }
    let rules: String = (0..5000).map(|n| format!("r{n} = a\n")).collect();
    assert_eq!(
        Grammar::parse(rules).unwrap_err().kind,
        GrammarErrorKind::TooLarge("rules")
    );

    // 2^n states once deterministic: the word n from the end is an a.
    let vocabulary = Vocabulary::new(TokenKind::Word, ["<blank>", "a", "b"]).unwrap();
    let exponential = format!("sentence = (a | b)* a {}", "(a | b) ".repeat(40));
    let error =
        TokenGraph::compile(&Grammar::parse(exponential).unwrap(), &vocabulary).unwrap_err();
    assert!(
        matches!(error.kind, GrammarErrorKind::TooLarge(_)),
        "{error}"
    );
    // n words, each of which leads to the same n states.
    let names: Vec<String> = (0..30_000).map(|n| format!("w{n}")).collect();
    let list = ["<blank>"]
        .into_iter()
        .chain(names.iter().map(|name| name.as_str()));
    let vocabulary = Vocabulary::new(TokenKind::Word, list).unwrap();
    let quadratic = format!("sentence = ({}*)*", names.join("* | "));
    let error = TokenGraph::compile(&Grammar::parse(quadratic).unwrap(), &vocabulary).unwrap_err();
    assert!(
        matches!(error.kind, GrammarErrorKind::TooLarge(_)),
        "{error}"
    );
}

#[test]
fn long_lists_are_fine() {
    let names: Vec<String> = (0..30_000).map(|n| format!("w{:x}", n * 7919)).collect();
    let grammar = Grammar::parse(format!("words: {}", names.join(" "))).unwrap();
    let chars: Vec<String> = "w0123456789abcdef ".chars().map(String::from).collect();
    let list = || {
        ["<blank>"]
            .into_iter()
            .chain(chars.iter().map(|name| name.as_str()))
    };
    let graph =
        TokenGraph::compile(&grammar, &Vocabulary::new(TokenKind::Char, list()).unwrap()).unwrap();
    assert!(graph.states() > 30_000);
    assert!(grammar.accepts(["w0", "w1eef", "w0"]));
}

#[test]
fn damaged_files_never_panic() {
    let mut random = Random(12);
    let vocabulary = Vocabulary::new(TokenKind::Char, ["<blank>", "a", "b", "t", "▁"]).unwrap();
    let seeds = [
        SHIPPED[0].1,
        "words: a b",
        "sentence = (a [b]* | \"t\")+ x\nx = a|b # c\n",
    ];
    let marks = b"=|()[]*+:\"#\n\r\t ab\xe2\x96\x81\xff\0_'";
    for round in 0..20_000 {
        let mut source = seeds[round % seeds.len()].as_bytes().to_vec();
        for _ in 0..1 + random.below(6) {
            let at = random.below(source.len().max(1));
            match random.below(4) {
                0 => source.truncate(at),
                1 if !source.is_empty() => drop(source.remove(at)),
                2 => source.insert(at.min(source.len()), marks[random.below(marks.len())]),
                _ if !source.is_empty() => source[at] = marks[random.below(marks.len())],
                _ => (),
            }
        }
        let line = match Grammar::parse(&source) {
            Ok(grammar) => TokenGraph::compile(&grammar, &vocabulary).err(),
            Err(error) => Some(error),
        };
        if let Some(error) = line {
            assert!(!error.to_string().contains(['\n', '\r', '\0']), "{error}");
        }
    }
}

/// An expression, as source and as the set of its sentences of up to `longest` words.
struct RandomGrammar {
    source: String,
    language: BTreeSet<Sentence>,
}

struct Expression {
    source: String,
    language: BTreeSet<Sentence>,
    /// What binds it: 0 an atom, 1 a sequence, 2 a choice.
    loose: u8,
}

impl RandomGrammar {
    fn new(random: &mut Random, longest: usize) -> Self {
        let mut rules = Vec::new();
        let sentence = Expression::random(random, longest, 4, &mut rules);
        rules.push(format!("sentence = {}", sentence.source));
        let shift = random.below(rules.len());
        rules.rotate_left(shift);
        RandomGrammar {
            source: rules.join("\n"),
            language: sentence.language,
        }
    }
}

impl Expression {
    fn random(random: &mut Random, longest: usize, depth: usize, rules: &mut Vec<String>) -> Self {
        if depth == 0 || random.below(5) == 0 {
            let word = WORDS[random.below(WORDS.len())];
            let source = if random.below(4) == 0 {
                format!("\"{word}\"")
            } else {
                word.to_string()
            };
            return Expression {
                source,
                language: BTreeSet::from([vec![word]]),
                loose: 0,
            };
        }
        let chosen = random.below(7);
        let mut part = || Expression::random(random, longest, depth - 1, rules);
        let mut a = part();
        match chosen {
            0 => {
                let b = part();
                let source = format!("{} | {}", a.source, b.source);
                Expression {
                    source,
                    language: &a.language | &b.language,
                    loose: 2,
                }
            }
            1 => {
                let b = part();
                let source = format!("{} {}", a.within(1), b.within(1));
                Expression {
                    source,
                    language: join(&a.language, &b.language, longest),
                    loose: 1,
                }
            }
            2 => {
                a.language.insert(vec![]);
                Expression {
                    source: format!("[{}]", a.source),
                    language: a.language,
                    loose: 0,
                }
            }
            3 | 4 => {
                let mut language = a.language.clone();
                while language.len() < (&language | &join(&language, &a.language, longest)).len() {
                    language = &language | &join(&language, &a.language, longest);
                }
                if chosen == 3 {
                    language.insert(vec![]);
                }
                let sign = if chosen == 3 { '*' } else { '+' };
                Expression {
                    source: format!("{}{sign}", a.within(0)),
                    language,
                    loose: 0,
                }
            }
            _ => {
                let name = format!("rule-{}", rules.len());
                rules.push(format!("{name} =\n  {}\n", a.source));
                if chosen == 5 {
                    return Expression {
                        source: name,
                        language: a.language,
                        loose: 0,
                    };
                }
                let language = join(&a.language, &a.language, longest);
                Expression {
                    source: format!("{name} {name}"),
                    language,
                    loose: 1,
                }
            }
        }
    }

    /// In parentheses where it is looser than its place allows.
    fn within(&self, loose: u8) -> String {
        if self.loose > loose {
            format!("( {})", self.source)
        } else {
            self.source.clone()
        }
    }
}

fn join(a: &BTreeSet<Sentence>, b: &BTreeSet<Sentence>, longest: usize) -> BTreeSet<Sentence> {
    let joined = a
        .iter()
        .flat_map(|a| b.iter().map(move |b| [a.as_slice(), b.as_slice()].concat()));
    joined
        .filter(|sentence| sentence.len() <= longest)
        .collect()
}

fn all_sentences(longest: usize) -> Vec<Sentence> {
    let numbers = (0..=longest).flat_map(|len| paths(len, WORDS.len()));
    numbers
        .map(|numbers| numbers.iter().map(|&n| WORDS[n as usize]).collect())
        .collect()
}
