//! A value as written, before its key says what it should be.

use std::borrow::Cow;

/// A value as written in the file, the environment or a flag.
#[derive(Clone, Debug, PartialEq)]
pub enum RawValue {
    /// A quoted text of the file.
    Text(String),
    /// Text of the environment or a flag, where nothing is quoted: a number may be meant.
    Bare(String),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A list of texts.
    List(Vec<String>),
}

impl RawValue {
    /// The value as text; `None` for what was not written as text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            RawValue::Text(text) | RawValue::Bare(text) => Some(text),
            RawValue::Integer(_) | RawValue::Float(_) | RawValue::Boolean(_) | RawValue::List(_) => None,
        }
    }

    /// The value as a whole number, when it is one.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            RawValue::Integer(number) => Some(*number),
            RawValue::Bare(text) => text.trim().parse().ok(),
            RawValue::Text(_) | RawValue::Float(_) | RawValue::Boolean(_) | RawValue::List(_) => None,
        }
    }

    /// The value as a number, when it is one.
    #[must_use]
    pub fn as_float(&self) -> Option<f64> {
        match self {
            RawValue::Float(number) => Some(*number),
            #[expect(clippy::cast_precision_loss, reason = "keys of this kind lie between 0 and 1")]
            RawValue::Integer(number) => Some(*number as f64),
            RawValue::Bare(text) => text.trim().parse().ok(),
            RawValue::Text(_) | RawValue::Boolean(_) | RawValue::List(_) => None,
        }
    }

    /// How the value is shown in a message.
    #[must_use]
    pub fn shown(&self) -> Cow<'_, str> {
        match self {
            RawValue::Text(text) | RawValue::Bare(text) => Cow::Owned(format!("{text:?}")),
            RawValue::Integer(number) => Cow::Owned(number.to_string()),
            RawValue::Float(number) => Cow::Owned(number.to_string()),
            RawValue::Boolean(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
            RawValue::List(texts) => Cow::Owned(format!("{texts:?}")),
        }
    }
}
