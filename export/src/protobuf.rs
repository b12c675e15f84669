//! Protobuf messages, written: varints, fixed and length-delimited fields (protobuf.dev, "Encoding").

/// A message under construction.
#[derive(Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// The encoded message.
    pub fn bytes(self) -> Vec<u8> {
        self.0
    }

    /// An integer, an enum or a flag.
    pub fn int(mut self, field: u32, value: i64) -> Self {
        self.key(field, 0);
        self.varint(value as u64);
        self
    }

    /// An f32.
    pub fn float(mut self, field: u32, value: f32) -> Self {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A string or bytes.
    pub fn blob(mut self, field: u32, bytes: &[u8]) -> Self {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    /// A message in this one.
    pub fn message(self, field: u32, message: Message) -> Self {
        self.blob(field, &message.0)
    }

    /// A field for each value.
    pub fn each<T>(self, values: &[T], add: impl Fn(Self, &T) -> Self) -> Self {
        values.iter().fold(self, add)
    }

    fn key(&mut self, field: u32, kind: u32) {
        self.varint(u64::from(field << 3 | kind));
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the encoding guide, and a negative number.
    #[test]
    fn encoding_guide_examples() {
        assert_eq!(Message::default().int(1, 150).bytes(), [0x08, 0x96, 0x01]);
        assert_eq!(
            Message::default().blob(2, b"testing").bytes(),
            *b"\x12\x07testing"
        );
        let minus_two = Message::default().int(1, -2).bytes();
        assert_eq!(
            minus_two[1..],
            [0xfe, 255, 255, 255, 255, 255, 255, 255, 255, 1]
        );
    }
}
