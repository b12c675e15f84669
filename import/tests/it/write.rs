//! Writes pickles, archives and safetensors files byte by byte, so that tests can have what no program would write.

use std::fmt::Write;

/// Instructions of a pickle, protocol 2.
#[derive(Clone)]
pub struct Pickle(pub Vec<u8>);

/// A tensor as `_rebuild_tensor_v2` gets it.
#[derive(Clone)]
pub struct Tensor {
    pub class: &'static str,
    pub key: &'static str,
    pub length: i64,
    pub offset: i64,
    pub shape: Vec<i64>,
    pub strides: Vec<i64>,
}

impl Tensor {
    /// f32 numbers of a storage, in order.
    pub fn f32(key: &'static str, shape: &[i64]) -> Self {
        let mut strides = vec![1; shape.len()];
        for d in (1..shape.len()).rev() {
            strides[d - 1] = strides[d] * shape[d];
        }
        Self {
            class: "FloatStorage",
            key,
            length: shape.iter().product(),
            offset: 0,
            shape: shape.to_vec(),
            strides,
        }
    }
}

impl Pickle {
    pub fn new() -> Self {
        Self(vec![0x80, 2])
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn text(self, text: &str) -> Self {
        let length = (text.len() as u32).to_le_bytes();
        self.raw(b"X").raw(&length).raw(text.as_bytes())
    }

    pub fn int(self, value: i64) -> Self {
        match i32::try_from(value) {
            Ok(value) => self.raw(b"J").raw(&value.to_le_bytes()),
            Err(_) => self.raw(&[0x8a, 8]).raw(&value.to_le_bytes()),
        }
    }

    pub fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    pub fn ints(self, values: &[i64]) -> Self {
        let all = values.iter().fold(self.raw(b"("), |p, &value| p.int(value));
        all.raw(b"t")
    }

    pub fn ordered_dict(self) -> Self {
        self.global("collections", "OrderedDict").raw(b")R")
    }

    pub fn tensor(self, t: &Tensor) -> Self {
        let id = self.global("torch._utils", "_rebuild_tensor_v2").raw(b"((");
        let id = id.text("storage").global("torch", t.class).text(t.key);
        let storage = id.text("cpu").int(t.length).raw(b"tQ");
        let sizes = storage.int(t.offset).ints(&t.shape).ints(&t.strides);
        sizes.raw(b"\x89").ordered_dict().raw(b"tR")
    }

    /// `{name: tensor, …}`
    pub fn tensors(self, tensors: &[(&str, Tensor)]) -> Self {
        let items = tensors
            .iter()
            .fold(self.raw(b"}("), |p, (name, t)| p.text(name).tensor(t));
        items.raw(b"u")
    }

    pub fn end(self) -> Vec<u8> {
        self.raw(b".").0
    }
}

/// An archive with the pickle and storages of f32 numbers.
pub fn pth(pickle: Vec<u8>, storages: &[(&str, &[f32])]) -> Vec<u8> {
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let storages = storages.iter();
    let storages = storages.map(|(key, values)| (format!("m/data/{key}"), bytes(values)));
    let mut entries = vec![
        ("m/data.pkl".to_owned(), pickle),
        ("m/byteorder".to_owned(), b"little".to_vec()),
    ];
    entries.extend(storages);
    zip(&entries)
}

/// An archive, with the 64-bit end of directory that PyTorch writes.
pub fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for (name, data) in entries {
        let (offset, size) = (out.len() as u32, data.len() as u32);
        let mut common = Vec::new();
        // Flags, method, time, date, checksum, sizes, length of the name, length of extra fields.
        for part in [0u16, 0, 0, 0, 0, 0] {
            common.extend(part.to_le_bytes());
        }
        common.extend([size.to_le_bytes(), size.to_le_bytes()].concat());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        out.extend(b"PK\x03\x04\0\0");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(data);
        directory.extend(b"PK\x01\x02\0\0\0\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (count, size, offset) = (
        entries.len() as u64,
        directory.len() as u64,
        out.len() as u64,
    );
    out.extend(directory);
    let end64 = out.len() as u64;
    out.extend(b"PK\x06\x06");
    out.extend(44u64.to_le_bytes());
    out.extend([0; 12]);
    for part in [count, count, size, offset] {
        out.extend(part.to_le_bytes());
    }
    out.extend(b"PK\x06\x07\0\0\0\0");
    out.extend(end64.to_le_bytes());
    out.extend([1, 0, 0, 0]);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([(count as u16).to_le_bytes(); 2].concat());
    out.extend((size as u32).to_le_bytes());
    out.extend((offset as u32).to_le_bytes());
    out.extend([0, 0]);
    out
}

/// A safetensors file of f32 tensors.
pub fn safetensors(tensors: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
    let (mut header, mut data) = (String::from("{"), Vec::new());
    for (i, (name, shape, values)) in tensors.iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        let from = data.len();
        data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        let to = data.len();
        let item = format!(
            r#"{comma}"{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{from},{to}]}}"#
        );
        header.write_str(&item).unwrap();
    }
    header.push('}');
    let length = (header.len() as u64).to_le_bytes();
    [length.to_vec(), header.into_bytes(), data].concat()
}
