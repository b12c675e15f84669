//! As much of relocatable ELF files and their archives as it takes to see what refers to what.
//!
//! Little endian, 32 and 64 bits (System V gABI, "Object Files"); the archive format is that of ar(5).

/// A part of an object that a linker keeps or drops as a whole: compilers give one to each function and constant.
#[derive(Debug)]
pub struct Section {
    /// The function or object that begins here, else the section's own name.
    pub name: String,
    /// Whether it is code.
    pub code: bool,
    /// What it holds.
    pub data: Vec<u8>,
    /// Offsets, and what stands there: a section of this object, or a name to be found in another.
    pub references: Vec<(usize, Target)>,
}

/// What a section refers to.
#[derive(Clone, Debug)]
pub enum Target {
    /// A section of the same object, and how far into it.
    Section(usize, usize),
    /// A symbol of another.
    Name(String),
}

/// An object file.
#[derive(Debug)]
pub struct Object {
    /// In the file's order.
    pub sections: Vec<Section>,
    /// Symbols that others may name, and their sections.
    pub symbols: Vec<(String, usize)>,
    /// Bytes of an address: 4 or 8.
    pub word: usize,
}

/// The objects of an archive; what is none is left out. `None` if the file is cut off.
pub fn objects(archive: &[u8]) -> Option<Vec<Object>> {
    let mut rest = archive.strip_prefix(b"!<arch>\n")?;
    let mut objects = Vec::new();
    while rest.len() >= 60 {
        let size = std::str::from_utf8(&rest[48..58]).ok()?.trim();
        let size: usize = size.parse().ok()?;
        let member = rest.get(60..60 + size)?;
        if member.starts_with(b"\x7fELF") {
            objects.push(object(member)?);
        }
        rest = rest.get((60 + size).next_multiple_of(2)..).unwrap_or(&[]);
    }
    Some(objects)
}

fn object(file: &[u8]) -> Option<Object> {
    let word = if *file.get(4)? == 2 { 8 } else { 4 };
    let at = |offset: usize, size: usize| -> Option<usize> {
        let bytes = file.get(offset..offset + size)?;
        let value = bytes.iter().rev().fold(0u64, |v, &b| v << 8 | u64::from(b));
        usize::try_from(value).ok()
    };
    // Where the table of sections is, how large its entries are, and how many.
    let (table, rest) = if word == 8 {
        (0x28, 0x3a)
    } else {
        (0x20, 0x2e)
    };
    let (table, entry) = (at(table, word)?, at(rest, 2)?);
    let count = match at(rest + 2, 2)? {
        // More than fit the header's field: see the first section.
        0 => at(table + 8 + 3 * word, word)?,
        count => count,
    };
    let mut names = at(rest + 4, 2)?;
    if names == 0xffff {
        names = at(table + 8 + 4 * word, 4)?;
    }
    let header = |i: usize, field: usize, size: usize| at(table + i * entry + field, size);
    let kind = |i: usize| header(i, 4, 4);
    let offset = |i: usize| header(i, 8 + 2 * word, word);
    let size = |i: usize| header(i, 8 + 3 * word, word);
    let link = |i: usize| header(i, 8 + 4 * word, 4);
    let string = |strings: usize, name: usize| -> Option<String> {
        let bytes = file.get(offset(strings)? + name..)?;
        let end = bytes.iter().position(|&b| b == 0)?;
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    };
    let mut sections = Vec::new();
    for i in 0..count {
        const NOBITS: usize = 8;
        let data = if kind(i)? == NOBITS {
            &[]
        } else {
            file.get(offset(i)?..offset(i)? + size(i)?)?
        };
        sections.push(Section {
            name: string(names, header(i, 0, 4)?)?,
            code: header(i, 8, word)? & 4 != 0,
            data: data.to_vec(),
            references: Vec::new(),
        });
    }
    let mut symbols = Vec::new();
    // Symbol by symbol of the one table: its name, and its section if that is here.
    let mut all = Vec::new();
    let symtab = (0..count).find(|&i| kind(i) == Some(2));
    if let Some(symtab) = symtab {
        let each = if word == 8 { 24 } else { 16 };
        for i in 0..size(symtab)? / each {
            let from = offset(symtab)? + i * each;
            let name = string(link(symtab)?, at(from, 4)?)?;
            let (info, section) = if word == 8 { (4, 6) } else { (12, 14) };
            let (info, section) = (at(from + info, 1)?, at(from + section, 2)?);
            let section = (section > 0 && section < count).then_some(section);
            let (binding, what) = (info >> 4, info & 15);
            if let Some(section) = section {
                if binding != 0 {
                    symbols.push((name.clone(), section));
                }
                // Functions and objects; not ARM's marks such as `$t`.
                if matches!(what, 1 | 2) {
                    sections[section].name.clone_from(&name);
                }
            }
            // In objects that are not linked yet, a symbol's value is its place in the section.
            let value = at(from + if word == 8 { 8 } else { 4 }, word)?;
            all.push((name, section, value));
        }
    }
    for i in 0..count {
        // REL and RELA: of which section, and pairs or triples of words.
        let each = match kind(i)? {
            9 => 2 * word,
            4 => 3 * word,
            _ => continue,
        };
        let of = header(i, 12 + 4 * word, 4)?;
        for from in (offset(i)?..offset(i)? + size(i)?).step_by(each) {
            let info = at(from + word, word)?;
            let (name, section, value) = all.get(info >> if word == 8 { 32 } else { 8 })?;
            let place = at(from, word)?;
            // The third word, or what stands in the place.
            let more = if each == 3 * word {
                at(from + 2 * word, word)?
            } else {
                at(offset(of)? + place, word).unwrap_or(0)
            };
            let target = match section {
                Some(section) => Target::Section(*section, value.wrapping_add(more)),
                None if name.is_empty() => continue,
                None => Target::Name(name.clone()),
            };
            sections
                .get_mut(of)?
                .references
                .push((at(from, word)?, target));
        }
    }
    Some(Object {
        sections,
        symbols,
        word,
    })
}
