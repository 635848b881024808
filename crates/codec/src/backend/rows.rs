//! RowDescription and DataRow.

use crate::body::{Body, BodyError};

/// Bytes of a column's description behind its name: table, number, type, size, modifier, format.
const COLUMN_REST: usize = 4 + 2 + 4 + 2 + 4 + 2;

/// The columns of the rows that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowDescription<'a> {
    columns: &'a [u8],
}

impl<'a> RowDescription<'a> {
    /// # Errors
    /// When the body is not a count and as many columns.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut body = Body::new(body);
        let count = body.take_i16()?;
        if count < 0 {
            return Err(BodyError::NegativeCount);
        }
        let columns = body.rest();
        for _ in 0..count {
            take_column(&mut body)?;
        }
        body.finish()?;
        Ok(Self { columns })
    }

    /// The names of the columns.
    #[must_use]
    pub fn names(&self) -> Columns<'a> {
        Columns(Body::new(self.columns))
    }
}

fn take_column<'a>(body: &mut Body<'a>) -> Result<&'a [u8], BodyError> {
    let name = body.take_cstr()?;
    body.take_bytes(COLUMN_REST)?;
    Ok(name)
}

/// The names of a row's columns.
#[derive(Clone, Debug)]
pub struct Columns<'a>(Body<'a>);

impl<'a> Iterator for Columns<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        take_column(&mut self.0).ok()
    }
}

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRow<'a> {
    values: &'a [u8],
}

impl<'a> DataRow<'a> {
    /// # Errors
    /// When the body is not a count and as many values.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut body = Body::new(body);
        let count = body.take_i16()?;
        if count < 0 {
            return Err(BodyError::NegativeCount);
        }
        let values = body.rest();
        for _ in 0..count {
            body.take_value()?;
        }
        body.finish()?;
        Ok(Self { values })
    }

    /// The values of the columns.
    #[must_use]
    pub fn values(&self) -> Values<'a> {
        Values(Body::new(self.values))
    }
}

/// The values of a row's columns; `None` is NULL.
#[derive(Clone, Debug)]
pub struct Values<'a>(Body<'a>);

impl<'a> Iterator for Values<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take_value().ok()
    }
}
