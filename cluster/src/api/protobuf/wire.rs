//! The protobuf wire format: fields of a number and a payload.

/// The value of a field, as far as the wire format describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Payload<'a> {
    Integer(i64),
    /// A text, bytes, a message.
    Bytes(&'a [u8]),
    /// Of a type that the API does not use.
    Other,
}

/// The fields of a message in the order in which they stand; ends with the first error.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Fields { rest: message }
    }

    fn field(&mut self) -> Result<(u64, Payload<'a>), String> {
        let tag = varint(&mut self.rest)?;
        let payload = match tag & 7 {
            0 => Payload::Integer(varint(&mut self.rest)?.cast_signed()),
            1 => take(&mut self.rest, 8).map(|_| Payload::Other)?,
            2 => {
                let length = usize::try_from(varint(&mut self.rest)?).map_err(|_| CUT.to_owned())?;
                Payload::Bytes(take(&mut self.rest, length)?)
            }
            5 => take(&mut self.rest, 4).map(|_| Payload::Other)?,
            other => return Err(format!("the wire type {other} is not known")),
        };
        Ok((tag >> 3, payload))
    }
}

const CUT: &str = "the message is cut off";

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Payload<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Numbers one after another.
pub(super) fn packed(mut bytes: &[u8]) -> Result<Vec<i64>, String> {
    let mut numbers = Vec::new();
    while !bytes.is_empty() {
        numbers.push(varint(&mut bytes)?.cast_signed());
    }
    Ok(numbers)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(CUT)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number is too long".to_owned())
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(CUT)?;
    *bytes = rest;
    Ok(taken)
}
