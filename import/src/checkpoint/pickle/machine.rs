//! The machine's stack, memo and instructions.

use std::collections::HashMap;

use super::classes::{self, Class};
use super::{Rebuilt, Storage};
use crate::ImportError;
use crate::error::shown;

/// Most instructions of a pickle, and so most values: the largest Auto-AVSR has 80 thousand, and three times as many with
/// its optimiser's state.
const MOST_STEPS: usize = 1 << 21;

/// Most dimensions of a tensor.
const MOST_DIMENSIONS: usize = 8;

/// A value. Those that hold others are places in the machine's lists.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// An integer; those beyond 64 bits are inert.
    Int(i64),
    /// Text.
    Text(&'a str),
    /// A tuple.
    Tuple(usize),
    /// A dictionary, ordered or not.
    Dict(usize),
    /// A class or function that is known.
    Class(Class),
    /// What a persistent id names.
    Storage(Storage<'a>),
    /// A tensor.
    Tensor(usize),
    /// Anything else: `None`, numbers, bytes, lists, sets, objects. Nothing asks for their content.
    Inert,
}

/// A dictionary: what has text for a key, in the order of insertion.
#[derive(Debug, Default)]
pub struct Dict<'a> {
    /// Keys and values.
    pub items: Vec<(&'a str, Value<'a>)>,
    /// Whether there were other keys.
    pub other_keys: bool,
}

/// The machine.
#[derive(Debug)]
pub struct Machine<'a> {
    code: Code<'a>,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    tuples: Vec<Vec<Value<'a>>>,
    dicts: Vec<Dict<'a>>,
    tensors: Vec<Rebuilt<'a>>,
}

impl<'a> Machine<'a> {
    /// Runs a whole pickle. Gives its value, and the machine that holds its parts.
    ///
    /// # Errors
    /// As [`super::super::Checkpoint::from_bytes`].
    pub fn run(pickle: &'a [u8]) -> Result<(Self, Value<'a>), ImportError> {
        let mut machine = Self {
            code: Code(pickle),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            tuples: Vec::new(),
            dicts: Vec::new(),
            tensors: Vec::new(),
        };
        for _ in 0..MOST_STEPS {
            let op = machine.code.u8()?;
            if op == b'.' {
                let root = machine.pop()?;
                return match machine.stack.is_empty() && machine.code.0.is_empty() {
                    true => Ok((machine, root)),
                    false => Err(damaged("something is left over after its pickle")),
                };
            }
            machine.step(op)?;
        }
        Err(ImportError::Unsupported(
            "this checkpoint holds far more than weights; save the model's state_dict() alone"
                .into(),
        ))
    }

    /// A dictionary of this run.
    pub fn dict(&self, place: usize) -> &Dict<'a> {
        &self.dicts[place]
    }

    /// A tensor of this run.
    pub fn tensor(&self, place: usize) -> &Rebuilt<'a> {
        &self.tensors[place]
    }

    fn step(&mut self, op: u8) -> Result<(), ImportError> {
        let value = match op {
            // Framing.
            0x80 => return self.protocol(),
            0x95 => return self.code.take(8).map(drop),
            // The stack.
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(());
            }
            b'0' => return self.pop().map(drop),
            b'1' => return self.pop_mark().map(drop),
            b'2' => self.top()?,
            // The memo.
            b'q' => return self.remember(|code| code.u8().map(u32::from)),
            b'r' => return self.remember(Code::u32),
            0x94 => {
                let next = self.memo.len() as u32;
                return self.remember(|_| Ok(next));
            }
            b'h' => {
                let key = self.code.u8()?;
                self.recall(key.into())?
            }
            b'j' => {
                let key = self.code.u32()?;
                self.recall(key)?
            }
            // Plain values.
            b'N' | 0x88 | 0x89 => Value::Inert,
            b'K' => Value::Int(self.code.u8()?.into()),
            b'M' => Value::Int(self.code.array().map(u16::from_le_bytes)?.into()),
            b'J' => Value::Int(self.code.array().map(i32::from_le_bytes)?.into()),
            0x8a => {
                let length = self.code.u8()?;
                integer(self.code.take(length.into())?)
            }
            0x8b => {
                let length = self.code.u32()?;
                integer(self.code.take(length as usize)?)
            }
            b'G' => {
                self.code.take(8)?;
                Value::Inert
            }
            0x8c | b'U' => {
                let length = self.code.u8()?;
                self.text(op, length.into())?
            }
            b'X' | b'T' => {
                let length = self.code.u32()?;
                self.text(op, length.into())?
            }
            0x8d => {
                let length = self.code.u64()?;
                self.text(op, length)?
            }
            b'C' => {
                let length = self.code.u8()?;
                self.bytes(length.into())?
            }
            b'B' => {
                let length = self.code.u32()?;
                self.bytes(length.into())?
            }
            0x8e | 0x96 => {
                let length = self.code.u64()?;
                self.bytes(length)?
            }
            // Tuples.
            b')' => self.tuple(Vec::new()),
            0x85..=0x87 => {
                let mut items = Vec::new();
                for _ in 0..op - 0x84 {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.tuple(items)
            }
            b't' => {
                let items = self.pop_mark()?;
                self.tuple(items)
            }
            // Lists and sets.
            b']' | 0x8f => Value::Inert,
            b'l' | 0x91 => {
                self.pop_mark()?;
                Value::Inert
            }
            b'a' => {
                self.pop()?;
                return self.expect_inert();
            }
            b'e' | 0x90 => {
                self.pop_mark()?;
                return self.expect_inert();
            }
            // Dictionaries.
            b'}' => self.new_dict(),
            b'd' => {
                let items = self.pop_mark()?;
                let dict = self.new_dict();
                self.insert(dict, &items)?;
                dict
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                let dict = self.top()?;
                return self.insert(dict, &[key, value]);
            }
            b'u' => {
                let items = self.pop_mark()?;
                let dict = self.top()?;
                return self.insert(dict, &items);
            }
            // Classes, and what is made of them.
            b'c' => {
                let (module, name) = (self.code.line()?, self.code.line()?);
                class(module, name)?
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => class(module, name)?,
                _ => return Err(damaged("its pickle names a class by what is no name")),
            },
            b'i' => {
                let (module, name) = (self.code.line()?, self.code.line()?);
                return Err(refused(module, name));
            }
            b'Q' => {
                let id = self.pop()?;
                self.storage(id)?
            }
            b'R' | 0x81 => {
                let (arguments, class) = (self.pop()?, self.pop()?);
                self.call(class, arguments)?
            }
            0x92 => {
                self.pop()?;
                let (arguments, class) = (self.pop()?, self.pop()?);
                self.call(class, arguments)?
            }
            b'b' => {
                self.pop()?;
                return match self.top()? {
                    // Attributes, such as the versions that PyTorch keeps in `_metadata`.
                    Value::Dict(_) | Value::Inert => Ok(()),
                    _ => Err(damaged("its pickle gives attributes to what has none")),
                };
            }
            0x82..=0x84 => return Err(refused("copyreg", "an extension")),
            _ => {
                return Err(ImportError::Unsupported(format!(
                    "its pickle has the instruction 0x{op:02x}, which torch.save does not write; the file is damaged, or \
                     written by another program"
                )));
            }
        };
        self.stack.push(value);
        Ok(())
    }

    fn protocol(&mut self) -> Result<(), ImportError> {
        match self.code.u8()? {
            2..=5 => Ok(()),
            _ => Err(damaged("its pickle has an unknown protocol")),
        }
    }

    /// The topmost value, which a mark protects.
    fn pop(&mut self) -> Result<Value<'a>, ImportError> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    fn top(&self) -> Result<Value<'a>, ImportError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let values = &self.stack[floor..];
        values
            .last()
            .copied()
            .ok_or_else(|| damaged("its pickle takes a value that is not there"))
    }

    /// The values above the last mark, which goes.
    fn pop_mark(&mut self) -> Result<Vec<Value<'a>>, ImportError> {
        let mark = self.marks.pop();
        let mark = mark.ok_or_else(|| damaged("its pickle takes a mark that is not there"))?;
        Ok(self.stack.split_off(mark))
    }

    fn expect_inert(&self) -> Result<(), ImportError> {
        match self.top()? {
            Value::Inert => Ok(()),
            _ => Err(damaged("its pickle appends to what is no list")),
        }
    }

    fn remember(
        &mut self,
        key: impl FnOnce(&mut Code<'a>) -> Result<u32, ImportError>,
    ) -> Result<(), ImportError> {
        let key = key(&mut self.code)?;
        let value = self.top()?;
        self.memo.insert(key, value);
        Ok(())
    }

    fn recall(&self, key: u32) -> Result<Value<'a>, ImportError> {
        let value = self.memo.get(&key).copied();
        value.ok_or_else(|| damaged("its pickle recalls a value that is not there"))
    }

    /// Text; strings of Python 2 (`T`, `U`) may be bytes.
    fn text(&mut self, op: u8, length: u64) -> Result<Value<'a>, ImportError> {
        let bytes = self.code.long(length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::Text(text)),
            Err(_) if matches!(op, b'T' | b'U') => Ok(Value::Inert),
            Err(_) => Err(damaged("a name in its pickle is no text")),
        }
    }

    fn bytes(&mut self, length: u64) -> Result<Value<'a>, ImportError> {
        self.code.long(length).map(|_| Value::Inert)
    }

    fn tuple(&mut self, items: Vec<Value<'a>>) -> Value<'a> {
        self.tuples.push(items);
        Value::Tuple(self.tuples.len() - 1)
    }

    fn new_dict(&mut self) -> Value<'a> {
        self.dicts.push(Dict::default());
        Value::Dict(self.dicts.len() - 1)
    }

    fn insert(&mut self, dict: Value<'a>, items: &[Value<'a>]) -> Result<(), ImportError> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(damaged("its pickle has a key without a value"));
        }
        match dict {
            Value::Inert => {}
            Value::Dict(dict) => {
                let dict = &mut self.dicts[dict];
                for &[key, value] in pairs {
                    match key {
                        Value::Text(key) => dict.items.push((key, value)),
                        _ => dict.other_keys = true,
                    }
                }
            }
            _ => return Err(damaged("its pickle puts items into what is no dictionary")),
        }
        Ok(())
    }

    /// What comes of calling `class`, or of making an object of it.
    fn call(&mut self, class: Value<'a>, arguments: Value<'a>) -> Result<Value<'a>, ImportError> {
        let Value::Tuple(arguments) = arguments else {
            return Err(damaged("its pickle calls with what are no arguments"));
        };
        match class {
            Value::Class(Class::Inert) => Ok(Value::Inert),
            Value::Class(Class::OrderedDict) => match self.tuples[arguments].is_empty() {
                true => Ok(self.new_dict()),
                // A list of pairs, as Python 2 wrote it. Nothing of interest was ever written so by PyTorch 1.6.
                false => Ok(Value::Inert),
            },
            Value::Class(Class::RebuildTensor) => self.tensor_of(arguments),
            Value::Class(Class::RebuildParameter) => match self.tuples[arguments].first() {
                Some(&tensor @ Value::Tensor(_)) => Ok(tensor),
                _ => Err(damaged("a parameter in its pickle is no tensor")),
            },
            Value::Class(Class::Storage(_)) => Err(damaged("its pickle calls a type of storage")),
            _ => Err(damaged("its pickle calls what is no function")),
        }
    }

    /// `(storage, offset, size, stride, …)`; what follows says whether gradients are kept.
    fn tensor_of(&mut self, arguments: usize) -> Result<Value<'a>, ImportError> {
        let [
            Value::Storage(storage),
            Value::Int(offset),
            Value::Tuple(shape),
            Value::Tuple(strides),
            ..,
        ] = self.tuples[arguments][..]
        else {
            return Err(damaged(
                "a tensor in its pickle lacks its storage, size or stride",
            ));
        };
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        if shape.len() != strides.len() {
            return Err(damaged(
                "a tensor in its pickle has sizes and strides that do not match",
            ));
        }
        let offset = size(Value::Int(offset))?;
        self.tensors.push(Rebuilt {
            storage,
            offset,
            shape,
            strides,
        });
        Ok(Value::Tensor(self.tensors.len() - 1))
    }

    fn sizes(&self, tuple: usize) -> Result<Vec<usize>, ImportError> {
        let items = &self.tuples[tuple];
        match items.len() <= MOST_DIMENSIONS {
            true => items.iter().map(|&item| size(item)).collect(),
            false => Err(damaged(format!(
                "a tensor in its pickle has {} dimensions",
                items.len()
            ))),
        }
    }

    /// `("storage", type, key, device, length)`.
    fn storage(&self, id: Value<'a>) -> Result<Value<'a>, ImportError> {
        let wrong = || damaged("its pickle refers to something that is no storage");
        let Value::Tuple(id) = id else {
            return Err(wrong());
        };
        match self.tuples[id][..] {
            [
                Value::Text("storage"),
                Value::Class(Class::Storage(dtype)),
                Value::Text(key),
                Value::Text(_),
                length,
            ] => Ok(Value::Storage(Storage {
                dtype,
                key,
                length: size(length)?,
            })),
            _ => Err(wrong()),
        }
    }
}

fn class<'a>(module: &str, name: &str) -> Result<Value<'a>, ImportError> {
    let class = classes::find(module, name).ok_or_else(|| refused(module, name))?;
    Ok(Value::Class(class))
}

fn refused(module: &str, name: &str) -> ImportError {
    ImportError::Refused(format!("{}.{}", shown(module), shown(name)))
}

fn size(value: Value<'_>) -> Result<usize, ImportError> {
    let wrong = || damaged("a size, stride or offset in its pickle is negative or no number");
    match value {
        Value::Int(value) => usize::try_from(value).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

/// A little-endian integer in two's complement.
fn integer<'a>(bytes: &[u8]) -> Value<'a> {
    let negative = bytes.last().is_some_and(|&last| last & 0x80 != 0);
    let mut all = [if negative { 0xff } else { 0 }; 8];
    match all.get_mut(..bytes.len()) {
        Some(low) => low.copy_from_slice(bytes),
        None => return Value::Inert,
    }
    Value::Int(i64::from_le_bytes(all))
}

/// The instructions that are left.
#[derive(Debug)]
struct Code<'a>(&'a [u8]);

impl<'a> Code<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], ImportError> {
        let (bytes, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| damaged("its pickle ends early"))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn long(&mut self, length: u64) -> Result<&'a [u8], ImportError> {
        // What does not fit is longer than the file as well.
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ImportError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u8(&mut self) -> Result<u8, ImportError> {
        self.array().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, ImportError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, ImportError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Text up to the end of the line.
    fn line(&mut self) -> Result<&'a str, ImportError> {
        let end = self.0.iter().position(|&byte| byte == b'\n');
        let end = end.ok_or_else(|| damaged("its pickle ends early"))?;
        let line = self.take(end + 1)?;
        let text = std::str::from_utf8(&line[..end]);
        text.map_err(|_| damaged("a name in its pickle is no text"))
    }
}

fn damaged(what: impl Into<String>) -> ImportError {
    ImportError::Damaged(what.into())
}
