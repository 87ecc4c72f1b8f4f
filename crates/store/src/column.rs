//! How typed values lie in columns: ids and labels as text, so that `sqlite3` on the file reads like the API.
//!
//! Only this room's noun modules use it. A value that does not parse is an error, never a default.

use crate::{Conn, Stored};
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

/// The same for a column that may be NULL.
pub(crate) fn text_opt<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let index = row.as_ref().column_index(column)?;
    if row.get_ref(index)? == rusqlite::types::ValueRef::Null {
        return Ok(None);
    }
    text(row, column).map(Some)
}

fn failure(index: usize, source: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, source)
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

/// The rows of many things at once: `{}` in the query stands for the members of an `IN (...)`. At most 32,766, which is what
/// SQLite takes.
pub(crate) fn rows_of<I: std::fmt::Display, T>(
    conn: &Conn,
    query: &str,
    ids: &[I],
    row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Stored<Vec<T>> {
    let marks: Vec<_> = (1..=ids.len()).map(|n| format!("?{n}")).collect();
    let mut statement = conn.sql().prepare(&query.replace("{}", &marks.join(", ")))?;
    let ids = rusqlite::params_from_iter(ids.iter().map(ToString::to_string));
    Ok(statement.query_map(ids, row)?.collect::<Result<_, _>>()?)
}

/// Labels as the members of an `IN (...)`. They are words of the program, never of a client, so they stand in the text.
pub(crate) fn listed(labels: impl IntoIterator<Item = &'static str>) -> String {
    let quoted: Vec<_> = labels.into_iter().map(|label| format!("'{label}'")).collect();
    quoted.join(", ")
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
