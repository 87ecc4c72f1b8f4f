//! How typed values lie in columns: ids and labels as text, so that `sqlite3` on the file reads like the API.
//!
//! Only this room's noun modules use it. A value that does not parse is an error, never a default.

use rusqlite::{Row, types::Type};
use std::str::FromStr;

/// Reads a text column as the id or label it must hold.
pub(crate) fn text<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let index = row.as_ref().column_index(column)?;
    let value = row
        .get_ref(index)?
        .as_str()
        .map_err(|bad| failure(index, Box::new(bad)))?;
    value.parse().map_err(|bad| failure(index, Box::new(bad)))
}

fn failure(index: usize, source: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, source)
}
