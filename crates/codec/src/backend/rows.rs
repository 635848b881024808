//! RowDescription and DataRow.

use crate::body::{Body, BodyError};

/// A column of the rows that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// OID of its type.
    pub type_oid: u32,
    /// The type's modifier, such as the length of a `varchar`; -1 for none.
    pub type_modifier: i32,
}

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

    /// The columns, in their order.
    #[must_use]
    pub fn columns(&self) -> Columns<'a> {
        Columns(Body::new(self.columns))
    }
}

/// Bytes of the table and the number of a column within it.
const ORIGIN: usize = 4 + 2;

/// Bytes of the size of a type, and of a format.
const SIZE: usize = 2;
const FORMAT: usize = 2;

fn take_column<'a>(body: &mut Body<'a>) -> Result<Column<'a>, BodyError> {
    let name = body.take_cstr()?;
    body.take_bytes(ORIGIN)?;
    let type_oid = body.take_u32()?;
    body.take_bytes(SIZE)?;
    let type_modifier = body.take_i32()?;
    body.take_bytes(FORMAT)?;
    Ok(Column { name, type_oid, type_modifier })
}

/// The columns of a row.
#[derive(Clone, Debug)]
pub struct Columns<'a>(Body<'a>);

impl<'a> Iterator for Columns<'a> {
    type Item = Column<'a>;

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
