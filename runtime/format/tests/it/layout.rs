//! The table of tensors.

use std::collections::BTreeMap;
use std::convert::Infallible;

use viseme_format::gguf::DType;
use viseme_format::layout;
use viseme_format::spec::Weights;

use crate::common;

type Table = BTreeMap<String, (Vec<usize>, DType)>;

fn checkpoint() -> Table {
    let mut table = Table::new();
    let visit = |name: &str, shape: &[usize]| -> Result<(), Infallible> {
        assert!(
            table
                .insert(name.into(), (shape.into(), DType::F32))
                .is_none(),
            "{name} twice"
        );
        Ok(())
    };
    layout::checkpoint(common::spec().conformer().unwrap(), visit).unwrap();
    table
}

fn model(weights: Weights) -> Table {
    let mut table = Table::new();
    let visit = |name: &str, shape: &[usize], dtype| -> Result<(), Infallible> {
        assert!(
            table.insert(name.into(), (shape.into(), dtype)).is_none(),
            "{name} twice"
        );
        Ok(())
    };
    layout::model(common::spec().conformer().unwrap(), weights, visit).unwrap();
    table
}

/// Counted by hand from the equations: d = 144, ff = 576, 4 heads, kernel 15, 5 blocks, stages 24, 48, 96.
#[test]
fn parameters_of_a_checkpoint() {
    let (d, ff) = (144, 576);
    let norm = 2 * d;
    let feed_forward = norm + (d * ff + ff) + (ff * d + d);
    let attention = norm + 4 * (d * d + d) + d * d + 2 * d;
    let convolution = norm + (d * 2 * d + 2 * d) + (d * 15 + d) + 4 * d + (d * d + d);
    let block = 2 * feed_forward + attention + convolution + norm;
    let convs = 24 * 8 * 8 * 3 + 48 * 4 * 4 * 24 + 96 * 4 * 4 * 48;
    let frontend = convs + 4 * (24 + 48 + 96) + (4 * 4 * 96 * d + d);
    let head = norm + 5 * d + 5;
    let counted: usize = checkpoint()
        .values()
        .map(|(shape, _)| shape.iter().product::<usize>())
        .sum();
    assert_eq!(counted, frontend + 5 * block + head);
}

#[test]
fn an_f32_model_is_the_checkpoint_without_batch_norms() {
    let mut expected = checkpoint();
    expected.retain(|name, _| !name.contains(".bn."));
    for (index, channels) in [24, 48, 96].into_iter().enumerate() {
        expected.insert(
            format!("frontend.conv.{index}.bias"),
            (vec![channels], DType::F32),
        );
    }
    // Channels of a tap beside each other, as the engine reads them.
    for (name, (shape, _)) in &mut expected {
        if name.ends_with("conv.depthwise.weight") {
            shape.reverse();
        }
    }
    assert_eq!(model(Weights::F32), expected);
}

#[test]
fn an_int8_model_has_scales_and_sums_beside_its_panels() {
    let table = model(Weights::Int8);
    let get = |name: &str| table.get(name).cloned();
    assert_eq!(
        get("frontend.conv.1.weight"),
        Some((vec![3, 4 * 4 * 24 / 4, 16, 4], DType::I8))
    );
    assert_eq!(
        get("frontend.proj.weight"),
        Some((vec![9, 384, 16, 4], DType::I8))
    );
    assert_eq!(
        get("encoder.4.conv.pointwise1.weight"),
        Some((vec![18, 36, 16, 4], DType::I8))
    );
    assert_eq!(
        get("encoder.4.conv.pointwise1.scale"),
        Some((vec![288], DType::F32))
    );
    assert_eq!(
        get("encoder.4.conv.pointwise1.colsum"),
        Some((vec![288], DType::I32))
    );
    assert_eq!(
        get("encoder.4.conv.pointwise1.bias"),
        Some((vec![288], DType::F32))
    );
    for small in [
        "att.pos.weight",
        "conv.depthwise.weight",
        "att.bias_u",
        "norm.weight",
    ] {
        assert_eq!(
            get(&format!("encoder.0.{small}")).unwrap().1,
            DType::F32,
            "{small}"
        );
    }
    assert_eq!(get("encoder.0.att.pos.scale"), None);
    assert_eq!(get("encoder.5.norm.weight"), None);

    // Nothing else differs from the f32 model.
    let quantised = table.keys().filter(|name| name.ends_with(".scale")).count();
    assert_eq!(quantised, 3 + 1 + 5 * 10 + 1);
    assert_eq!(table.len(), model(Weights::F32).len() + 2 * quantised);
}

#[test]
fn an_int4_model_differs_from_int8_in_the_matrices_of_its_blocks() {
    let (int8, int4) = (model(Weights::Int8), model(Weights::Int4));
    assert!(int8.keys().eq(int4.keys()));
    let differ: Vec<&String> = int8
        .keys()
        .filter(|&name| int8[name] != int4[name])
        .collect();
    // Ten matrices a block: four of the feed-forward layers, four of attention, two of the convolution.
    assert_eq!(differ.len(), 5 * 10);
    let is_one = |name: &&String| name.starts_with("encoder.") && name.ends_with(".weight");
    assert!(differ.iter().all(is_one), "{differ:?}");
    let shape = |name: &str| int4[name].0.clone();
    assert_eq!(shape("encoder.4.ff1.down.weight"), [9, 72, 16, 4]);
    assert_eq!(shape("encoder.4.conv.pointwise1.weight"), [18, 18, 16, 4]);
    assert_eq!(shape("frontend.proj.weight"), [9, 384, 16, 4]);

    let mut matrices = Vec::new();
    let visit = |name: &str, shape: &[usize]| -> Result<(), Infallible> {
        if layout::stored(Weights::Int4, name) == Weights::Int4 {
            matrices.push((name.to_owned(), shape.to_vec()));
        }
        Ok(())
    };
    layout::matrices(common::spec().conformer().unwrap(), visit).unwrap();
    let checkpoint = checkpoint();
    assert_eq!(matrices.len(), differ.len());
    for (name, shape) in matrices {
        assert!(
            differ.contains(&&name) && checkpoint[&name].0 == shape,
            "{name}"
        );
    }
}

#[test]
fn an_error_ends_the_walk() {
    let mut visited = 0;
    let result = layout::checkpoint(common::spec().conformer().unwrap(), |_, _| {
        visited += 1;
        if visited == 3 { Err("enough") } else { Ok(()) }
    });
    assert_eq!((result, visited), (Err("enough"), 3));
}
