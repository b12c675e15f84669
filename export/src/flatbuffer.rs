//! FlatBuffers, written front to back: just tables, vectors and strings, as the format's internals page describes them
//! (flatbuffers.dev/internals).
//!
//! Offsets point forwards, so a parent is written before its children and its offsets are filled in afterwards. Each
//! table has a vtable of its own in front of it.

/// A field of a table.
pub enum Field {
    /// One byte: booleans and small enums.
    U8(u8),
    /// Unsigned, 32 bits.
    U32(u32),
    /// Signed, 32 bits.
    I32(i32),
    /// Real, 32 bits.
    F32(f32),
    /// A table.
    Table(Table),
    /// A vector of tables.
    Tables(Vec<Table>),
    /// Bytes, the first of which lies at a multiple of 16 in the file.
    Bytes(Vec<u8>),
    /// 32-bit integers.
    I32s(Vec<i32>),
    /// 64-bit integers.
    I64s(Vec<i64>),
    /// Reals.
    F32s(Vec<f32>),
    /// Text.
    Text(String),
}

/// A table: slots of the schema with what is in them. Slots without a field have the schema's default.
#[derive(Default)]
pub struct Table(pub Vec<(u16, Field)>);

/// The file with this table at its root.
pub fn write(root: Table, identifier: &[u8; 4]) -> Vec<u8> {
    let mut out = vec![0; 4];
    out.extend(identifier);
    let at = table(&mut out, root);
    point(&mut out, 0, at);
    out
}

/// Writes a table and all below it; returns where the table is.
fn table(out: &mut Vec<u8>, Table(fields): Table) -> usize {
    let slots = fields.iter().map(|(slot, _)| slot + 1).max().unwrap_or(0);
    // Four bytes a field, which suits the alignment of all.
    let size = 4 + 4 * fields.len() as u16;
    let vtable_size = 4 + 2 * slots;
    // The vtable ends where the table begins.
    out.resize(
        (out.len() + usize::from(vtable_size)).next_multiple_of(4),
        0,
    );
    let at = out.len();
    let vtable = at - usize::from(vtable_size);
    out[vtable..][..2].copy_from_slice(&vtable_size.to_le_bytes());
    out[vtable + 2..][..2].copy_from_slice(&size.to_le_bytes());
    out.extend(i32::from(vtable_size as i16).to_le_bytes());
    let mut children = Vec::new();
    for (i, (slot, field)) in (0u16..).zip(fields) {
        let place = 4 + 4 * i;
        let entry = vtable + 4 + 2 * usize::from(slot);
        out[entry..][..2].copy_from_slice(&place.to_le_bytes());
        match field {
            Field::U8(v) => out.extend([v, 0, 0, 0]),
            Field::U32(v) => out.extend(v.to_le_bytes()),
            Field::I32(v) => out.extend(v.to_le_bytes()),
            Field::F32(v) => out.extend(v.to_le_bytes()),
            child => {
                children.push((out.len(), child));
                out.extend([0; 4]);
            }
        }
    }
    for (place, child) in children {
        let to = match child {
            Field::Table(child) => table(out, child),
            Field::Tables(children) => tables(out, children),
            Field::Bytes(bytes) => vector(out, bytes.len(), 16, bytes),
            Field::I32s(v) => vector(out, v.len(), 4, v.iter().flat_map(|v| v.to_le_bytes())),
            Field::I64s(v) => vector(out, v.len(), 8, v.iter().flat_map(|v| v.to_le_bytes())),
            Field::F32s(v) => vector(out, v.len(), 4, v.iter().flat_map(|v| v.to_le_bytes())),
            Field::Text(text) => {
                let at = vector(out, text.len(), 4, text.bytes());
                out.push(0);
                at
            }
            Field::U8(_) | Field::U32(_) | Field::I32(_) | Field::F32(_) => continue,
        };
        point(out, place, to);
    }
    at
}

fn tables(out: &mut Vec<u8>, children: Vec<Table>) -> usize {
    let count = children.len();
    let at = vector(out, count, 4, std::iter::repeat_n(0, 4 * count));
    for (i, child) in children.into_iter().enumerate() {
        let to = table(out, child);
        point(out, at + 4 + 4 * i, to);
    }
    at
}

/// The elements' number and the elements, the first at a multiple of `align`.
fn vector(
    out: &mut Vec<u8>,
    count: usize,
    align: usize,
    bytes: impl IntoIterator<Item = u8>,
) -> usize {
    out.resize((out.len() + 4).next_multiple_of(align) - 4, 0);
    let at = out.len();
    // A file of more than 4 GiB would have been refused as a model.
    out.extend((count as u32).to_le_bytes());
    out.extend(bytes);
    at
}

/// Lets the offset at `place` point to `to`.
fn point(out: &mut [u8], place: usize, to: usize) {
    out[place..][..4].copy_from_slice(&((to - place) as u32).to_le_bytes());
}
