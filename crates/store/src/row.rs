//! Small helpers that every noun shares: ids and labels as columns.
//!
//! A column that does not parse is a damaged database, told as such, never a panic.

use rusqlite::{
    Row,
    types::{FromSqlError, Type},
};
use std::str::FromStr;

/// Reads a text column into a type that parses it.
pub(crate) fn parsed<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    parse(&text)
}

/// The same for a column that may be NULL.
pub(crate) fn parsed_opt<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    row.get::<_, Option<String>>(column)?.map(|text| parse(&text)).transpose()
}

fn parse<T>(text: &str) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|error: T::Err| {
        rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(FromSqlError::Other(Box::new(error))))
    })
}

/// Reads an integer column that holds a quantity (bytes, a count).
pub(crate) fn quantity(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_negative| rusqlite::Error::IntegralValueOutOfRange(0, value))
}

/// A quantity as SQLite stores it; beyond 2^63 - 1 it is cut there (no disk is that large).
pub(crate) fn stored(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// `GLOB`-free pattern for `LIKE ... ESCAPE '\'` from a search glob in which only `*` is special.
pub(crate) fn like(glob: &str) -> String {
    let mut pattern = String::with_capacity(glob.len() + 8);
    for c in glob.chars() {
        match c {
            '*' => pattern.push('%'),
            '%' | '_' | '\\' => {
                pattern.push('\\');
                pattern.push(c);
            }
            other => pattern.push(other),
        }
    }
    pattern
}
