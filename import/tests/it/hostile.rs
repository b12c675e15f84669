//! Files made to run code, to read beyond their end, or to fill the memory: each is refused, or harmless.

use viseme_import::ImportError;
use viseme_import::checkpoint::Checkpoint;

use crate::seeds;
use crate::write::{Pickle, Tensor, pth, zip};

const NUMBERS: [f32; 6] = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];

fn refused(pickle: Vec<u8>) -> ImportError {
    Checkpoint::from_bytes(pth(pickle, &[("0", &NUMBERS)])).unwrap_err()
}

/// A file with one tensor.
fn with(tensor: Tensor) -> Result<Checkpoint, ImportError> {
    let pickle = Pickle::new().tensors(&[("t", tensor)]).end();
    Checkpoint::from_bytes(pth(pickle, &[("0", &NUMBERS)]))
}

/// Reads everything that a file offers.
fn read_all(bytes: Vec<u8>) -> bool {
    let length = bytes.len();
    let Ok(file) = Checkpoint::from_bytes(bytes) else {
        return false;
    };
    for (name, info) in file.tensors() {
        let Ok(values) = file.load(name) else {
            continue;
        };
        assert_eq!(values.len(), info.shape.iter().product::<usize>());
        assert!(values.len() <= length, "{name} is larger than the file");
    }
    true
}

#[test]
fn what_runs_code_is_refused_by_its_name() {
    let names = [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("__builtin__", "eval"),
        ("runpy", "_run_code"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("torch.serialization", "load"),
        ("torch._utils", "_import_dotted_name"),
        ("collections", "OrderedDict.fromkeys"),
        ("numpy", "load"),
        ("omegaconf", "os.system"),
        ("omegaconf.dictconfig", "DictConfig.x"),
        ("argparse", "FileType"),
        ("operator", "attrgetter"),
        ("viseme", "anything"),
    ];
    let weights = Tensor::f32("0", &[6]);
    for (module, name) in names {
        let expected = ImportError::Refused(format!("{module}.{name}"));
        let call = |p: Pickle| p.global(module, name).text("echo harm").raw(b"\x85R");
        let short = |text: &str| [&[0x8c, text.len() as u8], text.as_bytes()].concat();
        let by_stack = Pickle::new()
            .raw(&short(module))
            .raw(&short(name))
            .raw(b"\x93)R");
        let in_state = Pickle::new()
            .raw(b"}(")
            .text("w")
            .tensor(&weights)
            .text("x");
        let in_state = call(in_state).raw(b"u");
        let beside = Pickle::new().raw(b"}(").text("state_dict");
        let beside = call(beside.tensors(&[("w", weights.clone())]).text("x")).raw(b"u");
        let as_key = call(Pickle::new().raw(b"}")).tensor(&weights).raw(b"s");
        let as_hook = Pickle::new()
            .global("torch._utils", "_rebuild_parameter")
            .raw(b"(");
        let as_hook = call(as_hook.tensor(&weights)).raw(b"tR");
        let object = Pickle::new().global(module, name).raw(b")\x81}b");
        let old_object = Pickle::new().raw(format!("(i{module}\n{name}\n").as_bytes());
        let unused = Pickle::new().global(module, name).raw(b"0}");
        for (way, pickle) in [
            ("called", call(Pickle::new())),
            ("by the stack", by_stack),
            ("in the state dict", in_state),
            ("beside it", beside),
            ("as a key", as_key),
            ("as a hook", as_hook),
            ("as an object", object),
            ("as an old object", old_object),
            ("named only", unused),
        ] {
            assert_eq!(refused(pickle.end()), expected, "{way}");
        }
        let line = expected.to_string();
        assert!(line.contains(name) && line.contains("nothing was run") && !line.contains('\n'));
    }
    let extension = refused(Pickle::new().raw(b"\x82\x01)R").end());
    assert!(matches!(extension, ImportError::Refused(_)));
}

#[test]
fn what_is_inert_is_no_tensor() {
    let object = Pickle::new()
        .raw(b"}(")
        .text("w")
        .tensor(&Tensor::f32("0", &[6]));
    let object = object.text("x").global("argparse", "Namespace").raw(b")Ru");
    let error = refused(object.end());
    assert!(error.to_string().contains("x in the state dict"), "{error}");
    // Calls of what is no function.
    for callee in [b"N".as_slice(), b"K\x01", b"}", b"]", b")", b"X\x01\0\0\0a"] {
        let error = refused(Pickle::new().raw(callee).raw(b")R").end());
        assert!(matches!(error, ImportError::Damaged(_)), "{error}");
    }
}

#[test]
fn tensors_stay_in_their_storages() {
    let plain = Tensor::f32("0", &[2, 3]);
    assert!(with(plain.clone()).is_ok());
    let changed = |change: &dyn Fn(&mut Tensor)| {
        let mut tensor = plain.clone();
        change(&mut tensor);
        tensor
    };
    let cases: [(&str, Tensor); 20] = [
        ("a storage that claims more", changed(&|t| t.length = 7)),
        ("a storage of less", changed(&|t| t.length = 5)),
        (
            "a storage of another type",
            changed(&|t| t.class = "DoubleStorage"),
        ),
        ("no storage", changed(&|t| t.key = "1")),
        (
            "a storage outside of its folder",
            changed(&|t| t.key = "../data.pkl"),
        ),
        ("a negative storage", changed(&|t| t.length = -6)),
        ("an offset", changed(&|t| t.offset = 1)),
        ("a far offset", changed(&|t| t.offset = i64::MAX)),
        ("a negative offset", changed(&|t| t.offset = -1)),
        ("a negative size", changed(&|t| t.shape[0] = -2)),
        ("a large size", changed(&|t| t.shape[0] = i64::MAX)),
        (
            "sizes whose product overflows",
            changed(&|t| t.shape = vec![1 << 32, 1 << 32]),
        ),
        (
            "sizes whose product is 0 when it overflows",
            changed(&|t| t.shape = vec![1 << 62, 4]),
        ),
        ("a negative stride", changed(&|t| t.strides[1] = -1)),
        (
            "a stride that repeats",
            changed(&|t| t.strides = vec![0, 1]),
        ),
        ("strides that meet", changed(&|t| t.strides = vec![1, 1])),
        ("strides that overlap", changed(&|t| t.strides = vec![2, 1])),
        ("a stride too far", changed(&|t| t.strides = vec![4, 1])),
        (
            "a stride that overflows",
            changed(&|t| t.strides = vec![i64::MAX, 1]),
        ),
        ("too few strides", changed(&|t| t.strides = vec![1])),
    ];
    for (what, tensor) in cases {
        let error = with(tensor)
            .err()
            .unwrap_or_else(|| panic!("{what} is accepted"));
        assert!(matches!(error, ImportError::Damaged(_)), "{what}: {error}");
    }
    // Every dimension of a tensor costs memory, so their number is bounded.
    assert!(with(changed(&|t| (t.shape, t.strides) = (vec![1; 9], vec![1; 9]))).is_err());
}

#[test]
fn every_small_view_is_right_or_refused() {
    // All sizes, strides and offsets of two dimensions, against their meaning: element (i, j) is number o + i·s + j·r.
    for case in 0..5 * 5 * 7 * 7 * 7 {
        let [h, w] = [case % 5, case / 5 % 5];
        let [s, r, o] = [case / 25 % 7, case / 175 % 7, case / 1225];
        let tensor = Tensor {
            length: 6,
            offset: o,
            strides: vec![s, r],
            shape: vec![h, w],
            ..Tensor::f32("0", &[1])
        };
        let mut indices: Vec<i64> = Vec::new();
        (0..h).for_each(|i| indices.extend((0..w).map(|j| o + i * s + j * r)));
        let inside = indices.iter().all(|&index| index < 6);
        let mut apart = indices.clone();
        apart.sort_unstable();
        apart.dedup();
        let file = with(tensor);
        let shape = (h, w, s, r, o);
        if !inside || apart.len() < indices.len() {
            assert!(file.is_err(), "{shape:?}");
        } else if let Ok(file) = file {
            let expected: Vec<f32> = indices.iter().map(|&i| NUMBERS[i as usize]).collect();
            assert_eq!(file.load("t").unwrap(), expected, "{shape:?}");
        } else {
            // Steps that interleave without meeting are refused too; no program makes such a tensor. So is an empty one
            // that begins behind the end.
            let interleaves =
                h > 1 && w > 1 && s.min(r) * (if s < r { h } else { w } - 1) >= s.max(r);
            assert!(interleaves || o > 6, "{shape:?}");
        }
    }
}

#[test]
fn numbers_that_are_none_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let pickle = Pickle::new()
            .tensors(&[("layer.weight", Tensor::f32("0", &[2]))])
            .end();
        let file = Checkpoint::from_bytes(pth(pickle, &[("0", &[1.0, bad])])).unwrap();
        let error = file.load("layer.weight").unwrap_err().to_string();
        assert!(error.contains("layer.weight holds values"), "{error}");
    }
}

#[test]
fn archives_have_one_meaning() {
    let pickle = Pickle::new()
        .tensors(&[("t", Tensor::f32("0", &[6]))])
        .end();
    let good = pth(pickle.clone(), &[("0", &NUMBERS)]);
    assert!(read_all(good.clone()));
    let row = |bytes: &[u8], n: usize| {
        let rows = bytes.windows(4).enumerate();
        let mut rows = rows.filter(|(_, w)| *w == b"PK\x01\x02").map(|(at, _)| at);
        rows.nth(n).unwrap()
    };
    let changed = |offset: usize, value: &[u8]| {
        let mut bytes = good.clone();
        let at = row(&bytes, 2) + offset;
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    };
    let deflated = Checkpoint::from_bytes(changed(10, &[8])).unwrap_err();
    assert!(deflated.to_string().contains("compressed"), "{deflated}");
    let encrypted = Checkpoint::from_bytes(changed(8, &[1])).unwrap_err();
    assert!(encrypted.to_string().contains("encrypted"), "{encrypted}");
    let far = [0xff, 0xff, 0xff, 0x7f];
    for (what, bytes) in [
        ("sizes that differ", changed(20, &[1])),
        ("sizes beyond the file", changed(20, &[far, far].concat())),
        ("64-bit sizes that are not there", changed(20, &[0xff; 8])),
        ("a place beyond the file", changed(42, &far)),
        ("the place of another entry", changed(42, &[0; 4])),
        ("another disk", changed(34, &[1])),
        ("a longer name", changed(28, &[200])),
        ("something behind it", [good.as_slice(), b"x"].concat()),
        (
            "something before it",
            [b"PK\x03\x04".as_slice(), &good].concat(),
        ),
        (
            "the same entry twice",
            zip(&vec![("m/data.pkl".to_owned(), pickle.clone()); 2]),
        ),
        (
            "two checkpoints",
            zip(&[
                ("a/data.pkl".into(), pickle.clone()),
                ("b/data.pkl".into(), pickle.clone()),
            ]),
        ),
    ] {
        let error = Checkpoint::from_bytes(bytes).err();
        let error = error.unwrap_or_else(|| panic!("{what} is accepted"));
        assert!(matches!(error, ImportError::Damaged(_)), "{what}: {error}");
    }
}

#[test]
fn entries_do_not_overlap() {
    // An entry whose numbers contain another entry, header and all. As numbers they are read; as an entry they are not.
    let pickle = Pickle::new()
        .tensors(&[("t", Tensor::f32("0", &[1]))])
        .end();
    let inner = zip(&[("m/data/1".into(), vec![7; 4])]);
    let inner = inner[..30 + "m/data/1".len() + 4].to_vec();
    let entries = [
        ("m/data.pkl".to_owned(), pickle),
        ("m/data/0".to_owned(), inner),
    ];
    assert!(read_all(zip(&entries)));
    let with_row = [&entries[..], &[("m/data/1".into(), vec![7; 4])]].concat();
    let mut bytes = zip(&with_row);
    let find = |pattern: &[u8], n: usize| {
        let places = bytes.windows(4).enumerate();
        let mut places = places.filter(|(_, w)| *w == pattern).map(|(at, _)| at);
        places.nth(n).unwrap()
    };
    let (row, inside) = (find(b"PK\x01\x02", 2), find(b"PK\x03\x04", 2));
    assert!(Checkpoint::from_bytes(bytes.clone()).is_ok());
    bytes[row + 42..row + 46].copy_from_slice(&(inside as u32).to_le_bytes());
    let error = Checkpoint::from_bytes(bytes).unwrap_err();
    assert!(error.to_string().contains("overlap"), "{error}");
}

#[test]
fn endless_pickles_end() {
    // A dictionary that holds itself, and so do a tuple and the memo.
    let cycle = Pickle::new().raw(b"}q\x00X\x01\0\0\0ah\x00\x85q\x01sX\x0a\0\0\0state_dicth\x00s");
    assert!(
        refused(cycle.end())
            .to_string()
            .contains("holds no weights")
    );
    // Deep nesting, up to more instructions than any checkpoint has.
    for (open, close) in [
        (b"(".as_slice(), b"t".as_slice()),
        (b"]", b"a"),
        (b"}X\0\0\0\0", b"s"),
        (b"N\x85", b"0"),
    ] {
        for depth in [1000, 1 << 20] {
            let nested = Pickle::new().raw(&open.repeat(depth)).raw(b"}");
            let nested = nested.raw(&close.repeat(depth)).end();
            Checkpoint::from_bytes(pth(nested, &[])).unwrap_err();
        }
    }
    let copies = Pickle::new().raw(b"N").raw(&b"2".repeat(3 << 20)).end();
    assert!(
        refused(copies)
            .to_string()
            .contains("far more than weights")
    );
    // Lengths that the pickle does not have.
    for op in [
        b"X\xff\xff\xff\xff".as_slice(),
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8b\xff\xff\xff\x7f",
        b"B\xff\xff\xff\xff",
    ] {
        assert!(matches!(
            refused(Pickle::new().raw(op).end()),
            ImportError::Damaged(_)
        ));
    }
    // A stack or a memo that is used up.
    for op in [
        b"0".as_slice(),
        b"t",
        b"1",
        b"R",
        b"b",
        b"s",
        b"u",
        b"a",
        b"e",
        b"Q",
        b"2",
        b"q\x01",
        b"h\x01",
        b"\x87",
        b"\x93",
        b"(0",
        b"}(s",
    ] {
        let error = refused(Pickle::new().raw(op).end());
        assert!(matches!(error, ImportError::Damaged(_)), "{op:?}: {error}");
    }
}

#[test]
fn cut_files_are_refused() {
    for (name, bytes) in seeds::all() {
        assert!(read_all(bytes.clone()), "{name}");
        for length in 0..bytes.len() {
            assert!(
                !read_all(bytes[..length].to_vec()),
                "{name} cut at {length}"
            );
        }
    }
}

#[test]
fn every_single_byte_change_is_refused_or_harmless() {
    for (_, bytes) in seeds::all() {
        for at in 0..bytes.len() {
            for value in [
                0,
                1,
                0x7f,
                0x80,
                0xff,
                b'.',
                b'(',
                b'R',
                bytes[at] ^ 1,
                bytes[at] ^ 0x20,
                bytes[at].wrapping_add(1),
            ] {
                let mut changed = bytes.clone();
                changed[at] = value;
                read_all(changed);
            }
        }
    }
}

/// The JSON reader repeats the word that it does not know.
#[test]
fn what_a_header_says_stays_on_one_line() {
    let word = format!("U32\\n{}", "long ".repeat(1000));
    let json = format!(r#"{{"t":{{"dtype":"{word}","shape":[1],"data_offsets":[0,4]}}}}"#);
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.bytes());
    bytes.extend([0; 4]);
    let error = Checkpoint::from_bytes(bytes).unwrap_err().to_string();
    assert!(error.contains("list of tensors"), "{error}");
    assert!(!error.contains('\n') && error.len() < 400, "{error}");
}
