//! The classes and functions that a checkpoint may name. Whatever is not here is refused.

use super::DType;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// `torch._utils._rebuild_tensor`, and `_rebuild_tensor_v2`, whose further arguments do not change the numbers.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`.
    RebuildParameter,
    /// `collections.OrderedDict`.
    OrderedDict,
    /// A storage with numbers of this type.
    Storage(DType),
    /// Something that checkpoints hold beside weights. Its objects are placeholders.
    Inert,
}

/// What `module.name` stands for; `None` is to be refused.
pub fn find(module: &str, name: &str) -> Option<Class> {
    let class = match (module, name) {
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Class::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Class::RebuildParameter,
        ("collections", "OrderedDict") => Class::OrderedDict,
        ("torch", _) => match storage(name) {
            Some(dtype) => Class::Storage(dtype),
            None if INERT_TORCH.contains(&name) => Class::Inert,
            None => return None,
        },
        _ if INERT.contains(&(module, name)) => Class::Inert,
        _ => return None,
    };
    Some(class)
}

fn storage(name: &str) -> Option<DType> {
    let dtype = match name.strip_suffix("Storage")? {
        "Float" => DType::F32,
        "Half" => DType::F16,
        "BFloat16" => DType::Bf16,
        "Double" => DType::F64,
        "Long" => DType::I64,
        "Int" => DType::I32,
        "Short" => DType::I16,
        "Char" => DType::I8,
        "Byte" => DType::U8,
        "Bool" => DType::Bool,
        _ => return None,
    };
    Some(dtype)
}

const INERT_TORCH: [&str; 12] = [
    "Size", "device", "float32", "float16", "bfloat16", "float64", "int64", "int32", "int16",
    "int8", "uint8", "bool",
];

/// Options and counters of training programs: types of plain values, and the containers of argparse, OmegaConf and
/// Lightning. The names are exact, and each is a class that only holds values.
const INERT: [(&str, &str); 43] = [
    ("argparse", "Namespace"),
    ("builtins", "bool"),
    ("builtins", "bytearray"),
    ("builtins", "bytes"),
    ("builtins", "complex"),
    ("builtins", "dict"),
    ("builtins", "float"),
    ("builtins", "frozenset"),
    ("builtins", "int"),
    ("builtins", "list"),
    ("builtins", "set"),
    ("builtins", "str"),
    ("builtins", "tuple"),
    ("__builtin__", "dict"),
    ("__builtin__", "list"),
    ("__builtin__", "set"),
    ("_codecs", "encode"),
    ("collections", "defaultdict"),
    ("lightning.fabric.utilities.data", "AttributeDict"),
    ("lightning_fabric.utilities.data", "AttributeDict"),
    (
        "lightning.pytorch.callbacks.model_checkpoint",
        "ModelCheckpoint",
    ),
    ("lightning.pytorch.utilities.parsing", "AttributeDict"),
    (
        "pytorch_lightning.callbacks.model_checkpoint",
        "ModelCheckpoint",
    ),
    ("pytorch_lightning.utilities.parsing", "AttributeDict"),
    ("numpy", "dtype"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.multiarray", "scalar"),
    ("omegaconf.base", "ContainerMetadata"),
    ("omegaconf.base", "Metadata"),
    ("omegaconf.dictconfig", "DictConfig"),
    ("omegaconf.listconfig", "ListConfig"),
    ("omegaconf.nodes", "AnyNode"),
    ("omegaconf.nodes", "BooleanNode"),
    ("omegaconf.nodes", "FloatNode"),
    ("omegaconf.nodes", "IntegerNode"),
    ("omegaconf.nodes", "StringNode"),
    ("omegaconf.nodes", "ValueNode"),
    ("pathlib", "Path"),
    ("pathlib", "PosixPath"),
    ("pathlib", "PurePosixPath"),
    ("pathlib", "PureWindowsPath"),
    ("pathlib", "WindowsPath"),
    ("typing", "Any"),
];
