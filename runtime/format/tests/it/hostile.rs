//! Files that lie. They are put together byte by byte here, not by the writer, which would refuse.

use viseme_format::gguf::*;

use crate::common;

/// The parts of a GGUF file, each of which a test may falsify.
#[derive(Clone)]
struct Raw {
    magic: [u8; 4],
    version: u32,
    tensor_count: u64,
    key_count: u64,
    entries: Vec<u8>,
    infos: Vec<u8>,
    header_padding: u8,
    data: Vec<u8>,
}

const STR: u32 = 8;
const ARRAY: u32 = 9;
const U32: u32 = 4;
const F32: u32 = 0;
const I8: u32 = 24;

impl Raw {
    /// Nothing but the alignment (8, so that files stay small).
    fn new() -> Self {
        let raw = Self {
            magic: *b"GGUF",
            version: 3,
            tensor_count: 0,
            key_count: 0,
            entries: vec![],
            infos: vec![],
            header_padding: 0,
            data: vec![],
        };
        raw.key(KEY_ALIGNMENT, U32, &8u32.to_le_bytes())
    }

    fn key(mut self, key: impl AsRef<[u8]>, kind: u32, value: &[u8]) -> Self {
        self.key_count += 1;
        self.entries.extend(string(key.as_ref()));
        self.entries.extend(kind.to_le_bytes());
        self.entries.extend(value);
        self
    }

    fn info(mut self, name: impl AsRef<[u8]>, dims: &[u64], dtype: u32, offset: u64) -> Self {
        self.tensor_count += 1;
        self.infos.extend(string(name.as_ref()));
        self.infos.extend((dims.len() as u32).to_le_bytes());
        self.infos
            .extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
        self.infos.extend(dtype.to_le_bytes());
        self.infos.extend(offset.to_le_bytes());
        self
    }

    fn data(mut self, data: &[u8]) -> Self {
        self.data = data.to_vec();
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.tensor_count.to_le_bytes());
        bytes.extend(self.key_count.to_le_bytes());
        bytes.extend(&self.entries);
        bytes.extend(&self.infos);
        bytes.resize(bytes.len().next_multiple_of(8), self.header_padding);
        bytes.extend(&self.data);
        bytes
    }

    #[track_caller]
    fn refused(&self, error: Error) {
        assert_eq!(Reader::open(&self.bytes()).unwrap_err(), error);
    }
}

/// A length-prefixed string.
fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

/// One 2x4 I8 tensor of 8 bytes: exactly one unit of alignment.
fn one_tensor() -> Raw {
    Raw::new().info("a", &[4, 2], I8, 0).data(&[1; 8])
}

#[test]
fn the_unspoilt_file_is_accepted() {
    let bytes = one_tensor().bytes();
    let file = Reader::open(&bytes).unwrap();
    assert_eq!((file.alignment(), file.data()), (8, [1; 8].as_slice()));
    assert!(file.tensor("a").unwrap().has_shape(&[2, 4]));
    assert_eq!(file.verify(), Err(Error::NoDigest));
    assert!(Reader::open(&Raw::new().bytes()).unwrap().data().is_empty());
}

#[test]
fn every_truncation_of_a_model_is_refused() {
    let bytes = common::file();
    for len in 0..bytes.len() {
        let error = Reader::open(&bytes[..len]).expect_err("a part of a file was accepted");
        let expected = if len < 4 {
            Error::NotGguf
        } else {
            Error::Truncated
        };
        assert_eq!(error, expected, "of length {len}");
    }
}

#[test]
fn every_single_byte_change_is_refused_or_harmless() {
    let original = common::file();
    for at in 0..original.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = original.clone();
            bytes[at] ^= flip;
            let Ok(file) = Reader::open(&bytes) else {
                continue;
            };
            // What is accepted stays within its bounds and can be walked to the end.
            assert_eq!(file.tensors().count(), file.tensor_count());
            assert_eq!(file.entries().count(), file.key_count());
            for tensor in file.tensors() {
                assert_eq!(tensor.elements() * tensor.dtype.size(), tensor.data.len());
            }
            let in_data = at >= bytes.len() - file.data().len();
            assert_eq!(
                file.verify().is_err(),
                in_data || file.value(KEY_SHA256) != digest(&original)
            );
        }
    }
}

fn digest(bytes: &[u8]) -> Option<Value<'_>> {
    Reader::open(bytes).unwrap().value(KEY_SHA256)
}

#[test]
fn header() {
    Raw {
        magic: *b"GGML",
        ..one_tensor()
    }
    .refused(Error::NotGguf);
    Raw {
        version: 2,
        ..one_tensor()
    }
    .refused(Error::Version(2));
    Raw {
        version: 3 << 24,
        ..one_tensor()
    }
    .refused(Error::BigEndian);
    assert_eq!(Reader::open(&[]).unwrap_err(), Error::NotGguf);
    assert_eq!(Reader::open(b"GGUF").unwrap_err(), Error::Truncated);
}

#[test]
fn counts() {
    for count in [MAX_TENSORS as u64 + 1, u64::MAX] {
        Raw {
            tensor_count: count,
            ..one_tensor()
        }
        .refused(Error::TooManyTensors(count));
    }
    for count in [MAX_KEYS as u64 + 1, u64::MAX] {
        Raw {
            key_count: count,
            ..one_tensor()
        }
        .refused(Error::TooManyKeys(count));
    }
    Raw {
        tensor_count: 2,
        ..one_tensor().data(&[0; 8])
    }
    .refused(Error::EmptyName); // the zeros that follow
    Raw {
        tensor_count: 0,
        ..one_tensor()
    }
    .refused(Error::TrailingBytes);
}

#[test]
fn the_limits_themselves_are_accepted() {
    let mut raw = Raw::new();
    for index in 1..MAX_KEYS {
        raw = raw.key(format!("{index}"), U32, &[0; 4]);
    }
    for index in 0..MAX_TENSORS {
        raw = raw.info(format!("{index}"), &[1], I8, index as u64 * 8);
    }
    let bytes = raw.data(&[0; MAX_TENSORS * 8]).bytes();
    let file = Reader::open(&bytes).unwrap();
    assert_eq!(
        (file.entries().count(), file.tensors().count()),
        (MAX_KEYS, MAX_TENSORS)
    );
}

#[test]
fn strings() {
    let long = |len: u64| Raw::new().key("k", STR, &len.to_le_bytes());
    for len in [MAX_STRING_LEN as u64 + 1, u64::from(u32::MAX), u64::MAX] {
        long(len).refused(Error::StringTooLong(len));
    }
    long(100).refused(Error::Truncated);
    Raw::new()
        .key("k", STR, &string(b"\xff"))
        .refused(Error::NotUtf8);
    // A surrogate half and an overlong slash: the classic ways around a check.
    Raw::new()
        .key("k", STR, &string(b"\xed\xa0\x80"))
        .refused(Error::NotUtf8);
    Raw::new()
        .key(b"\xc0\xaf", U32, &[0; 4])
        .refused(Error::NotUtf8);
    one_tensor()
        .info(b"\x80", &[8], I8, 8)
        .data(&[1; 16])
        .refused(Error::NotUtf8);
}

#[test]
fn names() {
    Raw::new().key("", U32, &[0; 4]).refused(Error::EmptyName);
    Raw::new()
        .info("", &[8], I8, 0)
        .data(&[1; 8])
        .refused(Error::EmptyName);
    let key = "k".repeat(MAX_KEY_LEN + 1);
    Raw::new()
        .key(&key, U32, &[0; 4])
        .refused(Error::StringTooLong(key.len() as u64));
    let name = "n".repeat(MAX_NAME_LEN + 1);
    Raw::new()
        .info(&name, &[8], I8, 0)
        .data(&[1; 8])
        .refused(Error::StringTooLong(name.len() as u64));
}

#[test]
fn duplicates() {
    Raw::new()
        .key("k", U32, &[0; 4])
        .key("j", U32, &[0; 4])
        .key("k", STR, &[0; 8])
        .refused(Error::DuplicateKey(3));
    Raw::new()
        .key(KEY_ALIGNMENT, U32, &8u32.to_le_bytes())
        .refused(Error::DuplicateKey(1));
    let two = |second| {
        one_tensor()
            .info("b", &[8], I8, 8)
            .info(second, &[8], I8, 16)
            .data(&[1; 24])
    };
    two("a").refused(Error::DuplicateTensor(2));
    two("b").refused(Error::DuplicateTensor(2));
    assert!(Reader::open(&two("aa").bytes()).is_ok());
}

#[test]
fn values() {
    Raw::new()
        .key("k", 13, &[0; 8])
        .refused(Error::UnknownValueType(13));
    Raw::new()
        .key("k", u32::MAX, &[0; 8])
        .refused(Error::UnknownValueType(u32::MAX));
    Raw::new().key("k", 7, &[2]).refused(Error::BadBool(2));
}

#[test]
fn arrays() {
    let array = |element: u32, len: u64, rest: &[u8]| {
        let value = [&element.to_le_bytes(), len.to_le_bytes().as_slice(), rest].concat();
        Raw::new().key("k", ARRAY, &value)
    };
    for len in [MAX_ARRAY_LEN as u64 + 1, 1 << 62, u64::MAX] {
        array(U32, len, &[]).refused(Error::ArrayTooLong(len));
    }
    array(U32, 3, &[0; 1]).refused(Error::Truncated);
    array(ARRAY, 1, &[0; 64]).refused(Error::NestedArray);
    array(99, 0, &[]).refused(Error::UnknownValueType(99));
    array(STR, 2, &[string(b"ok"), string(b"\xff")].concat()).refused(Error::NotUtf8);
    array(
        STR,
        2,
        &[string(b"ok"), u64::MAX.to_le_bytes().to_vec()].concat(),
    )
    .refused(Error::StringTooLong(u64::MAX));
    array(7, 3, &[0, 1, 2]).refused(Error::BadBool(2));
}

#[test]
fn header_length() {
    let text = string(&[b'x'; MAX_STRING_LEN]);
    let mut raw = Raw::new();
    for index in 0..65 {
        raw = raw.key(format!("{index}"), STR, &text);
    }
    raw.refused(Error::HeaderTooLong);
}

#[test]
fn alignment() {
    let with = |kind, value: &[u8]| {
        let mut raw = Raw {
            entries: vec![],
            key_count: 0,
            ..one_tensor()
        };
        raw = raw.key(KEY_ALIGNMENT, kind, value);
        raw.refused(Error::BadAlignment);
    };
    for number in [0, 1, 4, 7, 24, 8192, u32::MAX] {
        with(U32, &number.to_le_bytes());
    }
    with(10, &8u64.to_le_bytes());
    with(STR, &string(b"8"));
}

#[test]
fn shapes() {
    let one = |dims: &[u64]| Raw::new().info("a", dims, F32, 0).data(&[1; 8]);
    one(&[]).refused(Error::BadRank(0));
    one(&[1; 5]).refused(Error::BadRank(0));
    one(&[4, 0]).refused(Error::BadShape(0));
    one(&[0, u64::MAX, u64::MAX]).refused(Error::BadShape(0));
    one(&[u64::MAX]).refused(Error::BadShape(0)); // times 4 bytes
    one(&[1 << 32, 1 << 32]).refused(Error::BadShape(0));
    one(&[1 << 62, 2, 2]).refused(Error::BadShape(0)); // wraps to 0
    one(&[(1 << 62) + 2]).refused(Error::BadShape(0)); // times 4 wraps to 8
    one(&[1 << 61]).refused(Error::Truncated); // could be, is not there
    one(&[3]).refused(Error::Truncated);
    let mut rank = Raw::new();
    rank.tensor_count = 1;
    rank.infos = [string(b"a"), u32::MAX.to_le_bytes().to_vec(), vec![0; 64]].concat();
    rank.refused(Error::BadRank(0));
    // The sum over tensors overflows, though each one alone could be.
    Raw::new()
        .info("a", &[1 << 62], I8, 0)
        .info("b", &[3 << 62], I8, 1 << 62)
        .refused(Error::BadShape(1));
}

#[test]
fn types() {
    for number in [2, 3, 8, 23, 29, 39, u32::MAX] {
        Raw::new()
            .info("a", &[8], number, 0)
            .data(&[1; 32])
            .refused(Error::UnknownTensorType(number));
    }
}

#[test]
fn offsets() {
    let second = |offset| one_tensor().info("b", &[8], I8, offset).data(&[1; 16]);
    assert!(Reader::open(&second(8).bytes()).is_ok());
    second(0).refused(Error::Overlap(1));
    second(4).refused(Error::Misaligned(1));
    second(16).refused(Error::Gap(1));
    second(u64::MAX - 7).refused(Error::Gap(1)); // would wrap around
    second(1 << 40).refused(Error::Gap(1));
    Raw::new()
        .info("a", &[8], I8, 8)
        .data(&[1; 16])
        .refused(Error::Gap(0));
    // An overlap that only the unpadded end shows: 9 bytes, the next at 8.
    Raw::new()
        .info("a", &[9], I8, 0)
        .info("b", &[8], I8, 8)
        .data(&[1; 24])
        .refused(Error::Overlap(1));
}

#[test]
fn hidden_bytes() {
    one_tensor().data(&[1; 16]).refused(Error::TrailingBytes);
    one_tensor().data(&[1; 9]).refused(Error::TrailingBytes);
    Raw {
        header_padding: 1,
        ..one_tensor()
    }
    .refused(Error::DirtyPadding);
    let padded = |tail| {
        Raw::new()
            .info("a", &[5], I8, 0)
            .data(&[1, 1, 1, 1, 1, 0, 0, tail])
    };
    assert!(Reader::open(&padded(0).bytes()).is_ok());
    padded(1).refused(Error::DirtyPadding);
}

#[test]
fn digests() {
    // sha256sum of eight bytes 0x01.
    let right = "04abc8821a06e5a30937967d11ad10221cb5ac3b5273e434f1284ee87129a061";
    let verify = |kind, value: &[u8]| {
        let bytes = one_tensor().key(KEY_SHA256, kind, value).bytes();
        Reader::open(&bytes).unwrap().verify()
    };
    assert_eq!(verify(STR, &string(right.as_bytes())), Ok(()));
    assert_eq!(
        verify(STR, &string(right.replace('4', "5").as_bytes())),
        Err(Error::DigestMismatch)
    );
    assert_eq!(
        verify(STR, &string(right.to_uppercase().as_bytes())),
        Err(Error::NoDigest)
    );
    assert_eq!(
        verify(STR, &string(&right.as_bytes()[..63])),
        Err(Error::NoDigest)
    );
    assert_eq!(verify(U32, &[0; 4]), Err(Error::NoDigest));
}

#[test]
fn finite() {
    let tensor = |dtype: u32, data: &[u8]| {
        let mut padded = data.to_vec();
        padded.resize(data.len().next_multiple_of(8), 0);
        let size = DType::from_u32(dtype).unwrap().size();
        let bytes = Raw::new()
            .info("a", &[(data.len() / size) as u64], dtype, 0)
            .data(&padded)
            .bytes();
        Reader::open(&bytes).unwrap().tensor("a").unwrap().finite()
    };
    for (value, finite) in [
        (f32::MAX, true),
        (f32::NAN, false),
        (f32::INFINITY, false),
        (-0.0, true),
    ] {
        assert_eq!(
            tensor(F32, &[1f32.to_le_bytes(), value.to_le_bytes()].concat()),
            finite,
            "{value}"
        );
    }
    assert!(tensor(28, &f64::MIN.to_le_bytes()) && !tensor(28, &f64::NEG_INFINITY.to_le_bytes()));
    assert!(tensor(1, &[0xff, 0x7b]) && !tensor(1, &[0x00, 0x7c]) && !tensor(1, &[0x01, 0xfe]));
    assert!(tensor(I8, &[0xff]));
}
