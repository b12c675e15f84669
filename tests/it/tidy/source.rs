//! Rust source as rules look at it: code only, with or without its tests.

/// The source with comments and the insides of strings and characters turned into spaces. Every line keeps its place.
pub fn code(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    while out.len() < bytes.len() {
        let (at, rest) = (out.len(), &bytes[out.len()..]);
        let after_a_name = out.last().is_some_and(|&b| is_name(b));
        let blank = if rest.starts_with(b"//") {
            line(rest)
        } else if rest.starts_with(b"/*") {
            block_comment(rest)
        } else if let Some(length) = (!after_a_name).then(|| raw_string(rest)).flatten() {
            length
        } else if rest[0] == b'"' {
            string(rest)
        } else if let Some(length) = character(rest) {
            length
        } else {
            out.push(rest[0]);
            continue;
        };
        let blanked = bytes[at..at + blank].iter();
        out.extend(blanked.map(|&b| if b == b'\n' { b } else { b' ' }));
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Code (see [`code`]) without what is compiled for tests only, and the names of the modules that are so in files of
/// their own.
pub fn without_tests(code: &str) -> (String, Vec<String>) {
    let mut kept = code.as_bytes().to_vec();
    let mut modules = Vec::new();
    for start in ["#[cfg(test)]", "#[cfg(all(test"] {
        for (at, _) in code.match_indices(start) {
            let item = after_attributes(code, at);
            let end = item + item_length(&code[item..]);
            if let Some(name) = outer_module(&code[item..end]) {
                modules.push(name);
            }
            let item = kept[at..end].iter_mut();
            item.filter(|b| **b != b'\n').for_each(|b| *b = b' ');
        }
    }
    (String::from_utf8_lossy(&kept).into_owned(), modules)
}

/// The numbers (from 1) of the lines of `code` in which `name` stands, and is no part of a longer name.
pub fn lines_with<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    let has = move |line: &str| {
        line.match_indices(name)
            .any(|(at, _)| stands(line, at, name))
    };
    let lines = code.lines().zip(1..);
    lines.filter(move |(line, _)| has(line)).map(|(_, n)| n)
}

/// Whether `name`, found at `at`, neither continues a name nor is continued by one.
fn stands(line: &str, at: usize, name: &str) -> bool {
    let bytes = line.as_bytes();
    let edge = |inside: u8, outside: Option<&u8>| {
        !(is_name(inside) && outside.is_some_and(|&outside| is_name(outside)))
    };
    let (first, last) = (bytes[at], bytes[at + name.len() - 1]);
    let before = at.checked_sub(1).and_then(|before| bytes.get(before));
    edge(first, before) && edge(last, bytes.get(at + name.len()))
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn line(rest: &[u8]) -> usize {
    rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len())
}

/// Block comments nest.
fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let step = match rest[at..] {
            [b'/', b'*', ..] => 1,
            [b'*', b'/', ..] => -1,
            _ => 0,
        };
        depth += step;
        at += if step == 0 { 1 } else { 2 };
        if depth == 0 {
            break;
        }
    }
    at
}

/// `r"…"`, `br#"…"#` and their like.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let prefix = rest.iter().take_while(|b| b"bcr".contains(b)).count();
    if prefix == 0 || prefix > 2 || rest[prefix - 1] != b'r' {
        return None;
    }
    let hashes = rest[prefix..].iter().take_while(|&&b| b == b'#').count();
    let inside = prefix + hashes;
    if rest.get(inside) != Some(&b'"') {
        return None;
    }
    let closing = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let mut windows = rest[inside + 1..].windows(closing.len());
    let length = windows.position(|window| window == closing);
    Some(length.map_or(rest.len(), |length| inside + 1 + length + closing.len()))
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// A character in quotes; `None` for a lifetime, or anything else.
fn character(rest: &[u8]) -> Option<usize> {
    if rest[0] != b'\'' {
        return None;
    }
    if rest.get(1) == Some(&b'\\') {
        let end = rest.iter().skip(3).position(|&b| b == b'\'')?;
        return Some(3 + end + 1);
    }
    // One character is one to four bytes; a lifetime has no quote behind it.
    let text = &rest[1..rest.len().min(6)];
    let end = text.iter().position(|&b| b == b'\'')?;
    let one = std::str::from_utf8(&text[..end]).is_ok_and(|text| text.chars().count() == 1);
    one.then_some(end + 2)
}

/// Where the item begins that the attribute at `at` belongs to.
fn after_attributes(code: &str, mut at: usize) -> usize {
    loop {
        at += code[at..].len() - code[at..].trim_start().len();
        if !code[at..].starts_with("#[") {
            return at;
        }
        at += closing(&code[at + 1..]) + 1;
    }
}

/// Length of a bracketed text, brackets included.
fn closing(text: &str) -> usize {
    let mut depth = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// Up to the semicolon or the closing brace that ends the item.
fn item_length(item: &str) -> usize {
    let braces_go_on = item.starts_with("use ") || item.starts_with("pub use ");
    let mut at = 0;
    while at < item.len() {
        match item.as_bytes()[at] {
            b';' => return at + 1,
            b'(' | b'[' => at += closing(&item[at..]),
            b'{' => {
                at += closing(&item[at..]);
                if !braces_go_on {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    item.len()
}

/// The name in `mod name;`.
fn outer_module(item: &str) -> Option<String> {
    let name = item.strip_suffix(';')?.rsplit_once("mod ")?.1.trim();
    name.bytes().all(is_name).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_texts_are_no_code() {
        let cases = [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("x \" y") + 1"#, r"f(        ) + 1"),
            ("g(r#\"x \" y\"#) br\"z\"", "g(          )      "),
            (r"let c = '\''; 'a: loop", r"let c =     ; 'a: loop"),
            ("x<'a>('ä', '\\u{e4}')", "x<'a>(    ,         )"),
            ("for r in bar\"\"", "for r in bar  "),
            ("\"open", "     "),
        ];
        for (source, want) in cases {
            assert_eq!(code(source), want, "{source}");
        }
    }

    #[test]
    fn tests_are_left_out() {
        let cases = [
            (
                "a();\n#[cfg(test)]\nmod t {\n fn b() {}\n}\nc();",
                "a(); c();",
                "",
            ),
            (
                "#[cfg(test)]\n#[path = ]\npub(crate) mod peer;\nuse a;",
                "use a;",
                "peer",
            ),
            ("#[cfg(test)] use a::{b, c}; d();", "d();", ""),
            ("#[cfg(test)] const A: [u8; 2] = [1; 2]; d();", "d();", ""),
            (
                "#[cfg(any(test, feature))] extern crate std;",
                "#[cfg(any(test, feature))] extern crate std;",
                "",
            ),
        ];
        for (source, want, module) in cases {
            let (kept, modules) = without_tests(source);
            let kept: Vec<&str> = kept.split_whitespace().collect();
            assert_eq!(
                (kept.join(" ").as_str(), modules.concat().as_str()),
                (want, module),
                "{source}"
            );
        }
    }

    #[test]
    fn names_are_whole() {
        let found: Vec<usize> =
            lines_with("unsafe {}\nunsafe_code\n(unsafe)\nf32::exp(\n", "unsafe").collect();
        assert_eq!(found, [1, 3]);
        assert_eq!(
            lines_with("x.exp()\nx.exp_m1()\nmath::exp(x)", ".exp(").collect::<Vec<_>>(),
            [1]
        );
    }
}
